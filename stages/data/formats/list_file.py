"""Format `list_file`: a text file that names the photos. No labels."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from stages.data.formats.listing import Listing, inside_root
from stages.data.texts import Texts


def read(root: Path, list_file: Path) -> Listing:
    """One path a line, relative to `root`, in the order of the file; repeated ones count once.

    Blank lines and lines that begin with `#` are skipped. A path with spaces needs no quotes.

    Raises:
        ValueError: a path leads out of `root`, or the file is not text in UTF-8.
    """
    try:
        with list_file.open(encoding="utf-8-sig") as lines:
            named = Texts.of(inside_root(line, root, list_file) for line in map(str.strip, lines) if _names(line))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{list_file} is not text in UTF-8 ({error}). Pass a text file with one path a line."
        ) from error
    return Listing(Texts.from_arrow(pc.unique(named.arrow())))


def _names(line: str) -> bool:
    return bool(line) and not line.startswith("#")
