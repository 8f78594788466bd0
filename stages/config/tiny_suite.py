"""The rehearsal of a suite: the same protocols on generated scenes, in seconds."""

from __future__ import annotations

from typing import Any

from stages.config.reading import merged

_CLASSIFIER = {"batch_size": 8, "log_every": 2, "resize": 40, "crop": 32, "epochs": "4 steps", "drops": ["3 steps"]}
_SMALL: dict[str, dict[str, Any]] = {
    "features": {"resize": 40, "crop": 32},
    "linear_svm": {"costs": [0.1, 1.0]},
    "low_shot_svm": {"shots": [1, 2], "costs": [0.1, 1.0]},
    "knn": {"neighbors": [5]},
    "linear_probe": _CLASSIFIER,
    "fine_tuning": _CLASSIFIER | {"labels": 1.0},
    "segmentation": {"crop": 65, "short_side": None, "training": "4 steps", "batch_size": 2},
    # At 48 pixels a pyramid's last maps have one cell, where FCOS' gradients in bf16 are not finite on a CPU.
    "detection": {
        "precision": "fp32",
        "training": "2 steps",
        "warmup": "1 step",
        "batch_size": 2,
        "short_sides": [48],
        "longest": 64,
        "test_short_side": 48,
        "precise_batches": 1,
        "regions": 4,
        "proposals": 4,
        "detections": 3,
    },
    "discovery": {"clusters": [2, 4], "cells": 4},
    "pair_purity": {"neighbors": 3, "size": 32},
    "retrieval_map": {"object_size": 32},
    "activation_maps": {"number": 2, "size": 64},
    "label_free": {"view_size": 32, "max_images": 16, "neighbors": 3},
    "regions": {"min_side": 16, "max_boxes": 8},
}
# Photos of the libraries alone, so that a rehearsal needs no extra.
_SCENES = {"photo_side": 320, "interiors": False, "train_images": 24, "test_images": 16, "scene_side": 96}


def shrunk(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree of a suite at toy size. What chooses a method stays, so that the rehearsal runs that code; depth, which
    scenes don't have, is left out.

    A rehearsal needs no files: the data are generated scenes, whose masks are the classes of their pixels.
    """
    tree = {name: value for name, value in tree.items() if name not in ("dataset", "class_maps", "published")}
    for section, fields in _SMALL.items():
        if isinstance(tree.get(section), dict) or section == "features":
            tree[section] = merged(tree.get(section) or {}, fields)
    for part in ("train", "test"):
        if part == "test" or part in tree:
            tree[part] = {"format": "scenes", "split": part}
    detection = tree.get("detection")
    if isinstance(detection, dict):
        detection.pop("annotations", None)
        if detection.get("metric") == "lvis":  # the scenes have no federated labels
            detection["metric"] = "coco"
    tree.pop("depth", None)  # nor has anybody measured how far their objects are
    return tree | {"generated": _SCENES}
