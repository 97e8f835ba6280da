"""YOLOv4: its size, the coding of its boxes, which anchors learn which object, and its losses, by hand."""

import math

import pytest
import torch

from boxel import Batch, Instances, get_recipe
from boxel.inference.raw import Tiles
from boxel.models import CSPDarknetConfig, ModelConfig, PANConfig, PyramidGrid, YOLOHeadsConfig, YOLOv4
from boxel.nn import nd
from tests.unit.builders import make_task

DARKNET = [[(16, 12), (36, 19), (28, 40)], [(75, 36), (55, 76), (146, 72)], [(110, 142), (243, 192), (401, 459)]]


def tiny(ndim: int = 2, *, grid: PyramidGrid | None = None, classes: int = 2, **dense: object) -> YOLOv4:
    parts = {
        "backbone": CSPDarknetConfig(width=0.0625, depth=0.25, norm="group"),
        "neck": PANConfig(norm="group"),
        "dense": YOLOHeadsConfig(norm="group", **dense),
    }
    config = ModelConfig.of_parts("yolov4", parts)
    torch.manual_seed(0)
    return YOLOv4(ndim, 1, classes, config=config, grid=grid)


def grid_of(ndim: int, *levels: int) -> PyramidGrid:
    """One cube of one cell's width at every position."""
    return PyramidGrid.default(ndim, levels=levels, anchors=[[(2.0**k,) * ndim] for k in levels])


def batch_of(boxes: list, labels: list[int], shape: tuple[int, ...], ignored: list | None = None) -> Batch:
    regions = [] if ignored is None else [torch.tensor(ignored, dtype=torch.float32)]
    objects = Instances.from_boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 2, len(shape)), labels)
    return Batch(torch.zeros(1, 1, *shape), instances=[objects], ignored=regions)


def set_numbers(model: YOLOv4, batch: Batch, values: torch.Tensor):
    """Outputs that have the same numbers `(o,)` for every anchor."""
    outputs = model.infer(batch.images)
    return outputs._replace(numbers=values.expand_as(outputs.numbers).clone().requires_grad_())


@pytest.mark.parametrize(("ndim", "classes", "weights"), [(2, 80, 64_363_101), (2, 8, 63_975_381), (3, 2, 171_080_625)])
def test_it_has_the_weights_of_the_publication(ndim, classes, weights):
    with torch.device("meta"):
        model = YOLOv4(ndim, 3 if ndim == 2 else 1, classes, grid=PyramidGrid.default(ndim, levels=(3, 4, 5)))
    assert sum(parameter.numel() for parameter in model.parameters()) == weights
    assert sum(isinstance(layer, nd.CONV[ndim]) for layer in model.modules()) == 110


def test_the_small_object_variant_has_heads_on_strides_4_16_32():
    model = tiny(grid=PyramidGrid.default(2, levels=(2, 4, 5), anchors=DARKNET))
    outputs = model.infer(torch.zeros(1, 1, 64, 64))
    assert outputs.cells == [(16, 16), (4, 4), (2, 2)]


def test_boxes_are_decoded_as_in_darknet(ndim):
    """A centre of 0 is the middle of its cell; with a scale of 1.2 a far-off number leaves the cell by a tenth."""
    model = tiny(ndim, grid=grid_of(ndim, 3, 4))
    batch = batch_of([], [], (32,) * ndim)
    zero = set_numbers(model, batch, torch.zeros(2 * ndim + 3))
    boxes = zero.anchors.decode(zero.numbers)[0]
    assert boxes[0].tolist() == [[0.0] * ndim, [8.0] * ndim]  # of stride 8
    assert boxes[4**ndim].tolist() == [[0.0] * ndim, [16.0] * ndim]  # of stride 16
    assert boxes[1].tolist() == [[0.0] * (ndim - 1) + [8.0], [8.0] * (ndim - 1) + [16.0]]  # the last axis is fastest
    far = torch.tensor([100.0] * ndim + [math.log(2)] * ndim + [0.0] * 3)
    far = set_numbers(model, batch, far)
    boxes = far.anchors.decode(far.numbers)[0]
    torch.testing.assert_close(boxes[0], torch.tensor([[0.8] * ndim, [16.8] * ndim]))  # centre 8 x 1.1
    torch.testing.assert_close(boxes[4**ndim], torch.tensor([[0.8] * ndim, [32.8] * ndim]))  # 16 x 1.05, 32 wide


def test_an_object_pairs_with_its_best_anchor_and_those_of_similar_shape():
    """Shape IoU with squares of 8 and 16: a square of 10 has 0.64 and 0.39, one of 40 has 0.04 and 0.16."""
    model = tiny(grid=grid_of(2, 3, 4))
    objects = torch.tensor([[[11.0, 3.0], [21.0, 13.0]], [[0.0, 0.0], [40.0, 40.0]]])
    rows, index = model.match([(8, 8), (4, 4)], objects)
    # Centre (16, 8): cell (2, 1) of 8 x 8 and (1, 0) of 4 x 4; centre (20, 20): cell (1, 1) of 4 x 4 alone.
    assert list(zip(rows.tolist(), index.tolist(), strict=True)) == [(2 * 8 + 1, 0), (64 + 4, 0), (64 + 5, 1)]


def test_a_centre_on_the_far_border_belongs_to_the_last_cell(ndim):
    model = tiny(ndim, grid=grid_of(ndim, 3))
    rows, _ = model.match([(4,) * ndim], torch.tensor([[[28.0] * ndim, [36.0] * ndim]]))
    assert rows.tolist() == [4**ndim - 1]


def test_anchors_of_a_cell_are_adjacent():
    model = tiny(grid=PyramidGrid.default(2, levels=(3,), anchors=[[(8, 8), (8, 32), (32, 8)]]))
    rows, _ = model.match([(8, 8)], torch.tensor([[[16.0, 0.0], [24.0, 32.0]]]))  # centre (20, 16): cell (2, 2)
    assert rows.tolist() == [(2 * 8 + 2) * 3, (2 * 8 + 2) * 3 + 1]  # IoU 0.25 with the square, 1, and 0.14


def test_losses_by_hand():
    """All numbers 0: every box is its cell, every probability one half."""
    model = tiny(grid=grid_of(2, 3))
    batch = batch_of([[[0, 0], [8, 8]]], [1], (32, 32))
    terms = model.loss(set_numbers(model, batch, torch.zeros(7)), batch)
    assert terms["box"].item() == pytest.approx(0.0, abs=1e-6)  # the box is right
    assert terms["object"].item() == pytest.approx(16 * math.log(2), rel=1e-5)
    assert terms["class"].item() == pytest.approx(2 * math.log(2), rel=1e-5)  # two independent classes, one anchor
    moved = batch_of([[[0, 0], [8, 4]]], [1], (32, 32))
    terms = model.loss(set_numbers(model, moved, torch.zeros(7)), moved)
    # IoU 1/2; centres 2 apart of a hull of diagonal sqrt(128); aspect term: a = v / (1 - IoU + v).
    v = 4 / math.pi**2 * (math.atan(2) - math.atan(1)) ** 2
    ciou = 0.5 - 4 / 128 - v * v / (0.5 + v)
    assert terms["box"].item() == pytest.approx(0.07 * (1 - ciou), rel=1e-4)


def test_a_box_on_an_object_or_in_an_ignored_region_is_not_background():
    """Objects of 8 x 8 in the cell (0, 0) and, half of a cell further, in none of the anchors' places."""
    model = tiny(grid=grid_of(2, 3), ignore=0.3)
    batch = batch_of([[[4, 8], [12, 16]]], [0], (32, 32))  # centre (8, 12): cell (1, 1); IoU 1/3 with the one above
    outputs = set_numbers(model, batch, torch.zeros(7))
    assert model.loss(outputs, batch)["object"].item() == pytest.approx(15 * math.log(2), rel=1e-5)
    batch = batch_of([[[4, 8], [12, 16]]], [0], (32, 32), ignored=[[[16, 0], [32, 32]]])
    assert model.loss(outputs, batch)["object"].item() == pytest.approx(7 * math.log(2), rel=1e-5)


def test_two_objects_of_one_anchor_are_both_learnt():
    model = tiny(grid=grid_of(2, 3))
    batch = batch_of([[[0, 0], [8, 8]], [[0, 0], [8, 8]]], [0, 1], (32, 32))
    outputs = set_numbers(model, batch, torch.zeros(7))
    sum(model.loss(outputs, batch).values()).backward()
    gradient = outputs.numbers.grad[0, 0]
    assert gradient[4:].tolist() == pytest.approx([-0.5, -0.5, -0.5])  # objectness and both classes rise


def test_without_objects_only_objectness_is_learnt(ndim):
    model = tiny(ndim)
    batch = batch_of([], [], (32,) * ndim)
    terms = model(batch.images, batch)
    assert (terms["box"], terms["class"]) == (0, 0)
    assert terms["object"] > 0
    sum(terms.values()).backward()


def test_scores_are_objectness_times_class(ndim):
    model = tiny(ndim, grid=grid_of(ndim, 4)).eval()
    batch = batch_of([], [], (16,) * ndim)
    numbers = torch.tensor([0.0] * 2 * ndim + [math.log(3), math.log(4), -math.log(4)])  # 0.75; 0.8, 0.2
    [found] = model.detect(set_numbers(model, batch, numbers))
    assert found.scores.tolist() == pytest.approx([0.6, 0.15])
    assert found.labels.tolist() == [0, 1]
    assert found.boxes[0].tolist() == [[0.0] * ndim, [16.0] * ndim]


def test_few_boxes_are_expected_at_the_start():
    model = tiny()
    numbers = model.eval().infer(torch.zeros(1, 1, 64, 64)).numbers
    torch.testing.assert_close(numbers[..., 4].sigmoid().mean(), torch.tensor(0.01), atol=0.005, rtol=0)


def test_darknet_settings_are_those_of_its_file():
    """The network of `deeplesion_yolov4`, whose plan is fixed; the second has its finest head on stride 4."""
    for name, levels in {"deeplesion_yolov4": (3, 4, 5), "deeplesion_yolov4_fine": (2, 4, 5)}.items():
        experiment = get_recipe(name)
        assert (experiment.plan.levels, experiment.train.steps) == (levels, 16_000)
        grid = PyramidGrid(experiment.plan.strides, levels, experiment.plan.anchors)
        with torch.device("meta"):
            model = YOLOv4(2, 1, 8, config=experiment.model, grid=grid)
        assert model.infer(torch.zeros(1, 1, 64, 64, device="meta")).numbers.shape[-1] == 13  # of 39 outputs a cell


@pytest.mark.parametrize(("name", "pixels"), [("deeplesion_yolov4", 416), ("deeplesion_yolov4_fine", 1024)])
def test_the_networks_of_the_report_see_an_image_of_prediction_in_one_tile(name, pixels):
    experiment = get_recipe(name)
    patch = experiment.plan.patch_size
    task = make_task(2, strides=experiment.plan.strides, patch_size=patch)
    [scale] = experiment.predict.scales
    tiles = Tiles.at(scale, patch, task, experiment.predict)
    assert (tiles.shape, tiles.patch, tiles.starts) == ((pixels, pixels), (pixels, pixels), ((0,), (0,)))


def test_the_recipe_in_3d_is_a_quarter_as_wide():
    with torch.device("meta"):
        model = YOLOv4(3, 1, 2, config=get_recipe("yolov4_3d").model, grid=PyramidGrid.default(3, levels=(3, 4, 5)))
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(171_080_625 / 16, rel=0.01)
