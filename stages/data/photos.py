"""Opening the photos of a catalog to draw views of them."""

from __future__ import annotations

from PIL import Image

from stages.data.catalog import Catalog
from stages.data.copies import Copies
from stages.data.render import Photo
from stages.data.unreadable import UnreadablePhoto, check_size, reading


class Photos:
    """Opens photos of a catalog, or their copies. Pickles as paths: a worker maps the same files and reads no table."""

    def __init__(self, catalog: Catalog, copies: Copies | None = None) -> None:
        self._catalog, self._copies = catalog, copies
        if copies is not None and len(copies) != len(catalog):
            raise ValueError(
                f"{copies.directory} holds {len(copies)} copies for the {len(catalog)} photos of "
                f"{catalog.directory}: they are not of one run. Run the steps catalog and copies again, in this order."
            )

    def __len__(self) -> int:
        return len(self._catalog)

    def open(self, image: int, reduction: int = 1) -> Photo:
        """The upright photo to draw views from.

        Args:
            reduction: 1, 2, 4 or 8, asks for ceil(side / reduction) pixels a side, see `Catalog.pixels`. Where there
                are copies, the copy comes whatever is asked for.

        Raises:
            UnreadablePhoto: it is gone, broken or of another size than the catalog says.
        """
        width, height = self._catalog.sizes[image].tolist()
        if self._copies is not None:
            try:
                pixels = self._copies.pixels(image)
            except Exception as error:  # a damaged file may raise nearly anything inside the decoder
                path = self._catalog.place(image)
                raise UnreadablePhoto(image, path, f"its copy in {self._copies.directory}: {error}") from error
            return Photo(pixels, scale_x=pixels.shape[1] / width, scale_y=pixels.shape[0] / height)
        with reading(self._catalog, image):
            pixels = self._catalog.pixels(image, reduction)
        promised = -(-width // reduction), -(-height // reduction)
        check_size(self._catalog, image, (pixels.shape[1], pixels.shape[0]), promised)
        return Photo(pixels, scale_x=1 / reduction, scale_y=1 / reduction)

    def decode(self, image: int) -> Image.Image:
        """The whole upright RGB photo, never a copy. Raises UnreadablePhoto as `open` does."""
        with reading(self._catalog, image):
            photo = self._catalog.decode(image)
        check_size(self._catalog, image, photo.size, tuple(self._catalog.sizes[image].tolist()))
        return photo
