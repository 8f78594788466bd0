"""Keys: equal content gives equal versions, any change gives another."""

from __future__ import annotations

import copy
import enum
import hashlib
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.store.key import Key

A, B = "a" * 12, "b" * 12

leaf = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
config = st.dictionaries(
    st.text(),
    st.recursive(leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)),
    max_size=4,
)


def version(config: dict[str, Any], **changes: Any) -> str:
    fields: dict[str, Any] = {"step": "retrieval", "step_version": 1, "config": config, "inputs": {}}
    return Key(**fields | changes).version


def test_the_version_is_the_digest_of_the_canonical_json() -> None:
    key = Key("retrieval", 2, {"neighbors": 10, "crop": [1.5, 2.0], "name": "é"}, {"encoder": A, "catalog": B})
    text = (
        '{"config":{"crop":[1.5,2],"name":"\\u00e9","neighbors":10},'
        '"inputs":{"catalog":"bbbbbbbbbbbb","encoder":"aaaaaaaaaaaa"},"step":"retrieval","step_version":2}'
    )
    assert key.version == hashlib.sha256(text.encode()).hexdigest()[:12]


@given(config)
def test_the_order_of_fields_does_not_matter(config: dict[str, Any]) -> None:
    def backwards(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: backwards(value[name]) for name in reversed(list(value))}
        return value

    assert version(config) == version(backwards(config))


@given(config, st.data())
def test_a_changed_leaf_changes_the_version(config: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(config)) if config else st.text())
    changed = copy.deepcopy(config) | {name: data.draw(leaf)}
    same = _spelled(config) == _spelled(changed)
    assert (version(config) == version(changed)) == same


def _spelled(value: Any) -> Any:
    """An independent statement of which values are the same: by type, with whole floats counted as integers."""
    if isinstance(value, dict):
        return "mapping", {name: _spelled(item) for name, item in value.items()}
    if isinstance(value, list):
        return "list", [_spelled(item) for item in value]
    if isinstance(value, float) and math.floor(value) == value:
        return "int", int(value)
    return type(value).__name__, value


@given(st.integers(-(2**53), 2**53))
def test_whole_floats_and_integers_are_the_same(number: int) -> None:
    assert version({"x": [number]}) == version({"x": [float(number)]})


def test_numbers_booleans_and_strings_differ() -> None:
    assert len({version({"x": value}) for value in (1, True, "1", None, [1], {"1": 1}, 1.5)}) == 7


def test_every_part_of_the_key_counts() -> None:
    versions = {
        version({}),
        version({}, step="regions"),
        version({}, step_version=2),
        version({}, inputs={"encoder": A}),
        version({}, inputs={"encoder": B}),
        version({}, inputs={"catalog": A}),
        version({}, inputs={"catalog": A, "encoder": A}),
    }
    assert len(versions) == 7


def test_a_later_change_of_the_callers_dictionary_does_not_reach_the_key() -> None:
    config = {"crops": {"large": 2}}
    key = Key("retrieval", 1, config, {})
    config["crops"]["large"] = 3
    assert key.config == {"crops": {"large": 2}}


def test_enumerations_of_strings_count_as_strings() -> None:
    class Mode(enum.StrEnum):
        fast = "fast"

    assert version({"mode": Mode.fast}) == version({"mode": "fast"})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.nan, "finite"),
        (math.inf, "finite"),
        (Path("/data"), "paths are not part of a key"),
        ({1, 2}, "a set"),
        (b"x", "a bytes"),
        ({1: 2}, "field names are strings"),
    ],
)
def test_other_values_are_refused_with_their_place(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        version({"deep": [{"field": value}]})
    assert "retrieval: config.deep[0].field" in str(error.value)


@pytest.mark.parametrize("step", ["", "Retrieval", "a/b", "..", "a b", "latest", "pinned", "a\n"])
def test_bad_step_names_are_refused(step: str) -> None:
    with pytest.raises(ValueError, match="step's name"):
        version({}, step=step)


@pytest.mark.parametrize(
    "inputs", [{"catalog": "../../../etc"}, {"catalog": "abc"}, {"../x": A}, {"catalog": A + "\n"}]
)
def test_bad_inputs_are_refused(inputs: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="12 hexadecimal digits"):
        version({}, inputs=inputs)
