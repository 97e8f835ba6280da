"""Joining the boxes of adjacent slices."""

import numpy as np
import pytest
import torch

from boxel.ops import iou, merge_slices


def stack(rng, ndim, count=200):
    """Noisy boxes of a few objects over 12 slices, with gaps, ties of score and two labels."""
    lower = rng.integers(0, 3, (count, ndim)) * 8 + rng.uniform(0, 3, (count, ndim))
    boxes = np.stack([lower, lower + rng.uniform(3, 8, (count, ndim))], 1)
    return {
        "boxes": torch.from_numpy(boxes).float(),
        "scores": torch.from_numpy(rng.integers(1, 60, count) / 60).float(),
        "slices": torch.from_numpy(rng.integers(-2, 40, count)),
        "labels": torch.from_numpy(rng.integers(0, 2, count) * 7),
    }


def textbook(boxes, scores, slices, labels, iou_threshold):
    """Section 3.3 of the paper, box by box."""
    overlap = iou(boxes, boxes)
    left = sorted(range(len(boxes)), key=lambda row: (-scores[row], row))
    result = []
    while left:
        seed = left[0]
        rows = [i for i in left if i == seed or (labels[i] == labels[seed] and overlap[seed, i] > iou_threshold)]
        present = {int(slices[i]) for i in rows}
        low = high = int(slices[seed])
        while low - 1 in present:
            low -= 1
        while high + 1 in present:
            high += 1
        rows = [i for i in rows if low <= slices[i] <= high]
        left = [i for i in left if i not in rows]
        result.append((low, high + 1, rows))
    return result


@pytest.mark.parametrize("iou_threshold", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("count", [200, 1])
def test_cubes_are_those_of_the_textbook_loop(engine, ndim, rng, iou_threshold, count):
    given = stack(rng, ndim, count)
    result = merge_slices(**given, iou_threshold=iou_threshold)
    expected = textbook(**given, iou_threshold=iou_threshold)
    assert result.boxes[:, :, 0].tolist() == [[low, high] for low, high, _ in expected]
    assert [result.members.of(i).tolist() for i in range(len(expected))] == [rows for *_, rows in expected]
    seeds = torch.tensor([rows[0] for *_, rows in expected])
    assert torch.equal(result.boxes[:, :, 1:], given["boxes"][seeds])
    assert torch.equal(result.scores, given["scores"][seeds])
    assert torch.equal(result.labels, given["labels"][seeds])


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_both_engines_agree_to_the_last_bit(ndim, rng, monkeypatch, inclusive, dtype):
    given = stack(rng, ndim, 400)
    given["boxes"] = given["boxes"].to(dtype)
    compiled = merge_slices(**given, iou_threshold=0.1, inclusive=inclusive)
    monkeypatch.setattr("boxel.ops.arrays._compiled", lambda: None)
    plain = merge_slices(**given, iou_threshold=0.1, inclusive=inclusive)
    assert torch.equal(compiled.boxes, plain.boxes)
    assert torch.equal(compiled.members.rows, plain.members.rows)
    assert torch.equal(compiled.members.offsets, plain.members.offsets)


def test_no_boxes_give_no_cubes(engine, ndim):
    nothing = torch.zeros(0)
    result = merge_slices(torch.zeros(0, 2, ndim), nothing, nothing.long(), iou_threshold=0.1)
    assert result.boxes.shape == (0, 2, ndim + 1)
    assert result.members.offsets.tolist() == [0]


def test_a_box_without_extent_is_a_cube_of_its_own(engine, ndim):
    boxes = torch.tensor([0.0, 4.0])[:, None].expand(2, 2, ndim).clone()
    boxes[1] = 2.0
    result = merge_slices(boxes, torch.tensor([0.5, 0.9]), torch.tensor([3, 4]), iou_threshold=0.0)
    assert result.boxes[:, :, 0].tolist() == [[4, 5], [3, 4]]


def test_numpy_in_numpy_out(engine, ndim, rng):
    given = stack(rng, ndim)
    result = merge_slices(**{name: value.numpy() for name, value in given.items()}, iou_threshold=0.1)
    assert isinstance(result.boxes, np.ndarray)
    assert np.array_equal(result.boxes, merge_slices(**given, iou_threshold=0.1).boxes.numpy())


def test_a_broken_box_and_a_wrong_threshold_are_named(engine, ndim, rng):
    given = stack(rng, ndim)
    with pytest.raises(ValueError, match="iou_threshold is 10"):
        merge_slices(**given, iou_threshold=10.0)
    given["boxes"][5] = given["boxes"][5].flip(0)
    with pytest.raises(ValueError, match=r"boxes\[5\].*lower not above"):
        merge_slices(**given, iou_threshold=0.1)


def test_slices_of_different_labels_are_not_merged(engine):
    boxes = torch.tensor([[0.0, 0], [4, 4]]).expand(3, 2, 2).contiguous()
    result = merge_slices(
        boxes,
        torch.tensor([0.9, 0.8, 0.7]),
        torch.tensor([4, 5, 6]),
        labels=torch.tensor([0, 0, 1]),
        iou_threshold=0.1,
    )
    assert result.boxes[:, :, 0].tolist() == [[4, 6], [6, 7]]
    assert result.labels.tolist() == [0, 1]
