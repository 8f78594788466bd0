"""The rehearsal of a configuration: the same steps on generated scenes with a small network."""

from __future__ import annotations

from typing import Any

from stages.config.tree import Config

_HEADS = {"projector_hidden": 64, "projector_out": 32, "warmup": "2 steps"}
_PREDICTING = _HEADS | {"predictor_hidden": 64}
_MOMENTUM = _HEADS | {"queue_size": 64, "batch_norm_groups": 2}
_IMAGE_LEVEL = {"byol": _PREDICTING | {"small_size": 32}, "simclr": _HEADS, "moco": _MOMENTUM, "densecl": _MOMENTUM}
_SMALL: dict[str, dict[str, Any]] = {
    # Photos of the libraries alone, so that a rehearsal needs no extra.
    "generated": {"photo_side": 320, "interiors": False, "train_images": 24, "test_images": 16, "scene_side": 96},
    "image_pretraining": {"backbone": "resnet10t", "size": 32, "epochs": "8 steps", "batch_size": 8, "log_every": 2,
                          **_IMAGE_LEVEL},
    "retrieval": {"resize": 40, "crop": 32, "neighbors": 3},
    "regions": {"min_side": 16, "max_boxes": 8},
    "roi_features": {"size": 32, "map_side": 96},
    "correspondence": {"gallery_images": 6},
    # At 64 pixels the network's map has more than one cell for regions to divide.
    "object_pretraining": {"epochs": "6 steps", "batch_size": 8, "log_every": 2, "size": 64,
                           "orl": _PREDICTING | {"global_size": 32, "patch_size": 32},
                           "detcon_s": _HEADS, "detcon_b": _PREDICTING, **_IMAGE_LEVEL,
                           "crops": {"min_box": 32, "shift": [8, 10]}},
    "evaluation": {"train": {"format": "scenes", "split": "train"}, "test": {"format": "scenes", "split": "test"},
                   "resize": 40, "crop": 32, "object_size": 32, "view_size": 32, "costs": [0.1, 1.0]},
}  # fmt: skip


def shrunk(config: Config) -> Config:
    """`config` at toy size. What chooses a method or a variant stays as it is, so that the rehearsal runs that code.

    But a rehearsal needs no files: those that the configuration names may not be there, and are of other photos than
    the scenes. Boxes of BING come from Edge Boxes instead, which ranks boxes by their objectness too and finds edges
    without a model; masks of other programs are the scenes' own objects, which may overlap as these do; and what files
    of ORL's official code stand for is made.
    """
    tree = config.model_dump(mode="json")
    tree["dataset"] = {"format": "scenes", "split": "train"}
    for section, fields in _SMALL.items():
        for name, value in fields.items():
            known = tree[section].get(name)
            tree[section][name] = known | value if isinstance(known, dict) and isinstance(value, dict) else value
    _without_files(tree)
    # Scenes have a twentieth of the pixels of a photo: at its scales most of them would be a single region.
    segmented = tree["masks"]["felzenszwalb"]
    segmented["scales"] = [max(1, scale // 20) for scale in segmented["scales"]]
    orl = tree["object_pretraining"]["orl"]
    if orl["neighbors"] is not None:
        orl["neighbors"] = min(orl["neighbors"], tree["retrieval"]["neighbors"])
    return Config.model_validate(tree)


def _without_files(tree: dict[str, Any]) -> None:
    if tree["regions"]["proposals"] == "bing":
        tree["regions"]["proposals"] = "edge_boxes"
    tree["regions"]["edge_boxes"]["model"] = None
    if tree["masks"]["method"] == "files":
        tree["masks"]["method"] = "ground_truth"
    tree["exchange"] = {}
    for stage in ("image_pretraining", "object_pretraining"):
        if tree[stage]["probe"] is not None:
            tree[stage]["probe"] |= {"data": {"format": "scenes", "split": "test"}, "every": "4 steps"}
