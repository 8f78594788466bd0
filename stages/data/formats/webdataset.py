"""Format `webdataset`: photos in tar archives ("shards"), as the library WebDataset reads them; with their index, any
photo is reached at once. Only uncompressed archives have places that can be sought."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

from stages.data.formats.folder import files_below, in_order
from stages.data.formats.listing import Listing
from stages.data.texts import Texts

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")


def read(root: Path, pattern: str | None) -> Listing:
    """The archives in `root` and below, sorted by path, and in them the members with an image suffix in their order.

    What belongs to a photo has its name up to the first dot (WebDataset's rule); of that `.cls` is read, the class of
    the photo as a whole (a number or a word). Everything else in an archive is passed over.

    Args:
        pattern: takes only archives whose path from `root` fits, as in a shell: `train-*.tar`; None for all.

    Raises:
        ValueError: there are compressed archives among them, or a folder whose name ends in `.tar`.
    """
    ignored: Counter[str] = Counter()
    suffixes = {".tar", *(f".{name.rpartition('.')[2]}" for name in _COMPRESSED)}
    found = in_order(files_below(root, suffixes, ignored))
    chosen = [path for path in found if pattern is None or fnmatchcase(path, pattern)]
    compressed = [path for path in chosen if path.lower().endswith(_COMPRESSED)]
    if compressed:
        raise ValueError(
            f"{len(compressed)} of the shards in dataset.root={root} are compressed, {compressed[0]} for one, and a "
            "compressed archive can only be read from its start. Unpack the compression (`gunzip *.tar.gz`; photos "
            "hardly grow), or choose others by dataset.split, such as '*.tar'."
        )
    archives = [path for path in chosen if path.endswith(".tar")]
    for path in archives:
        if ".tar/" in path:
            folder = path[: path.index(".tar/") + 4]
            raise ValueError(f"{root}/{folder} is a folder that is named like an archive. Rename it.")
    return Listing(Texts.of(archives), ignored=ignored, archives=True)
