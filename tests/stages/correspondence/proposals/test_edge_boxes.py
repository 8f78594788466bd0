"""Edge Boxes: OpenCV's boxes on the edges of a model, or on those of the gradient, thinned as OpenCV thins them."""

from __future__ import annotations

import gzip
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.correspondence.proposals import edge_boxes
from stages.data.catalog import Catalog

RNG = np.random.default_rng(0)
SETTINGS = {"alpha": 0.65, "beta": 0.75, "max_proposals": 300}


@pytest.fixture(scope="module")
def photo(photo_catalog: Catalog) -> np.ndarray:
    return np.asarray(photo_catalog.decode(4))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A forest of one tree: an edge goes through the middle of a patch if the gradient is large there.

    The true model is trained and has 1.5 million nodes; this one takes the same way through OpenCV.
    """
    patch, inner, stride = 32, 16, 2
    cells = (patch // stride) ** 2
    gradient = 3 * cells + cells // 2 + patch // stride // 2  # channel 3 (after the colours), in the patch's centre
    options = {
        "stride": stride, "shrinkNumber": stride, "patchSize": patch, "patchInnerSize": inner,
        "numberOfGradientOrientations": 4, "gradientSmoothingRadius": 0, "regFeatureSmoothingRadius": 2,
        "ssFeatureSmoothingRadius": 8, "gradientNormalizationRadius": 4, "selfsimilarityGridSize": 5,
        "numberOfTrees": 1, "numberOfTreesToEvaluate": 1,
    }  # fmt: skip
    edge = [y * inner + x + inner**2 * channel for channel in range(13) for y in (7, 8) for x in (7, 8)]
    arrays = {
        "childs": [2, 0, 0], "featureIds": [gradient, 0, 0], "thresholds": [0.8, 0.0, 0.0],
        "edgeBoundaries": [0, 0, 0, 2 * len(edge)], "edgeBins": edge + edge,
    }  # fmt: skip
    text = "%YAML:1.0\n---\noptions:\n" + "".join(f"   {name}: {value}\n" for name, value in options.items())
    text += "".join(f"{name}:\n   - [ {', '.join(map(str, values))} ]\n" for name, values in arrays.items())
    path = tmp_path_factory.mktemp("model") / "model.yml.gz"
    path.write_bytes(gzip.compress(text.encode()))
    return path


def opencv_boxes(strength: np.ndarray, direction: np.ndarray) -> set[tuple[int, ...]]:
    search = cv2.ximgproc.createEdgeBoxes(alpha=0.65, beta=0.75, maxBoxes=300)
    found, _ = search.getBoundingBoxes(strength, direction)
    return {(x, y, x + w, y + h) for x, y, w, h in np.asarray(found).tolist()}


def test_boxes_are_opencv_s_on_the_edges_of_a_model(photo: np.ndarray, model: Path) -> None:
    detector = cv2.ximgproc.createStructuredEdgeDetection(str(model))
    strength = detector.detectEdges(photo.astype(np.float32) / 255)
    direction = detector.computeOrientation(strength)
    expected = opencv_boxes(detector.edgesNms(strength, direction), direction)
    boxes, scores = edge_boxes.make(model=model, **SETTINGS)(photo, 0, RNG)
    assert len(expected) > 20
    assert {tuple(box) for box in boxes.tolist()} == expected
    assert 0 < scores[-1] < scores[0]


def test_boxes_are_opencv_s_on_the_edges_of_the_gradient(photo: np.ndarray) -> None:
    boxes, _ = edge_boxes.make(model=None, **SETTINGS)(photo, 0, RNG)
    assert {tuple(box) for box in boxes.tolist()} == opencv_boxes(*edge_boxes.gradient_edges(photo))


def test_edges_are_thinned_as_in_opencv(photo: np.ndarray, model: Path) -> None:
    detector = cv2.ximgproc.createStructuredEdgeDetection(str(model))
    strength = cv2.GaussianBlur(detector.detectEdges(photo.astype(np.float32) / 255), (0, 0), 1)
    direction = detector.computeOrientation(strength)
    expected, found = detector.edgesNms(strength, direction), edge_boxes.thinned(strength, direction)
    assert 0.05 < (expected > 0).mean() < 0.5
    # Where neighbours are nearly as strong, the rounding of interpolation decides.
    assert ((found > 0) == (expected > 0)).mean() > 0.999
    np.testing.assert_array_equal(found[found > 0], strength[found > 0])


@pytest.mark.parametrize("turns", [0, 1])
def test_direction_is_across_the_edge(turns: int) -> None:
    picture = np.zeros((60, 60, 3), np.uint8)
    picture[:, 30:] = (0, 200, 0)
    strength, direction = edge_boxes.gradient_edges(np.rot90(picture, turns).copy())
    rows, columns = np.nonzero(strength)
    across, along = (columns, rows) if turns == 0 else (rows, columns)
    assert np.abs(across - 29.5).max() <= 0.5
    assert len(np.unique(along)) == 60
    found = direction[rows, columns] + np.pi / 2 * (1 - turns)  # modulo pi, and so that neither case is near 0
    np.testing.assert_allclose(np.mod(found, np.pi), np.pi / 2, atol=1e-4)
    assert strength.max() == 1


def test_finds_a_thing_on_plain_ground() -> None:
    picture = np.full((150, 200, 3), 230, np.uint8)
    cv2.ellipse(picture, (120, 70), (40, 30), 0, 0, 360, (180, 30, 30), -1)
    boxes, _ = edge_boxes.make(model=None, **SETTINGS)(picture, 0, RNG)
    assert np.abs(boxes[:5] - [80, 40, 161, 101]).max(axis=1).min() <= 8


def test_the_most_proposals(photo: np.ndarray) -> None:
    boxes, _ = edge_boxes.make(model=None, **SETTINGS | {"max_proposals": 7})(photo, 0, RNG)
    assert len(boxes) == 7


def test_models_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model=.*nothing.*is not there.*model\.yml\.gz.*leave it out"):
        edge_boxes.make(model=tmp_path / "nothing", **SETTINGS)
    (tmp_path / "text.yml").write_text("no model")
    with pytest.raises(ValueError, match=r"text\.yml cannot be read as a structured-edges model.*leave it out"):
        edge_boxes.make(model=tmp_path / "text.yml", **SETTINGS)
