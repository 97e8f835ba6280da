"""The first stages of L-SNet and of coarse-to-fine: what they propose, their precision, and their settings."""

import pytest
import torch

from boxel.models import LSNetConfig, UNetConfig
from boxel.models.coarse_to_fine import CoarseOutputs
from tests.unit.builders import TINY_NET, make_task, tiny


def test_coarse_to_fine_learns_from_the_regions_that_it_predicts(ndim):
    """Two classes apart: the box of one or the other, not one around both; the whole image where there is none."""
    first = tiny("coarse_to_fine").build(make_task(ndim)).first
    logits = torch.full((2, 3, *(24,) * ndim), -9.0)
    logits[:, 0] = 0.0
    near, far = (slice(2, 8),) * ndim, (slice(14, 22),) * ndim
    logits[(0, 1, *near)] = logits[(0, 2, *far)] = 9.0
    torch.manual_seed(0)
    drawn = torch.stack([first.propose(CoarseOutputs(logits)) for _ in range(20)])
    assert {tuple(box[:, 0].tolist()) for box in drawn[:, 0]} == {(2.0, 8.0), (14.0, 22.0)}
    assert {tuple(box[:, 0].tolist()) for box in drawn[:, 1]} == {(0.0, 24.0)}


@pytest.mark.parametrize(
    "setting",
    [
        "margin=-1", "gradient=-1", "warmup_truth=-1", "max_regions=0", "mask_cells=0", "first.filters=0",
        "first.delta=0", "first.beta=-1", "first.box_weight=-1", "first.candidates=0", "first.min_score=2",
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match=setting.partition("=")[0].rpartition(".")[2]):
        LSNetConfig().override([setting])


def test_distances_are_not_rounded_under_autocast(ndim):
    """An L-Net whose distances are 301.7 cells of 4 voxels: bfloat16 has steps of 2 there."""
    model = tiny("lsnet").build(make_task(ndim)).first.eval()
    torch.nn.init.zeros_(model.boxes[-1].weight)
    torch.nn.init.constant_(model.boxes[-1].bias, 301.7)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        outputs = model(torch.rand(1, 1, *(24,) * ndim))
        box = model._boxes(outputs)[0, 0]
        near = model._box_at(outputs.features[0], torch.full((ndim,), 0.5))
    assert (box[1] - box[0]).tolist() == pytest.approx([2 * 301.7 * 4] * ndim, rel=1e-5)
    assert (near[1] - near[0]).tolist() == pytest.approx([2 * 301.7 * 4] * ndim, rel=1e-5)


@pytest.mark.parametrize("classes", [("cube",), ("cube", "block")])
@pytest.mark.parametrize("decoder", ["unet", "attention_unet"])
def test_a_voxel_without_features_is_background_at_the_start(ndim, classes, decoder):
    """The features of a U-Net are never negative: where all are 0, the bias alone decides."""
    task = make_task(ndim, classes)
    net = UNetConfig(net=TINY_NET.model_copy(update={"decoder": decoder})).build(task).net
    logits = net.head(torch.zeros(1, net.decoder.channels, *(4,) * ndim))
    probability = net.probabilities(logits)[0].flatten(1)[:, 0]
    torch.testing.assert_close(probability, torch.tensor([0.99] + [0.01 / len(classes)] * len(classes)))
