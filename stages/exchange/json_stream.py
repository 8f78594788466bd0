"""JSON files that are larger than memory: read an item at a time, written an item at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

import ijson

_CHUNK = 2**20


def items(path: Path, place: str) -> Generator[Any, None, None]:
    """The items of the list at `place`, such as "pseudo_annotations.bbox", as they come.

    The file is read to its end, so that one which was cut off does not pass for whole.

    Raises:
        ValueError: the file is not JSON, or cut off. OSError: it cannot be read.
    """
    yield from _values(path, f"{place}.item")


def first(path: Path, place: str) -> Any:
    """The value at `place`, None where there is none. Reads no further than that. Raises as `items` does."""
    with closing(_values(path, place)) as values:
        return next(values, None)


def parallel(path: Path, *places: str) -> Generator[tuple[Any, ...], None, None]:
    """The items of several lists of equal length, each read from the file on its own, so that none is held.

    Raises:
        ValueError: as `items` does, or the lists differ in length.
    """
    streams = [items(path, place) for place in places]
    try:
        yield from zip(*streams, strict=True)
    except ValueError as error:
        if "zip()" not in str(error):
            raise
        raise ValueError(f"{path}: the lists {', '.join(places)} differ in length. {_REMEDY}") from None
    finally:
        for stream in streams:
            stream.close()


_REMEDY = "Copy it again from where it was made, or make it again."


def _values(path: Path, prefix: str) -> Generator[Any, None, None]:
    try:
        with path.open("rb") as file:
            yield from ijson.items(file, prefix, buf_size=_CHUNK, use_float=True)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is not JSON, or is cut off ({reason}). {_REMEDY}") from None


def dump(path: Path, tree: Mapping[str, Any]) -> None:
    """Writes `tree` as JSON, whole or not at all. An iterator in it becomes a list, an item at a time."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            _dump(file, tree)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _dump(file: TextIO, value: Any) -> None:
    if isinstance(value, Mapping):
        file.write("{")
        for number, (name, item) in enumerate(value.items()):
            file.write(f"{', ' if number else ''}{json.dumps(name)}: ")
            _dump(file, item)
        file.write("}")
    elif isinstance(value, Iterator):
        _dump_list(file, value)
    else:
        file.write(json.dumps(value))


def _dump_list(file: TextIO, values: Iterable[Any]) -> None:
    file.write("[")
    for number, item in enumerate(values):
        file.write(f"{', ' if number else ''}{json.dumps(item)}")
    file.write("]")
