"""A training of a few seconds: settings that tests change one at a time."""

from __future__ import annotations

from typing import Any

ENCODER: dict[str, Any] = {
    "backbone": "test_resnet", "projector_hidden": 16, "projector_out": 8, "projector_layers": 2,
    "projector_norm": "hidden",
}  # fmt: skip

LOOP: dict[str, Any] = {
    "epochs": "6 steps", "warmup": "2 steps", "batch_size": 4, "accumulate": 1, "optimizer": "sgd", "base_lr": 3.2,
    "momentum": 0.9, "weight_decay": 1e-4, "schedule": "cosine", "clip_norm": None, "sync_batch_norm": True,
    "precision": "fp32", "compile": False, "renderer": "cpu", "interpolation": "bilinear", "scaled_decode": False,
    "log_every": 1, "checkpoint_minutes": 1000.0, "keep_every": None, "max_unreadable": 0.5,
}  # fmt: skip

PLACE: dict[str, Any] = {"seed": 0, "device": "cpu", "workers": 0}

# Arguments of the image-level methods at toy size.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "byol": {"predictor_hidden": 16, "tau": 0.9},
    "simclr": {"temperature": 0.1},
    "moco": {"temperature": 0.2, "queue_size": 10, "key_momentum": 0.9, "batch_norm_groups": 2},
    "densecl": {"temperature": 0.2, "queue_size": 10, "key_momentum": 0.9, "batch_norm_groups": 2,
                "dense_weight": 0.5, "dense_warmup_steps": 2},
}  # fmt: skip
