"""What is written is read back, from any photo, in any process; and what is damaged says so."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages.data.masks import records
from stages.data.masks.segmentation import (
    LabelMaps,
    MaskStack,
    Segmentation,
    enlarged,
    mask_of_runs,
    runs_of_mask,
)
from stages.data.masks.storage import INDEX_FILE, RECORDS_FILE, Masks, MasksWriter

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))
MAPS = SIZES.flatmap(
    lambda size: st.lists(arrays(np.uint16, size, elements=st.sampled_from([0, 1, 300, 65535])), min_size=1, max_size=3)
)
STACKS = st.tuples(st.integers(1, 4), SIZES).flatmap(lambda shape: arrays(bool, (shape[0], *shape[1])))


def write(directory: Path, segmentations: Sequence[Segmentation], layers: Sequence[str]) -> Masks:
    with MasksWriter(directory, "labels" if layers else "stack", layers) as writer:
        for segmentation in segmentations:
            record = np.frombuffer(records.encode(segmentation), np.uint8)
            writer.append(record, np.array([len(record)]))
    return Masks(directory)


@pytest.fixture
def masks(tmp_path: Path) -> Masks:
    maps = [np.arange(12, dtype=np.uint16).reshape(3, 4) // divisor for divisor in (1, 2, 6)]
    return write(tmp_path, [LabelMaps((4, 3), [each, each // 2]) for each in maps], ["fine", "coarse"])


@given(MAPS)
@settings(max_examples=80, deadline=None)
def test_label_maps_come_back(maps: list[np.ndarray]) -> None:
    size = maps[0].shape[::-1]
    record = records.encode(LabelMaps(size, maps))
    assert records.decode_size(record) == size
    for layer, labels in enumerate(maps):
        np.testing.assert_array_equal(records.decode_map(record, len(maps), layer).map(), labels)


@given(STACKS)
@settings(max_examples=80, deadline=None)
def test_masks_come_back(stack: np.ndarray) -> None:
    scores = np.linspace(1, 0, len(stack), dtype=np.float32)
    record = records.encode(MaskStack(stack.shape[:0:-1], [runs_of_mask(mask) for mask in stack], scores))
    found = records.decode_stack(record)
    np.testing.assert_array_equal(list(found.masks()), stack)
    np.testing.assert_array_equal(found.scores, scores)
    np.testing.assert_array_equal(records.decode_scores(record), scores)


def test_runs_begin_outside() -> None:
    assert runs_of_mask(np.array([[True, True], [False, True]])).tolist() == [0, 2, 1, 1]
    assert runs_of_mask(np.array([[False, True]])).tolist() == [1, 1]
    np.testing.assert_array_equal(mask_of_runs(np.array([0, 2, 1, 1]), (2, 2)), [[True, True], [False, True]])


@given(SIZES, SIZES)
@settings(max_examples=50, deadline=None)
def test_a_smaller_map_stands_for_its_enlargement_by_pixel_centres(
    small: tuple[int, int], big: tuple[int, int]
) -> None:
    labels = np.arange(small[0] * small[1]).reshape(small[1], small[0])
    large = enlarged(labels, big)
    for row, column in np.ndindex(large.shape):
        y, x = (row + 0.5) * small[1] / big[1], (column + 0.5) * small[0] / big[0]
        assert large[row, column] == labels[int(y + 1e-9), int(x + 1e-9)]


def test_stacks_are_sorted_and_never_empty() -> None:
    runs = [runs_of_mask(np.array([[False, False]])), runs_of_mask(np.array([[True, False]])), np.array([0, 2])]
    stack = MaskStack.of((2, 1), runs, [3.0, 0.5, 0.7])
    np.testing.assert_array_equal(list(stack.masks()), [[[True, True]], [[True, False]]])
    np.testing.assert_array_equal(stack.scores, np.float32([0.7, 0.5]))
    alone = MaskStack.of((2, 1), runs[:1], [3.0])
    np.testing.assert_array_equal(list(alone.masks()), [[[True, True]]])
    assert np.isnan(alone.scores).all()


def test_photos_are_read_in_any_order_also_after_pickling(masks: Masks) -> None:
    masks.check(3)
    again = pickle.loads(pickle.dumps(masks))  # noqa: S301
    assert (len(again), again.kind, again.layers, again.size(1)) == (3, "labels", ["fine", "coarse"], (4, 3))
    assert again.labels(2, 0).dtype == np.uint16
    np.testing.assert_array_equal(again.labels(2, 0), np.arange(12).reshape(3, 4) // 6)
    np.testing.assert_array_equal(again.labels(0, 1), np.arange(12).reshape(3, 4) // 2)
    assert len(pickle.dumps(again)) < 1000


def test_wrong_questions_are_refused(masks: Masks) -> None:
    with pytest.raises(ValueError, match="read it by `labels`"):
        masks.stack(0)
    with pytest.raises(ValueError, match="read it by `labels`"):
        masks.scores(0)
    with pytest.raises(IndexError, match="no layer 2"):
        masks.labels(0, 2)
    with pytest.raises(IndexError, match="no photo 3, only 0 to 2"):
        masks.labels(3, 0)
    with pytest.raises(ValueError, match="3 photos where the catalog has 5"):
        masks.check(5)


def test_more_labels_than_16_bits_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 16 bits"):
        records.encode(LabelMaps((2, 1), [np.array([[0, 65536]])]))


def test_a_truncated_file_is_told(masks: Masks) -> None:
    path = masks.directory / RECORDS_FILE
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"is damaged .*promises"):
        masks.labels(0, 0)


def test_a_changed_record_is_told(masks: Masks) -> None:
    path = masks.directory / RECORDS_FILE
    content = bytearray(path.read_bytes())
    content[-3] ^= 0xFF
    path.write_bytes(content)
    masks.labels(0, 0)
    with pytest.raises(ValueError, match="record of photo 2"):
        masks.labels(2, 1)


@pytest.mark.parametrize("starts", [(0, -1, 0), (0, 0, 0), (0, 1, 2)])
def test_an_index_of_other_masks_is_told(masks: Masks, starts: tuple[int, ...]) -> None:
    end = int(np.load(masks.directory / INDEX_FILE)[-1])
    np.save(masks.directory / INDEX_FILE, np.array([*starts, end], np.int64))
    with pytest.raises(ValueError, match="is damaged"):
        Masks(masks.directory).labels(1, 0)
    np.save(masks.directory / INDEX_FILE, np.array([0, 5], np.int64))
    with pytest.raises(ValueError, match="promises 5"):
        Masks(masks.directory).labels(0, 0)
