"""BING (Cheng et al. 2014, binarized normed gradients) as OpenCV has it, with its models trained on VOC 2007.

A linear classifier of 8 x 8 gradients: the photo is resized so that boxes of one of 36 sizes become so small. Used by
object-aware cropping (Mishra et al. 2021). Not label-free: its training has seen boxes.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from stages.correspondence.opencv_contrib import contrib
from stages.correspondence.proposals import Propose
from stages.correspondence.proposals.ranking import ranked

_COLOURS, _PARTS = ("MAXBGR", "HSV", "I"), ("wS1", "wS2", "idx")
MODEL_FILES = tuple(f"ObjNessB2W8{colours}.{part}.yml.gz" for colours in _COLOURS for part in _PARTS)
_SMALLEST_SIDE = 8  # pixels; there are no boxes to be found in smaller photos


def make(*, models: Path | None) -> Propose:
    """All boxes of BING's three colour spaces, some 5,000 a photo.

    The score is minus OpenCV's value, which is a rank: 1, 3 or 5 times the place of a box among those of its colour
    space, so that the most trusted space, the maximum over RGB, comes first.

    Args:
        models: the folder of MODEL_FILES.

    Raises:
        ValueError: no folder is given.
        FileNotFoundError: it lacks some of the files.
    """
    folder = _checked(models)

    def propose(photo: np.ndarray, image: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if min(photo.shape[:2]) < _SMALLEST_SIDE:
            return ranked([], [])
        bing = contrib("saliency").ObjectnessBING.create()
        bing.setTrainingPath(str(folder))
        with tempfile.TemporaryDirectory(prefix="bing-") as results, _silence():
            bing.setBBResDir(results)  # OpenCV writes its boxes there, whether they are wanted or not
            _, found = bing.computeSaliency(cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
        if found is None:
            return ranked([], [])
        # x and y of the first and last pixel, counted from 1 as in VOC.
        boxes = found.reshape(-1, 4) - np.array([1, 1, 0, 0])
        return ranked(boxes, -np.array(bing.getobjectnessValues()))

    return propose


def _checked(models: Path | None) -> Path:
    source = (
        f"It needs the nine files {', '.join(MODEL_FILES)}. They come with the sources of opencv_contrib, in "
        "modules/saliency/samples/ObjectnessTrainedModel (https://github.com/opencv/opencv_contrib)."
    )
    if models is None:
        raise ValueError(f"regions.proposals=bing needs its models: set regions.bing.models to their folder. {source}")
    missing = [name for name in MODEL_FILES if not (models / name).is_file()]
    if missing:
        raise FileNotFoundError(f"regions.bing.models={models} lacks {', '.join(missing)}. {source}")
    return models.resolve()


@contextmanager
def _silence() -> Iterator[None]:
    """Drops what C code prints on standard output: three lines a photo, which would break into a step's messages."""
    c_library = ctypes.CDLL(None)
    sys.stdout.flush()
    c_library.fflush(None)
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
        c_library.fflush(None)
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
