"""Masks of photos: regions to learn from. Step `masks` makes them, one method a file; `Masks` reads them.

A method's module has `make(*, catalog, **options) -> layers, segment`: the names of the label maps that it makes of a
photo (none for masks that may overlap), and a function from a photo's number to its segmentation.
"""

from stages.correspondence.masks.step import run
from stages.data.masks.storage import Masks

__all__ = ["Masks", "run"]
