"""What is compared: the image-level methods, and each object-level one beside the base that it changes."""

from __future__ import annotations

from typing import NamedTuple


class Method(NamedTuple):
    """
    Attributes:
        title: for people.
        step: the step of the pipeline whose encoder is measured.
        overrides: of the configuration.
        base: the image-level method whose loss it has; None for one of these.
        regions: the steps whose regions it learns from, of which the report tells how well they cover the objects.
    """

    title: str
    step: str
    overrides: tuple[str, ...]
    base: str | None = None
    regions: str | None = None


def _image_level(title: str, method: str) -> Method:
    return Method(title, "image_pretraining", (f"image_pretraining.method={method}",))


def _object_level(title: str, method: str, base: str, regions: str, *overrides: str) -> Method:
    chosen = (f"image_pretraining.method={base}", f"object_pretraining.method={method}", *overrides)
    return Method(title, "object_pretraining", chosen, base, regions)


_CROPS = "object_pretraining.crops.mode=obj_obj_dilate"

METHODS = {
    "byol": _image_level("BYOL", "byol"),
    "simclr": _image_level("SimCLR", "simclr"),
    "moco": _image_level("MoCo v2", "moco"),
    "densecl": _image_level("DenseCL", "densecl"),
    "orl": _object_level("ORL", "orl", "byol", "regions"),
    "detcon_b": _object_level("DetCon_B", "detcon_b", "byol", "masks"),
    "detcon_s": _object_level("DetCon_S", "detcon_s", "simclr", "masks"),
    "crops_byol": _object_level("object crops, BYOL", "byol", "byol", "regions", _CROPS),
    "crops_moco": _object_level("object crops, MoCo v2", "moco", "moco", "regions", _CROPS),
}
