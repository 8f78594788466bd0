"""Photos that could be used when their catalog was made, and no longer can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from stages.data.catalog import Catalog
from stages.data.decode import Rejection


class Unreadable(NamedTuple):
    """Number of a photo, and why it cannot be used."""

    image: int
    reason: str


class UnreadablePhoto(RuntimeError):
    """A photo is gone, broken or of another size than its catalog says."""

    def __init__(self, image: int, path: str, reason: str) -> None:
        super().__init__(
            f"{path} could be used when the catalog was made, and no longer can: {reason}. "
            "Bring the file back, or run again: the catalog notices the change and leaves out what is unusable."
        )
        self.unreadable = Unreadable(image, reason)
        self._arguments = image, path, reason

    def __reduce__(self) -> tuple[type[UnreadablePhoto], tuple[int, str, str]]:
        return type(self), self._arguments  # an exception pickles as its message alone, from which it can't be made


@contextmanager
def reading(catalog: Catalog, image: int) -> Iterator[None]:
    """Whatever goes wrong in the `with` block is raised as UnreadablePhoto of `image`."""
    try:
        yield
    except Exception as error:  # a damaged file may raise nearly anything inside the decoders
        found = catalog.inspect(image)  # says it in words
        reason = found.reason if isinstance(found, Rejection) else f"{type(error).__name__}: {error}"
        raise UnreadablePhoto(image, catalog.place(image), reason) from error


def check_size(catalog: Catalog, image: int, found: tuple[int, int], promised: tuple[int, int]) -> None:
    """Raises UnreadablePhoto when two sizes (width, height) of `image`, in pixels, differ."""
    if found != promised:
        raise UnreadablePhoto(
            image, catalog.place(image), f"it has {found} pixels where the catalog promises {promised}"
        )
