"""Photos in uncompressed tar archives, the shards of WebDataset, read where they lie.

Nothing is ever unpacked: of an archive only the bytes of its regular members are read, so that a member that is named
`../../x`, or a link to a file of this machine, leads nowhere.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 2**20


def archive_of(name: str) -> str:
    """`shards/000.tar` of `shards/000.tar/0001.jpg`: up to the first `.tar/`, as no folder above it is named so."""
    return name[: name.index(".tar/") + len(".tar")]


def read_member(path: Path, offset: int, size: int) -> bytes:
    """`size` bytes from `offset` on. Raises OSError when the archive ends before."""
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        content = file.read(size)
    if len(content) != size:
        raise OSError(f"truncated: {path} ends {size - len(content)} bytes before the photo at byte {offset} does")
    return content


class DamagedArchive(ValueError):
    """An archive that can't be read to its end; the message says where it breaks off."""


def members(path: Path) -> Iterator[tarfile.TarInfo]:
    """The regular files of an archive in their order; links, folders and sparse files are left out.

    Raises:
        DamagedArchive: after all members that could be found.
        OSError: the archive can't be read.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or all of them would be kept to the end
                if member.isreg() and not member.issparse():
                    yield member
            end = archive.offset
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise DamagedArchive(f"it is cut off, or no uncompressed tar archive ({error})") from error
    # At a damaged header, a hole, and where another archive was appended, `tarfile` stops as if it were the end.
    with path.open("rb") as file:
        file.seek(end)
        while block := file.read(_BLOCK):
            if block.strip(b"\0"):
                raise DamagedArchive(
                    f"it seems to end at byte {end} of {path.stat().st_size}, but it is not empty there"
                )
