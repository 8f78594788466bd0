"""OpenCV's contrib modules, which are not in every package of OpenCV."""

from __future__ import annotations

from typing import Any

import cv2


def contrib(name: str) -> Any:
    """The module `cv2.NAME`.

    Raises:
        RuntimeError: OpenCV was installed without its contrib modules.
    """
    if not hasattr(cv2, name):
        raise RuntimeError(
            f"this OpenCV has no `{name}`, which is one of its contrib modules. Another OpenCV package hides them: "
            "pip uninstall opencv-python opencv-python-headless, then "
            "pip install --force-reinstall opencv-contrib-python-headless"
        )
    return getattr(cv2, name)
