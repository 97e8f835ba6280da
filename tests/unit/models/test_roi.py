"""The second stage: which RoIs it is trained on, and the detections it makes of proposals."""

import pytest
import torch

from boxel.models import PyramidGrid, RoIConfig
from boxel.models.grid import Numbers
from boxel.models.roi import RoIDetection, RoIPooler, default_pool_size
from boxel.ops import encode, iou
from boxel.types import Detections
from tests.unit.builders import make_instances


def proposals(boxes: list, ndim: int) -> Detections:
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 2, ndim)
    return Detections(rows, torch.ones(len(rows)), torch.zeros(len(rows), dtype=torch.int64))


def cube(lower: float, upper: float, ndim: int) -> list:
    return [[lower] * ndim, [upper] * ndim]


def detection(ndim: int, **choices) -> tuple[RoIDetection, list[torch.Tensor]]:
    """A second stage with its pyramid of two images of 24 voxels per axis."""
    torch.manual_seed(0)
    config = RoIConfig(**{"filters": 8, "pool_size": (2,) * ndim, **choices})
    grid = PyramidGrid.default(ndim, strides=[(2,) * ndim] * 3)
    pyramid = [torch.randn(2, 4, *(24 // stride[0],) * ndim) for stride in grid.level_strides]
    return RoIDetection(Numbers(ndim, 2, grid, max_detections=100, masks=True), 4, config), pyramid


def test_rois_are_not_pooled_from_a_level_above_the_encoder(ndim):
    """It is for region proposals; without it, the same RoIs have the same features, also in a pyramid without it."""
    shared = [(2,) * ndim] * 3
    boxes = torch.tensor([cube(1, 23, ndim), cube(2, 5, ndim)], dtype=torch.float32)
    images = torch.zeros(2, dtype=torch.int64)
    features = []
    for levels in ([2, 3], [2, 3, 4]):
        grid = PyramidGrid.default(ndim, strides=shared, levels=levels)
        torch.manual_seed(0)
        pyramid = [torch.randn(1, 4, *(24 // stride[0],) * ndim) for stride in grid.level_strides]
        features.append(RoIPooler(grid, RoIConfig())(pyramid, boxes, images, (2,) * ndim))
    assert torch.equal(*features)


def test_positives_belong_to_the_object_they_overlap_and_negatives_to_none(ndim):
    part, pyramid = detection(ndim, per_image=8, positive=0.5, negative=0.3)
    instances = [
        make_instances([cube(2, 8, ndim), cube(12, 20, ndim)], [1, 0], ndim),
        make_instances([cube(4, 10, ndim)], [0], ndim),
    ]
    near = [cube(2, 8.5, ndim), cube(12, 19, ndim), cube(11.5, 20, ndim), cube(2, 7.8, ndim), cube(12, 19.9, ndim)]
    far = [cube(20, 23, ndim)] * 20
    rois = part.sample(pyramid, [proposals(near + far, ndim), proposals(far, ndim)], instances)
    objects = torch.cat([one.boxes for one in instances])
    labels = torch.cat([one.labels for one in instances])
    positive = rois.labels >= 0
    assert (rois.images.bincount() == 8).all()
    assert ((rois.images == 0) & positive).sum() == 4  # half, though there are seven
    assert torch.equal(rois.labels[positive], labels[rois.objects[positive]])
    overlap = iou(rois.boxes, objects)
    assert (overlap[positive, rois.objects[positive]] >= 0.5).all()
    assert (overlap[~positive].amax(1) < 0.3).all()
    assert rois.objects[positive & (rois.images == 1)].tolist() == [2]  # the annotated box itself


@pytest.mark.parametrize("add_ground_truth", [True, False])
def test_annotated_boxes_are_candidates_where_asked_for(ndim, add_ground_truth):
    part, pyramid = detection(ndim, add_ground_truth=add_ground_truth)
    instances = [make_instances([cube(2, 8, ndim)], [1], ndim), make_instances([], [], ndim)]
    rois = part.sample(pyramid, [proposals([cube(15, 20, ndim)], ndim)] * 2, instances)
    assert (rois.labels >= 0).sum() == add_ground_truth
    assert (rois.labels[rois.images == 1] == -1).all()


def test_hard_negatives_are_as_many_as_positives_and_drawn_from_the_best_scores(ndim, monkeypatch):
    part, pyramid = detection(ndim, negatives="hard", pool_factor=3, negative=0.1)
    far = [cube(15, 16 + step / 10, ndim) for step in range(50)]
    instances = [make_instances([cube(1, 6, ndim)], [0], ndim)]

    def larger_is_harder(pyramid, boxes, images):
        extent = (boxes[:, 1] - boxes[:, 0])[:, 0]
        logits = torch.stack([torch.zeros_like(extent), extent, torch.zeros_like(extent)], 1)
        return logits, torch.zeros(len(boxes), 3, 2, ndim)

    monkeypatch.setattr(part, "forward", larger_is_harder)
    rois = part.sample(pyramid, [proposals([cube(1, 6, ndim), *far], ndim)], instances)
    positive, negative = rois.labels >= 0, rois.labels < 0
    assert positive.sum() == 2  # the proposal, and the annotated box
    assert negative.sum() == 2
    assert (rois.boxes[negative][:, 1, 0] >= 16 + 44 / 10 - 1e-4).all()  # of the 6 hardest


def test_a_roi_moves_by_the_deltas_of_the_class_it_is_detected_as(ndim, monkeypatch):
    part, pyramid = detection(ndim, min_score=0.5)
    start = torch.tensor([cube(4.0, 10.0, ndim)])
    targets = torch.tensor([cube(0.0, 1.0, ndim), cube(3.0, 9.0, ndim), cube(5.0, 12.0, ndim)])
    deltas = encode(targets, start.expand(3, 2, ndim), part.std)[None]
    monkeypatch.setattr(part, "forward", lambda *_: (torch.tensor([[0.0, 0.0, 5.0]]), deltas))
    detections = part.detect(pyramid, [proposals(start.tolist(), ndim)], (24,) * ndim)[0]
    assert detections.labels.tolist() == [1]
    assert torch.allclose(detections.boxes, targets[2:], atol=1e-4)


def test_no_roi_at_all_costs_nothing(ndim):
    part, pyramid = detection(ndim, negative=0.0)
    instances = [make_instances([], [], ndim)] * 2
    rois = part.sample(pyramid, [proposals([], ndim)] * 2, instances)
    assert len(rois.boxes) == 0
    assert all(term == 0 for term in part.loss(pyramid, rois, instances).values())


def test_rois_are_pooled_to_cells_in_proportion_to_the_anchors():
    strides = [(2, 2, 2)] * 3
    plates = PyramidGrid.default(3, strides=strides, anchors=[[(2, 16, 16)], [(4, 32, 32)]])
    assert default_pool_size(PyramidGrid.default(2)) == (7, 7)
    assert default_pool_size(PyramidGrid.default(3)) == (5, 5, 5)
    assert default_pool_size(plates) == (2, 11, 11)


def test_the_rule_that_needs_a_patch_size_says_so(ndim):
    with pytest.raises(ValueError, match=r"model\.roi\.level_rule=patch needs a grid with a patch_size"):
        detection(ndim, level_rule="patch")


def test_a_pool_of_negatives_is_for_hard_ones():
    assert RoIConfig(negatives="hard", pool_factor=5).pool_factor == 5
    with pytest.raises(ValueError, match="pool_factor has no effect on random negatives"):
        RoIConfig(pool_factor=5)
