"""Format `list_file`: a text file that names the photos. No labels."""

from __future__ import annotations

from pathlib import Path

from stages.data.formats.listing import Listing, inside_root


def read(root: Path, list_file: Path) -> Listing:
    """One path a line, relative to `root`, in the order of the file; repeated ones count once.

    Blank lines and lines that begin with `#` are skipped. A path with spaces needs no quotes.

    Raises:
        ValueError: a path leads out of `root`, or the file is not text in UTF-8.
    """
    try:
        lines = [line.strip() for line in list_file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{list_file} is not text in UTF-8 ({error}). Pass a text file with one path a line."
        ) from error
    named = (line for line in lines if line and not line.startswith("#"))
    return Listing(list(dict.fromkeys(inside_root(line, root, list_file) for line in named)))
