"""The second stage: which regions are learnt from, and what becomes of them."""

import pytest
import torch
from boxel.models.regions import RegionConfig, RegionDetection, default_pool_size

from boxel.models import ModelConfig
from boxel.ops import encode, iou
from boxel.recipes import get_recipe
from boxel.types import Detections, Task
from tests.unit.builders import make_batch, make_instances, make_task


def proposals(boxes: list, ndim: int) -> Detections:
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 2, ndim)
    return Detections(rows, torch.ones(len(rows)), torch.zeros(len(rows), dtype=torch.int64))


def cube(lower: float, upper: float, ndim: int) -> list:
    return [[lower] * ndim, [upper] * ndim]


def detection(task: Task, **choices) -> tuple[RegionDetection, list[torch.Tensor]]:
    """A second stage with its pyramid of two images."""
    torch.manual_seed(0)
    config = RegionConfig(**{"filters": 8, "pool_size": (2,) * task.ndim, **choices})
    pyramid = [torch.randn(2, 4, *(24 // stride[0],) * task.ndim) for stride in task.level_strides]
    return RegionDetection(task, 4, config), pyramid


def test_positives_belong_to_the_object_they_overlap_and_negatives_to_none(ndim):
    task = make_task(ndim)
    part, pyramid = detection(task, per_image=8, positive=0.5, negative=0.3)
    truth = [
        make_instances([cube(2, 8, ndim), cube(12, 20, ndim)], [1, 0], ndim),
        make_instances([cube(4, 10, ndim)], [0], ndim),
    ]
    near = [cube(2, 8.5, ndim), cube(12, 19, ndim), cube(11.5, 20, ndim), cube(2, 7.8, ndim), cube(12, 19.9, ndim)]
    far = [cube(20, 23, ndim)] * 20
    regions = part.sample(pyramid, [proposals(near + far, ndim), proposals(far, ndim)], truth)
    objects = torch.cat([found.boxes for found in truth])
    labels = torch.cat([found.labels for found in truth])
    positive = regions.labels >= 0
    assert (regions.images.bincount() == 8).all()
    assert ((regions.images == 0) & positive).sum() == 4  # half, though there are seven
    assert torch.equal(regions.labels[positive], labels[regions.objects[positive]])
    overlap = iou(regions.boxes, objects)
    assert (overlap[positive, regions.objects[positive]] >= 0.5).all()
    assert (overlap[~positive].amax(1) < 0.3).all()
    assert regions.objects[positive & (regions.images == 1)].tolist() == [2]  # the annotated box itself


@pytest.mark.parametrize("add_truth", [True, False])
def test_annotated_boxes_are_candidates_where_asked_for(ndim, add_truth):
    part, pyramid = detection(make_task(ndim), add_truth=add_truth)
    truth = [make_instances([cube(2, 8, ndim)], [1], ndim), make_instances([], [], ndim)]
    regions = part.sample(pyramid, [proposals([cube(15, 20, ndim)], ndim)] * 2, truth)
    assert (regions.labels >= 0).sum() == add_truth
    assert (regions.labels[regions.images == 1] == -1).all()


def test_hard_negatives_are_as_many_as_positives_and_drawn_from_the_best_scores(ndim, monkeypatch):
    part, pyramid = detection(make_task(ndim), negatives="hard", pool_factor=3, negative=0.1)
    far = [cube(15, 16 + step / 10, ndim) for step in range(50)]
    truth = [make_instances([cube(1, 6, ndim)], [0], ndim)]

    def larger_is_harder(pyramid, boxes, images):
        extent = (boxes[:, 1] - boxes[:, 0])[:, 0]
        logits = torch.stack([torch.zeros_like(extent), extent, torch.zeros_like(extent)], 1)
        return logits, torch.zeros(len(boxes), 3, 2, ndim)

    monkeypatch.setattr(part, "forward", larger_is_harder)
    regions = part.sample(pyramid, [proposals([cube(1, 6, ndim), *far], ndim)], truth)
    positive, negative = regions.labels >= 0, regions.labels < 0
    assert positive.sum() == 2  # the proposal, and the annotated box
    assert negative.sum() == 2
    assert (regions.boxes[negative][:, 1, 0] >= 16 + 44 / 10 - 1e-4).all()  # of the 6 hardest


def test_a_region_moves_by_the_deltas_of_the_class_it_is_found_as(ndim, monkeypatch):
    task = make_task(ndim)
    part, pyramid = detection(task, min_score=0.5)
    start = torch.tensor([cube(4.0, 10.0, ndim)])
    targets = torch.tensor([cube(0.0, 1.0, ndim), cube(3.0, 9.0, ndim), cube(5.0, 12.0, ndim)])
    deltas = encode(targets, start.expand(3, 2, ndim), part.std)[None]
    monkeypatch.setattr(part, "forward", lambda *_: (torch.tensor([[0.0, 0.0, 5.0]]), deltas))
    found = part.detect(pyramid, [proposals(start.tolist(), ndim)], (24,) * ndim)[0]
    assert found.labels.tolist() == [1]
    assert torch.allclose(found.boxes, targets[2:], atol=1e-4)


def test_no_region_at_all_costs_nothing(ndim):
    part, pyramid = detection(make_task(ndim), negative=0.0)
    terms, regions = part.loss(pyramid, [proposals([], ndim)] * 2, [make_instances([], [], ndim)] * 2)
    assert len(regions.boxes) == 0
    assert all(term == 0 for term in terms.values())


def test_regions_are_pooled_to_cells_in_proportion_to_the_anchors():
    flat = make_task(2)
    cubes = make_task(3)
    plates = make_task(3, anchors=(((2.0, 16.0, 16.0),), ((4.0, 32.0, 32.0),)))
    assert default_pool_size(flat) == (7, 7)
    assert default_pool_size(cubes) == (5, 5, 5)
    assert default_pool_size(plates) == (2, 11, 11)


def small_paper_model(name: str, recipe: str) -> ModelConfig:
    """The papers' form of a model, narrow."""
    narrow = {"backbone": {"depth": 10, "start_filters": 4}, "pyramid_filters": 8}
    values = get_recipe(recipe, name).model.to_dict()
    values["backbone"] |= narrow.pop("backbone")
    values |= narrow
    for part, changes in {"dense": {"filters": 8}, "rpn": {"filters": 8}, "regions": {"filters": 8}}.items():
        if part in values:
            values[part] |= changes
    return ModelConfig.from_dict(values)


@pytest.mark.parametrize("name", sorted(ModelConfig.registry))
@pytest.mark.parametrize("recipe", ["mdt_toy", "mdt_lidc_3d", "small"])
def test_every_parameter_learns(name, recipe):
    """Nothing is built that no loss term reaches, in the papers' form and in ours."""
    config = get_recipe(f"{name}_small").model if recipe == "small" else small_paper_model(name, recipe)
    ndim = 3 if recipe.endswith("3d") else 2
    anchors = tuple(((width,) * ndim,) * 9 for width in (8.0, 14.0))
    task = make_task(ndim, size=32, anchors=anchors)
    torch.manual_seed(0)
    model, batch = config.build(task), make_batch(task, 2)
    terms = model(batch.images, batch)
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(term) for term in terms.values())
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
