"""Faster R-CNN has torchvision's numbers: weights, anchors, drawn anchors, losses, proposals."""

import math
from dataclasses import replace

import pytest
import torch

from boxel.api.listing import count_parameters
from boxel.models import (
    FasterRCNN,
    FasterRCNNConfig,
    IoUMatcherConfig,
    NoNeckConfig,
    PyramidGrid,
    ResNetConfig,
    RetinaUNetConfig,
    RPNConfig,
    SampledConfig,
    SmoothL1Config,
    VGGConfig,
)
from boxel.models.dense import DenseOutputs
from boxel.models.grid import Numbers
from boxel.models.loss_terms import box_loss, class_loss, only_sampled
from boxel.models.postprocess import best_boxes
from boxel.models.rpn import RPN
from boxel.preparation.anchors import torchvision_anchors
from boxel.preparation.plan import PlanConfig, plan
from boxel.recipes import get_recipe
from tests.unit.builders import make_batch, make_task, tiny
from tests.unit.preparation.test_plan import cubes, data

ERROR = 0.5 - 1 / 18  # smooth L1 of 0.5, with beta 1 / 9


@pytest.mark.parametrize(("classes", "published"), [(90, 41_755_286), (8, 41_335_036)])
def test_it_has_as_many_weights_as_torchvisions(classes, published):
    """The first is the number that torchvision states for its weights of COCO (91 outputs)."""
    with torch.device("meta"):
        model = FasterRCNN(ndim=2, in_channels=3, num_classes=classes)
    assert sum(weight.numel() for weight in model.parameters()) == published


def test_on_a_vgg_the_weights_are_those_of_its_layers():
    """VGG-16: 14,714,688; the RPN: 512 filters and 15 anchors; 7 x 7 cells to 512, 512 to 512, 8 classes and none."""
    rpn = 512 * 512 * 9 + 512 + 15 * (1 + 4) * (512 + 1)
    head = (512 * 49 + 1) * 512 + (512 + 1) * 512 + 9 * (1 + 4) * (512 + 1)
    counted = count_parameters("faster_rcnn_vgg", num_classes=8, num_channels=3)["faster_rcnn"]["parameters"]
    assert counted["total"] == 14_714_688 + rpn + head == 30_244_280


def test_a_model_on_a_single_feature_without_a_neck_detects(ndim):
    own = tiny("faster_rcnn")
    config = own.model_copy(update={"backbone": VGGConfig(depth=11, start_filters=4, pools=2), "neck": NoNeckConfig()})
    task = make_task(ndim, strides=((2,) * ndim,) * 2, levels=(2,), anchors=(((8.0,) * ndim, (14.0,) * ndim),))
    model, batch = config.build(task), make_batch(task, 2)
    assert all(term > 0 for term in model(batch.images, batch).values())
    [level] = model.infer(batch.images).levels
    assert level.equal(model.encoder(batch.images)[1])


def test_without_a_neck_levels_of_other_widths_and_full_resolution_are_refused(ndim):
    config = tiny("retina_net").model_copy(update={"neck": NoNeckConfig()})
    with pytest.raises(ValueError, match=r"levels of 8, 16 channels, .* of an fpn or pan"):
        config.build(make_task(ndim))
    with pytest.raises(ValueError, match=r"model\.neck=none has no way to full resolution"):
        RetinaUNetConfig(backbone=config.backbone, neck=NoNeckConfig()).build(make_task(ndim))


def test_anchors_have_the_corners_of_torchvision():
    """32 voxels high / wide as 0.5: 22.6 x 45.3, from -11.3 to 11.3 and -22.6 to 22.6, rounded to 11 and 23."""
    assert torchvision_anchors(2, [32]) == ((22, 46), (32, 32), (46, 22))
    assert torchvision_anchors(3, [64]) == ((64, 46, 90), (64, 64, 64), (64, 90, 46))


def test_the_recipe_plans_five_stages_and_p6_for_any_rank(ndim):
    recipe = get_recipe("faster_rcnn")
    assert recipe.model == FasterRCNNConfig()
    task = plan(data([(256,) * ndim], [(1.0,) * ndim], cubes(ndim, 16)), recipe.plan)
    assert task.strides == ((2,) * ndim,) * 5
    assert [level[1] for level in task.anchors] == [(scale,) * ndim for scale in (32, 64, 128, 256, 512)]
    assert "torchvision's Faster R-CNN" in task.why["anchors"]
    assert PlanConfig(strides=((1,), (2,) * ndim)).strides_for(ndim) == ((1,) * ndim, (2,) * ndim)


def test_without_weights_frozen_norms_change_nothing(ndim):
    config = ResNetConfig(depth=10, start_filters=4, norm="frozen")
    torch.manual_seed(0)
    frozen = config.build(ndim, 1, [(2,) * ndim] * 3, full_resolution=False)
    plain = config.model_copy(update={"norm": "none"}).build(ndim, 1, [(2,) * ndim] * 3, full_resolution=False)
    kernels = [key for key, _ in plain.named_parameters() if key.endswith("weight")]
    assert [key for key, _ in frozen.named_parameters()] == kernels  # convolutions have no bias, norms no parameters
    zeros = {key: torch.zeros_like(tensor) for key, tensor in plain.state_dict().items()}
    plain.load_state_dict(zeros | {key: frozen.state_dict()[key] for key in kernels})
    images = torch.randn(2, 1, *(24,) * ndim)
    for ours, expected in zip(frozen.train()(images), plain(images), strict=True):
        torch.testing.assert_close(ours, expected)


def test_anchors_are_drawn_and_the_others_count_for_nothing():
    matches = torch.tensor([[0, 1, 2] + [-1] * 5 + [-2], [0] + [-1] * 7 + [-2], [-1] * 3 + [-2] * 6])
    drawn = only_sampled(SampledConfig(per_image=4, positive_share=0.5), matches)
    assert [((row >= 0).sum().item(), (row == -1).sum().item()) for row in drawn] == [(2, 2), (1, 3), (0, 3)]
    assert (drawn == matches)[drawn != -2].all()
    draws = {tuple(only_sampled(SampledConfig(per_image=4), matches)[0].tolist()) for _ in range(20)}
    assert len(draws) > 1


@pytest.mark.parametrize("softmax", [False, True], ids=["sigmoid", "softmax"])
def test_the_class_loss_is_the_mean_over_the_drawn_anchors(softmax):
    """Logits of 0 and 2 against background: log(1 + exp(x)) for each; of 1 against an object: log(1 + exp(-1))."""
    logits = torch.tensor([[[0.0], [1.0], [9.0]], [[2.0], [9.0], [9.0]]])
    labels = torch.tensor([[-1, 0, -2], [-1, -2, -2]])
    if softmax:
        logits = torch.cat([torch.zeros_like(logits), logits], -1)
    expected = (math.log(2) + math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 3
    fit = torch.ones(1)
    found = class_loss(SampledConfig(weight=2.0), logits, labels, fit, softmax=softmax)
    assert found.item() == pytest.approx(2 * expected)
    ignored = torch.full_like(labels, -2)
    nothing = class_loss(SampledConfig(), logits.requires_grad_(), ignored, fit[:0], softmax=softmax)
    nothing.backward()
    assert nothing == 0
    assert not logits.grad.any()


def test_the_box_loss_is_a_sum_over_positives_divided_by_all_that_count(ndim):
    """An anchor shifted along the first axis by half of its size: 0.5 - beta / 2."""
    boxes = torch.tensor([[[8.0] * ndim, [16.0] * ndim]] * 2)
    shifted = boxes.clone()
    shifted[:, :, 0] += 4
    deltas, std = torch.zeros(2, 2, ndim), torch.ones(2, ndim)
    config = SmoothL1Config(beta=1 / 9, over="sampled")
    assert box_loss(config, deltas, boxes, shifted, std, sampled=8).item() == pytest.approx(2 * ERROR / 8)
    mean = box_loss(SmoothL1Config(beta=1 / 9), deltas, boxes, shifted, std, sampled=8).item()
    assert mean == pytest.approx(2 * ERROR / (2 * 2 * ndim))


def rpn(ndim: int, **choices: object) -> tuple[RPN, DenseOutputs]:
    """The RPN on 8 x 8 cells of stride 4 (8 x 8 x 8 in 3D) and, above it, 4 x 4 of stride 8; all deltas are 0."""
    grid = PyramidGrid.default(ndim, strides=[(2,) * ndim] * 3, levels=[2, 3], anchors=[[[8.0] * ndim]] * 2)
    values = {**dict(FasterRCNNConfig().rpn), "filters": 4, **choices}
    part = RPN(Numbers(ndim, 2, grid, max_detections=2, masks=False), 4, RPNConfig(**values))
    outputs = part([torch.zeros(1, 4, *(cells,) * ndim) for cells in (8, 4)], (32,) * ndim)
    return part, outputs._replace(deltas=torch.zeros_like(outputs.deltas))


def test_only_drawn_positives_count_for_the_boxes(ndim):
    """Two objects, each half an anchor away from an anchor; one positive and one negative anchor are drawn."""
    config = {"matcher": IoUMatcherConfig(positive=0.9, negative=0.1)}
    part, outputs = rpn(ndim, class_loss=SampledConfig(per_image=2), **config)
    batch = make_batch(make_task(ndim, size=32), 1, objects=2)
    lower = torch.full((2, ndim), 4.0)
    lower[:, 0] = torch.tensor([2.0, 22.0])  # anchors begin at -4, 0, 4, ...: two are 2 voxels, a quarter, away
    objects = replace(batch.instances[0], boxes=torch.stack([lower, lower + 8], 1))
    loss = part.loss(outputs, replace(batch, instances=[objects]))["rpn_box"].item()
    assert loss == pytest.approx((0.25 - 1 / 18) / 2)


def test_there_are_more_proposals_in_training(ndim):
    part, outputs = rpn(ndim, proposals=3, train_proposals=5, nms_threshold=1.0)
    for to_train, expected in ((True, 5), (False, 3)):
        assert len(part.propose(outputs, to_train=to_train)[0]) == expected
    part, outputs = rpn(ndim, candidates=1, train_candidates=2, nms_threshold=1.0)  # of each of two levels
    for to_train, expected in ((True, 4), (False, 2)):
        assert len(part.propose(outputs, to_train=to_train)[0]) == expected


@pytest.mark.parametrize(("apart", "kept"), [(True, [0.9, 0.8, 0.7]), (False, [0.9, 0.7])])
def test_boxes_of_other_levels_suppress_none_where_levels_are_apart(ndim, apart, kept):
    boxes = torch.tensor([[[0.0] * ndim, [4.0] * ndim]] * 3 + [[[8.0] * ndim, [12.0] * ndim]])
    scores = torch.tensor([[0.9, 0.0], [0.6, 0.0], [0.8, 0.0], [0.0, 0.7]])
    found = best_boxes(
        scores, lambda rows, _: boxes[rows], (16,) * ndim, candidates=9, min_score=0.5, nms_threshold=0.5,
        max_detections=9, group_sizes=[2, 2], nms_per_group=apart,
    )  # fmt: skip
    assert found.scores.tolist() == pytest.approx(kept)
