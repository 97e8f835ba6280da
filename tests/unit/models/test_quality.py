"""Scores that say how well their boxes fit: `quality` of the focal loss."""

import pytest
import torch

from boxel.models import DenseConfig, FocalConfig
from boxel.models.loss_terms import class_loss
from boxel.ops import encode
from tests.unit.builders import MODELS, make_batch, make_task


@pytest.mark.parametrize(("quality", "learnt"), [(0.5, 0.7), (1.0, 0.4)])
def test_a_score_learns_how_well_its_box_fits(quality: float, learnt: float):
    def loss(score: float) -> float:
        """Of an anchor whose box has an IoU of 0.4 with its object, between two of the background."""
        logits = torch.logit(torch.tensor([[[1e-6], [score], [1e-6]]]))
        return class_loss(
            FocalConfig(quality=quality), logits, torch.tensor([[-1, 0, -1]]), torch.tensor([0.4]), softmax=False
        ).item()

    assert loss(learnt) < 1e-6 < min(loss(learnt - 0.1), loss(learnt + 0.1))


def test_where_all_boxes_fit_quality_changes_nothing(ndim):
    batch = make_batch(make_task(ndim), 2)
    terms = []
    for quality in (0.0, 1.0):
        config = MODELS["retina_net"].override([f"dense.class_loss.quality={quality}"])
        torch.manual_seed(0)
        dense, outputs = (model := config.build(make_task(ndim))).dense, model.infer(batch.images)
        for deltas, index, one in zip(
            outputs.deltas, dense.match(outputs, batch.instances), batch.instances, strict=True
        ):
            deltas.data[index >= 0] = encode(one.boxes[index[index >= 0]], outputs.anchors[index >= 0], dense.std)
        terms.append(dense.loss(outputs, batch)["class"].item())
    assert terms[0] == pytest.approx(terms[1], rel=1e-4)


def test_scores_of_classes_that_exclude_each_other_learn_no_quality():
    with pytest.raises(ValueError, match=r"class_loss\.quality has no effect .* set softmax=false"):
        DenseConfig(softmax=True, class_loss={"type": "focal", "quality": 0.5})
