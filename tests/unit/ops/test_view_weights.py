"""Weighted box fusion of views that count differently."""

import pytest
import torch

from boxel.ops import weighted_box_fusion


def test_views_of_weighted_box_fusion_may_have_weights(engine, ndim):
    # Of three views the second counts twice: scores 0.6 and 2 x 0.4, so the second box comes first.
    boxes = torch.tensor([[0.0, 10], [0, 12], [40, 50]])[:, :, None].expand(3, 2, ndim).clone()
    boxes[:, 1, 1:] = boxes[:, 0, 1:] + 10  # they differ along the first axis only
    given = dict(view_ids=torch.tensor([0, 1, 2]), expected_views=3, iou_threshold=0.55)
    result = weighted_box_fusion(boxes, torch.tensor([0.6, 0.4, 0.9]), **given, view_weights=[1, 2, 1])
    assert result.members.of(0).tolist() == [1, 0]
    assert result.boxes[0, 1].tolist() == pytest.approx([(0.6 * 10 + 0.8 * 12) / 1.4] + [10] * (ndim - 1))
    assert result.scores.tolist() == pytest.approx([(0.6 + 0.8) / 2 * 2 / 4, 0.9 * 1 / 4])
    plain, same = (
        weighted_box_fusion(boxes, torch.tensor([0.6, 0.4, 0.9]), **given, view_weights=weights)
        for weights in (None, [5.0] * 3)
    )
    assert torch.allclose(plain.scores, same.scores)
    assert torch.allclose(plain.boxes, same.boxes)


def test_weights_of_views_need_the_view_of_each_box():
    boxes, scores = torch.tensor([[[0.0, 0], [9, 9]]]), torch.tensor([0.5])
    with pytest.raises(ValueError, match=r"view_weights has 2 numbers.* 3 expected_views.*view_ids"):
        weighted_box_fusion(boxes, scores, expected_views=3, view_ids=torch.tensor([0]), view_weights=[1, 2])
    with pytest.raises(ValueError, match="view_ids to say"):
        weighted_box_fusion(boxes, scores, expected_views=2, view_weights=[1, 2])
    with pytest.raises(ValueError, match=r"view_ids must lie in 0\.\.1"):
        weighted_box_fusion(boxes, scores, expected_views=2, view_ids=torch.tensor([2]), view_weights=[1, 2])
    with pytest.raises(ValueError, match=r"view_weights is \(1, -2\)"):
        weighted_box_fusion(boxes, scores, expected_views=2, view_ids=torch.tensor([1]), view_weights=[1, -2])
