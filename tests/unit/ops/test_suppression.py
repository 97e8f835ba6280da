import numpy as np
import pytest
import torch

from boxel.ops.overlaps import iou
from boxel.ops.suppression import nms, soft_nms


def crowd(rng, ndim, count=120, dtype=torch.float32):
    lower = torch.from_numpy(rng.uniform(0, 12, (count, ndim)))
    boxes = torch.stack([lower, lower + torch.from_numpy(rng.uniform(0.5, 9, (count, ndim)))], 1).to(dtype)
    scores = torch.from_numpy(rng.integers(0, 60, count) / 60).to(dtype)  # many ties
    return boxes, scores, torch.from_numpy(rng.integers(0, 3, count))


def textbook(boxes, scores, iou_threshold, labels):
    kept = []
    for row in sorted(range(len(boxes)), key=lambda row: (-scores[row], row)):
        rivals = [other for other in kept if labels[other] == labels[row]]
        if not rivals or (iou(boxes[row][None], boxes[rivals]) <= iou_threshold).all():
            kept.append(row)
    return kept


@pytest.mark.parametrize("iou_threshold", [0.0, 0.2, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nms_keeps_what_the_textbook_loop_keeps(engine, ndim, rng, iou_threshold, dtype):
    boxes, scores, labels = crowd(rng, ndim, dtype=dtype)
    expected = textbook(boxes, scores, iou_threshold, labels)
    assert nms(boxes, scores, iou_threshold, labels=labels).tolist() == expected
    huge = labels * 10**12 - 7  # label numbers are only names
    assert nms(boxes, scores, iou_threshold, labels=huge, max_detections=9).tolist() == expected[:9]
    assert nms(boxes, scores, iou_threshold).tolist() == textbook(boxes, scores, iou_threshold, labels * 0)


def test_nms_of_many_boxes_in_several_blocks_and_levels(ndim, rng, monkeypatch):
    boxes, scores, labels = crowd(rng, ndim, count=3000)
    compiled = nms(boxes, scores, 0.3, labels=labels)
    monkeypatch.setattr("boxel.ops.arrays._compiled", lambda: None)
    assert torch.equal(compiled, nms(boxes, scores, 0.3, labels=labels))


def test_negative_scores_and_both_zeros_are_ordered(engine):
    boxes = torch.arange(5.0)[:, None, None] * 10 + torch.tensor([[0.0], [1.0]]).expand(2, 2)
    scores = torch.tensor([-0.0, -1.0, 0.0, 2.0, -3.0])
    assert nms(boxes, scores, 0.5).tolist() == [3, 0, 2, 1, 4]


def test_touching_boxes_do_not_suppress_each_other(engine, ndim):
    boxes = torch.zeros(2, 2, ndim)
    boxes[:, 1] = 4
    boxes[1, :, 0] += 4
    assert len(nms(boxes, torch.ones(2), 0.0)) == 2


def test_a_box_without_extent_neither_suppresses_nor_is_suppressed(engine, ndim):
    boxes = torch.tensor([0.0, 4.0])[:, None].expand(3, 2, ndim).clone()
    boxes[1] = 2.0
    assert nms(boxes, torch.tensor([0.5, 0.9, 0.7]), 0.0).tolist() == [1, 2]


def test_no_boxes_give_no_boxes(engine, ndim):
    kept = nms(torch.zeros(0, 2, ndim), torch.zeros(0), 0.5, labels=torch.zeros(0, dtype=torch.long))
    assert kept.shape == (0,)
    assert kept.dtype == torch.long
    assert soft_nms(torch.zeros(0, 2, ndim), torch.zeros(0))[0].shape == (0,)


def test_numpy_in_numpy_out(engine, ndim, rng):
    boxes, scores, labels = crowd(rng, ndim)
    kept = nms(boxes.numpy(), scores.numpy(), 0.3, labels=labels.numpy())
    assert isinstance(kept, np.ndarray)
    assert kept.tolist() == nms(boxes, scores, 0.3, labels=labels).tolist()


def test_half_precision_is_accepted(engine, ndim):
    boxes = torch.tensor([0.0, 60.0])[:, None].expand(2, 2, ndim).to(torch.bfloat16)
    assert nms(boxes, torch.tensor([0.5, 0.9], dtype=torch.bfloat16), 0.5).tolist() == [1]


@pytest.mark.parametrize(
    ("box", "complaint"), [([[0.0, float("nan")], [1, 1]], "finite"), ([[0.0, 3], [1, 2]], "lower not above")]
)
def test_a_broken_box_is_named(engine, box, complaint):
    boxes = torch.stack([torch.tensor([[0.0, 0], [1, 1]]), torch.tensor(box)])
    with pytest.raises(ValueError, match=rf"boxes\[1\].*{complaint}"):
        nms(boxes, torch.ones(2), 0.5)


def test_a_threshold_outside_0_to_1_is_refused(engine):
    with pytest.raises(ValueError, match=r"iou_threshold is 50.*0\.\.1"):
        nms(torch.rand(2, 2, 2).cumsum(1), torch.ones(2), 50.0)


def test_soft_nms_decays_by_the_overlap_with_better_boxes(engine):
    boxes = torch.tensor([[[0.0, 0], [10, 10]], [[0, 5], [10, 15]], [[30, 30], [40, 40]]])
    scores = torch.tensor([0.9, 0.8, 0.1])
    rows, new = soft_nms(boxes, scores, sigma=0.5)
    assert rows.tolist() == [0, 1, 2]
    assert new.tolist() == pytest.approx([0.9, 0.8 * np.exp(-((1 / 3) ** 2) / 0.5), 0.1])
    _, new = soft_nms(boxes, scores, decay="linear", iou_threshold=0.3)
    assert new.tolist() == pytest.approx([0.9, 0.8 * 2 / 3, 0.1])
    rows, _ = soft_nms(boxes, scores, min_score=0.2)
    assert rows.tolist() == [0, 1]


def textbook_soft(boxes, scores, labels, decay, min_score):
    """Figure 2 of the paper, box by box."""
    left, result = {row: float(score) for row, score in enumerate(scores)}, []
    overlaps = iou(boxes, boxes).double() * (labels[:, None] == labels)
    while left:
        best = max(left, key=lambda row: (left[row], -row))
        score = left.pop(best)
        if score < min_score:
            break
        result.append((best, score))
        for row in left:
            overlap = float(overlaps[best, row])
            left[row] *= np.exp(-(overlap**2) / 0.5) if decay == "gaussian" else 1 - overlap * (overlap > 0.3)
    return result


@pytest.mark.parametrize("decay", ["gaussian", "linear"])
@pytest.mark.parametrize("min_score", [0.0, 1e-3, 0.2])
def test_soft_nms_gives_what_the_textbook_loop_gives(engine, ndim, rng, decay, min_score):
    boxes, scores, labels = crowd(rng, ndim, count=200)
    rows, new = soft_nms(boxes, scores, labels=labels, decay=decay, min_score=min_score)
    expected = textbook_soft(boxes, scores, labels, decay, min_score)
    assert new.tolist() == pytest.approx([score for _, score in expected], rel=1e-5, abs=1e-12)
    assert sorted(rows.tolist()) == sorted(row for row, _ in expected)
    assert rows.tolist()[:20] == [row for row, _ in expected[:20]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_soft_nms_leaves_its_arguments_alone(engine, ndim, rng, dtype):
    boxes, scores, _ = crowd(rng, ndim, dtype=dtype)
    before = scores.clone()
    _, new = soft_nms(boxes, scores)
    assert torch.equal(before, scores)
    assert new.dtype is dtype


def test_soft_nms_explains_what_is_wrong(ndim, rng):
    boxes, scores, _ = crowd(rng, ndim)
    with pytest.raises(ValueError, match="sigma is 0"):
        soft_nms(boxes, scores, sigma=0.0)
    with pytest.raises(ValueError, match="did you mean 'linear'"):
        soft_nms.__wrapped__.__wrapped__(boxes, scores, decay="linaer")
    scores[3] = -1
    with pytest.raises(ValueError, match=r"scores\[3\] is -1"):
        soft_nms(boxes, scores)
