from __future__ import annotations

import numpy as np
from PIL import Image

from stages.evaluation.tasks.dense.examples import class_colours, depth_colours, save_examples
from stages.evaluation.tasks.dense.label_styles import IGNORED


def test_colours_of_classes_are_pascals():
    colours = class_colours(np.array([[0, 1, 2], [15, 20, IGNORED]]), 21)
    expected = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 128, 128], [0, 64, 128], [224, 224, 192]]
    assert colours.reshape(-1, 3).tolist() == expected


def test_many_classes_have_as_many_colours():
    assert len(np.unique(class_colours(np.arange(1204)[None], 1204)[0], axis=0)) == 1204


def test_colours_of_depth():
    near, far, beyond, unknown = depth_colours(np.array([[0.1, 5.0, 9.0, 0.0]]), 5.0)[0].astype(int)
    assert near[0] > far[0]  # yellow against blue
    assert far.tolist() == beyond.tolist()
    assert unknown.tolist() == [255, 255, 255]


def test_a_row_a_photo(tmp_path):
    small, large = np.full((20, 30, 3), 9, np.uint8), np.full((900, 400, 3), 9, np.uint8)
    save_examples(
        [(small, small, small), (large, large, large)], ("photo", "labelled", "predicted"), tmp_path / "e.png"
    )
    with Image.open(tmp_path / "e.png") as sheet:
        dark = (np.asarray(sheet) == 9).all(axis=2)
    assert dark.sum() == 3 * (240 * 160 + 80 * 180)
