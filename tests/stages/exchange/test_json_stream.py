"""Reading and writing JSON an item at a time."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.exchange import json_stream

numbers = st.recursive(st.integers(-(2**40), 2**40) | st.text(max_size=5), lambda inner: st.lists(inner, max_size=4))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.lists(numbers, max_size=6), second=st.lists(numbers, max_size=6))
def test_what_was_streamed_out_is_streamed_in(tmp_path: Path, first: list[object], second: list[object]):
    path = tmp_path / "file.json"
    json_stream.dump(path, {"info": {"k": 2}, "a": {"first": iter(first), "second": iter(second)}})
    assert json.loads(path.read_text()) == {"info": {"k": 2}, "a": {"first": first, "second": second}}
    assert list(json_stream.items(path, "a.first")) == first
    assert json_stream.first(path, "info") == {"k": 2}
    assert json_stream.first(path, "nothing") is None
    if len(first) == len(second):
        assert list(json_stream.parallel(path, "a.first", "a.second")) == list(zip(first, second, strict=True))
    else:
        with pytest.raises(ValueError, match="differ in length"):
            list(json_stream.parallel(path, "a.first", "a.second"))


@pytest.mark.parametrize("text", ['{"a": [1, 2', '{"a": [1, 2]', "", '{"a": [1, 2]} x', '{"a": [1, \udcff]}'])
def test_a_file_that_is_cut_off_or_damaged_does_not_pass(tmp_path: Path, text: str):
    path = tmp_path / "file.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"file\.json is not JSON, or is cut off .*Copy it again"):
        list(json_stream.items(path, "a"))


def test_a_failed_dump_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "file.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        json_stream.dump(path, {"a": (1 // number for number in (1, 0))})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_memory_does_not_grow_with_the_file(tmp_path: Path):
    def peak(photos: int) -> int:
        path = tmp_path / "file.json"
        json_stream.dump(path, {"bbox": ([[1, 2, 300, 400]] * 200 for _ in range(photos))})
        tracemalloc.start()
        assert sum(1 for _ in json_stream.items(path, "bbox")) == photos
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(10)
    assert peak(600) < 1.2 * peak(300)
