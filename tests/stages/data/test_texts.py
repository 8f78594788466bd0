"""Millions of strings in two arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.data.texts import Texts

# Everything but lone surrogates, which UTF-8 cannot carry.
WORDS = st.lists(st.text(st.characters(exclude_categories=["Cs"])))


@given(WORDS, st.integers(0, 9), st.integers(0, 9))
def test_strings_come_back_whole_and_in_parts(words: list[str], first: int, length: int) -> None:
    texts = Texts.of(words)
    assert list(texts) == [texts[index] for index in range(len(texts))] == words
    assert list(Texts.from_arrow(texts.arrow())) == texts.arrow().to_pylist() == words
    if first + length <= len(words):
        part = texts.part(first, first + length)
        assert list(part) == part.arrow().to_pylist() == words[first : first + length]
        assert list(Texts.from_arrow(texts.arrow()[first : first + length])) == words[first : first + length]


def test_chunks_of_other_types_are_taken() -> None:
    assert list(Texts.from_arrow(pa.chunked_array([["a", "b"], [""], ["c"]]))) == ["a", "b", "", "c"]


def test_more_strings_than_a_block() -> None:
    words = [str(number) for number in range(20_000)]
    assert list(Texts.of(words)) == words


def test_memory_is_that_of_the_text() -> None:
    texts = Texts.of(f"{number:07d}.jpg" for number in range(1000))
    assert texts.text.nbytes == 11 * 1000
    assert texts.starts.dtype == np.int64


@pytest.mark.parametrize("index", [-1, 2])
def test_no_such_string(index: int) -> None:
    with pytest.raises(IndexError, match=f"no string {index}: there are 2"):
        Texts.of(["a", "b"])[index]
