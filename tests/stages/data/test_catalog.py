"""Reading photos through a catalog."""

from __future__ import annotations

import numpy as np
import pytest

from stages.data.catalog import Catalog


@pytest.mark.parametrize("reduction", [1, 4])
def test_pixels_are_those_of_decode(photo_catalog: Catalog, reduction: int):
    for image in range(len(photo_catalog)):
        pixels = photo_catalog.pixels(image, reduction)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, np.asarray(photo_catalog.decode(image, reduction)))
