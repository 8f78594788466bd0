"""The rehearsal of a configuration: the same steps on generated scenes with a small network."""

from __future__ import annotations

from typing import Any

from stages.config.tree import Config

_HEADS = {"projector_hidden": 64, "projector_out": 32, "warmup": "2 steps"}
_MOMENTUM = _HEADS | {"queue_size": 64, "batch_norm_groups": 2}
_SMALL: dict[str, dict[str, Any]] = {
    # Photos of the libraries alone, so that a rehearsal needs no extra.
    "generated": {"photo_side": 320, "interiors": False, "train_images": 24, "test_images": 16, "scene_side": 96},
    "image_pretraining": {"backbone": "resnet10t", "size": 32, "epochs": "8 steps", "batch_size": 8, "log_every": 2,
                          "byol": _HEADS | {"predictor_hidden": 64}, "simclr": _HEADS,
                          "moco": _MOMENTUM, "densecl": _MOMENTUM},
    "retrieval": {"resize": 40, "crop": 32, "neighbors": 3},
    "regions": {"min_side": 16, "max_boxes": 8},
    "roi_features": {"size": 32, "map_side": 96},
    "correspondence": {"gallery_images": 6},
    "object_pretraining": {"epochs": "6 steps", "batch_size": 8, "log_every": 2,
                           "orl": _HEADS | {"predictor_hidden": 64, "global_size": 32, "patch_size": 32}},
    "evaluation": {"train": {"format": "scenes", "split": "train"}, "test": {"format": "scenes", "split": "test"},
                   "resize": 40, "crop": 32, "object_size": 32, "view_size": 32, "costs": [0.1, 1.0]},
}  # fmt: skip


def shrunk(config: Config) -> Config:
    """`config` at toy size. What chooses a method or a variant stays as it is, so that the rehearsal runs that code."""
    tree = config.model_dump(mode="json")
    tree["dataset"] = {"format": "scenes", "split": "train"}
    for section, fields in _SMALL.items():
        for name, value in fields.items():
            known = tree[section].get(name)
            tree[section][name] = known | value if isinstance(known, dict) and isinstance(value, dict) else value
    return Config.model_validate(tree)
