"""L-SNet: what its parts compute, by hand; the sizes of the paper."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from boxel.models import LSNet, ResNetConfig, SemanticNetConfig, UNet, UNetConfig
from boxel.models.l_net import LNetConfig, LNetOutputs
from boxel.models.lsnet import LSNetOutputs, sample_labels
from boxel.nn import nd
from tests.unit.builders import make_batch, make_task, tiny


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_l_net_has_as_many_parameters_as_in_the_paper():
    """Table 3: 14.50 million, and 14.33 million for the U-Net on a ResNet-18."""
    assert count(LSNet(2, 3, 1).first) == pytest.approx(14.50e6, abs=0.02e6)
    unet = UNetConfig(net=SemanticNetConfig(backbone=ResNetConfig(depth=18, start_filters=64, norm="batch")))
    assert count(UNet(2, 3, 1, config=unet)) == pytest.approx(14.33e6, abs=0.02e6)


def l_net_outputs(model: torch.nn.Module, logits: torch.Tensor, distances: torch.Tensor) -> LNetOutputs:
    """Outputs of an L-Net that predicts `distances (b, 2, d, *cells)` in voxels, with a stride of 4."""
    width = distances.shape[1] * distances.shape[2]
    model.boxes[-1] = nd.CONV[distances.shape[2]](width, width, 1)
    torch.nn.init.dirac_(model.boxes[-1].weight)
    torch.nn.init.zeros_(model.boxes[-1].bias)
    return LNetOutputs(logits, distances.flatten(1, 2) / 4)


def located(ndim: int, logits: torch.Tensor, distances: torch.Tensor, **changes: object):
    model = tiny("lsnet").build(make_task(ndim)).first
    model.config = model.config.model_copy(update=changes)
    return model.locate(l_net_outputs(model, logits, distances), (24,) * ndim)[0]


@pytest.mark.parametrize("kernel", [1, 3, 13])
def test_boxes_read_at_centres_are_those_between_the_boxes_of_all_cells(ndim, kernel):
    """The plain way: the convolution everywhere, then interpolation between cells, here by SciPy."""
    first = tiny("lsnet").first.model_copy(update={"box_kernel": kernel})
    model = tiny("lsnet").model_copy(update={"first": first}).build(make_task(ndim)).first.eval()
    torch.nn.init.normal_(model.boxes[-1].weight, std=0.1)
    with torch.inference_mode():
        outputs = model(torch.randn(1, 1, *(32,) * ndim))
        every = model.boxes[-1](outputs.features)[0].numpy() * 4  # the stride
        for cell in [[0.5] * ndim, [8 - 0.5] * ndim, [3.75, 0.6, 5.0][:ndim], [4.0] * ndim, [7.3, 2.1, 0.9][:ndim]]:
            at = np.reshape(cell, (ndim, 1)) - 0.5
            lower, upper = np.reshape([map_coordinates(one, at, order=1)[0] for one in every], (2, ndim))
            expected = np.stack([np.multiply(cell, 4) - lower, np.multiply(cell, 4) + upper])
            box = model._box_at(outputs.features[0], torch.tensor(cell))
            np.testing.assert_allclose(box.numpy(), expected, rtol=1e-5, atol=1e-4)


def test_a_component_of_the_heat_map_is_an_object_at_its_centre_with_its_highest_score(ndim):
    cells = (6,) * ndim
    logits = torch.full((1, 2, *cells), -9.0)
    logits[0, 1][(slice(2, 4), slice(1, 4), *[2] * (ndim - 2))] = 0.5
    logits[0, 1][(2, 2, *[2] * (ndim - 2))] = 2.0
    distances = torch.zeros(1, 2, ndim, *cells)
    distances[0, 0], distances[0, 1] = 3.0, 5.0  # 3 voxels to the lower faces, 5 to the upper ones
    distances[0, 1, 0][3] = 7.0  # read linearly between cells 2 and 3 of the first axis: 6
    found = located(ndim, logits, distances)
    centre = [4 * 3.0, 4 * 2.5, *[4 * 2.5] * (ndim - 2)]
    upper = [12 + 6.0, *[10 + 5.0] * (ndim - 1)]
    assert found.labels.tolist() == [1]
    assert found.scores.tolist() == pytest.approx([torch.tensor(2.0).sigmoid().item()])
    assert found.boxes[0, 0].tolist() == pytest.approx([c - 3 for c in centre])
    assert found.boxes[0, 1].tolist() == pytest.approx(upper)
    assert not len(located(ndim, logits, distances, min_score=0.9))


def test_inverted_boxes_are_dropped_and_the_others_clipped(ndim):
    logits = torch.full((1, 2, *(6,) * ndim), -9.0)
    logits[0, 0][(0,) * ndim] = logits[0, 0][(5,) * ndim] = 3.0
    distances = torch.full((1, 2, ndim, *(6,) * ndim), 9.0)
    distances[(0, 0, slice(None), *(5,) * ndim)] = -20.0
    found = located(ndim, logits, distances)
    assert found.boxes.tolist() == [[[0.0] * ndim, [11.0] * ndim]]


def test_a_region_is_the_box_with_its_margin_or_whole_voxels_inside_the_image(ndim):
    boxes = torch.tensor([[[3.2] * ndim, [9.6] * ndim], [[20.0] * ndim, [21.0] * ndim]])

    def region(**changes: object) -> torch.Tensor:
        config = tiny("lsnet").model_copy(update=changes)
        return config.build(make_task(ndim))._region(boxes, (24,) * ndim)

    soft = region(margin=2.5)
    assert soft[0].tolist() == [pytest.approx([0.7] * ndim), pytest.approx([12.1] * ndim)]
    assert soft[1].tolist() == [[16.0] * ndim, [25.0] * ndim]  # 4 voxels at least, and the margin
    crop = region(margin=2.5, region="crop")
    assert crop.tolist() == [[[0.0] * ndim, [13.0] * ndim], [[16.0] * ndim, [24.0] * ndim]]


class Fixed(torch.nn.Module):
    """A second stage that sees foreground where the image is bright."""

    def forward(self, images):
        return torch.logit(images[:, :1].clamp(1e-6, 1 - 1e-6))

    def probabilities(self, logits):
        return torch.cat([1 - logits.sigmoid(), logits.sigmoid()], 1)


def test_regions_are_segmented_and_pasted_back(ndim):
    model = tiny("lsnet").model_copy(update={"margin": 2.0, "region": "crop"}).build(make_task(ndim, ("cube",)))
    model.second = Fixed()
    image = torch.zeros(1, 1, *(24,) * ndim)
    image[(0, 0, *(slice(6, 12),) * ndim)] = 0.9
    image[(0, 0, *(slice(18, 20),) * ndim)] = 0.9  # outside the region
    box = torch.tensor([[[6.0] * ndim, [12.0] * ndim]])
    maps = model.segment_boxes(image, [box])
    inside = maps[(0, 1, *(slice(7, 11),) * ndim)]
    assert inside.min() > 0.85
    assert maps[(0, 1, *(slice(14, None),) * ndim)].max() == 0
    assert torch.allclose(maps.sum(1), torch.ones_like(maps[:, 0]))
    assert (model.segment_boxes(image, [box[:0]])[:, 0] == 1).all()  # nothing located: background


def test_images_may_have_different_numbers_of_boxes(ndim):
    model = tiny("lsnet").build(make_task(ndim, ("cube",))).eval()
    boxes = torch.tensor([[[0.0] * ndim, [12.0] * ndim], [[4.0] * ndim, [16.0] * ndim]])
    images = torch.zeros(3, 1, *(24,) * ndim)
    for _ in range(10):  # shapes are checked on elements drawn at random
        assert model.segment_boxes(images, [boxes[:0], boxes, boxes[:1]]).shape == (3, 2, *(24,) * ndim)


def test_objects_that_the_number_of_regions_leaves_out_are_reported(ndim):
    model = tiny("lsnet").model_copy(update={"max_regions": 1}).build(make_task(ndim)).eval()
    logits = torch.full((1, 2, *(6,) * ndim), -9.0)
    logits[0, 0][(0,) * ndim] = 3.0
    first = l_net_outputs(model.first, logits, torch.full((1, 2, ndim, *(6,) * ndim), 4.0))
    one = LSNetOutputs(first, torch.zeros(1, 1, *(24,) * ndim), None, {})
    assert [(len(found), found.capped) for found in model.detect(one)] == [(1, False)]
    logits[0, 1][(5,) * ndim] = 2.0
    assert [(len(found), found.capped) for found in model.detect(one._replace(kept={}))] == [(1, True)]


def test_outputs_of_a_network_in_bf16_may_be_used_outside_autocast(ndim):
    torch.manual_seed(0)
    task = make_task(ndim)
    batch = make_batch(task, 2)
    config = tiny("lsnet")
    first = config.first.model_copy(update={"min_score": 0.0})
    model = config.model_copy(update={"first": first}).build(task)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model.infer(batch.images)
        proposed = model.infer(batch.images, phase="segment")
    assert all(torch.isfinite(term) for term in model.loss(outputs, batch).values())
    assert all(torch.isfinite(term) for term in model.loss(proposed, batch).values())
    assert len(model.eval().detect(outputs, masks=True)) == 2
    assert torch.isfinite(model.segment(outputs)).all()


def test_a_kernel_of_distances_without_a_middle_is_refused():
    with pytest.raises(ValueError, match="odd width"):
        LNetConfig(box_kernel=4)


def test_masks_and_a_segmentation_run_the_second_stage_once_on_each_region(ndim):
    """In either order, and as much as each of them alone gives; in two images with two objects and one."""
    torch.manual_seed(0)
    model = tiny("lsnet").build(make_task(ndim)).eval()
    logits = torch.full((2, 2, *(6,) * ndim), -9.0)
    logits[0, 0][(0,) * ndim] = logits[0, 1][(5,) * ndim] = logits[1, 1][(2,) * ndim] = 3.0
    first = l_net_outputs(model.first, logits, torch.full((2, 2, ndim, *(6,) * ndim), 4.0))
    images = torch.rand(2, 1, *(24,) * ndim)
    alone = model.detect(LSNetOutputs(first, images, None, {}), masks=True)
    maps = model.segment_boxes(images, [one.boxes for one in alone])
    calls = []
    model.second.register_forward_hook(lambda *_: calls.append(1))
    for order in ("masks", "segmentation"), ("segmentation", "masks"):
        calls.clear()
        outputs = LSNetOutputs(first, images, None, {})
        results = {
            what: model.detect(outputs, masks=True) if what == "masks" else model.segment(outputs) for what in order
        }
        assert len(calls) == 3
        assert torch.equal(results["segmentation"], maps)
        assert [len(one) for one in results["masks"]] == [2, 1]
        for one, other in zip(results["masks"], alone, strict=True):
            assert torch.equal(one.masks, other.masks)
    calls.clear()
    assert all(one.masks is None for one in model.detect(LSNetOutputs(first, images, None, {})))
    assert not calls


def test_a_box_beyond_the_image_segments_nothing(ndim):
    model = tiny("lsnet").model_copy(update={"margin": 0.0}).build(make_task(ndim)).eval()
    beyond = torch.tensor([[[40.0] * ndim, [50.0] * ndim]])
    maps = model.segment_boxes(torch.zeros(1, 1, *(24,) * ndim), [beyond])
    assert (maps[:, 0] == 1).all()


def test_where_regions_overlap_the_most_certain_one_counts(ndim):
    model = tiny("lsnet").model_copy(update={"margin": 0.0, "region": "crop"}).build(make_task(ndim, ("cube",)))
    answers = iter([0.6, 0.9, 0.7])
    model.second = torch.nn.Module()
    model.second.forward = lambda images: torch.full_like(images[:, :1], next(answers))
    model.second.probabilities = lambda p: torch.cat([1 - p, p], 1)
    boxes = torch.tensor([[[0.0] * ndim, [12.0] * ndim], [[4.0] * ndim, [16.0] * ndim], [[8.0] * ndim, [20.0] * ndim]])
    foreground = model.segment_boxes(torch.zeros(1, 1, *(24,) * ndim), [boxes])[0, 1]
    diagonal = foreground[tuple([torch.arange(24)] * ndim)]
    expected = [0.6] * 4 + [0.9] * 12 + [0.7] * 4 + [0.0] * 4
    assert diagonal.tolist() == pytest.approx(expected)


def test_the_target_of_a_region_is_the_true_mask_through_the_same_map(ndim):
    labels = torch.zeros(1, *(24,) * ndim, dtype=torch.int64)
    labels[(0, *(slice(8, 16),) * ndim)] = 2
    labels[0, 16:18] = -1
    region = torch.tensor([[[8.0] * ndim, [20.0] * ndim]])  # twice the resolution
    line = sample_labels(labels, region, 2)[(0, slice(None), *[8] * (ndim - 1))]
    assert line.tolist() == [2] * 16 + [-1] * 4 + [0] * 4
    beyond = torch.tensor([[[20.0] * ndim, [44.0] * ndim]])
    assert not sample_labels(labels, beyond, 2).any()


def one_step(gradient: float, ndim: int) -> dict[str, torch.Tensor]:
    """How far the weights of the first stage move in the second phase of a first step."""
    torch.manual_seed(0)
    model = tiny("lsnet").model_copy(update={"gradient": gradient}).build(make_task(ndim)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batch = make_batch(make_task(ndim), 2)
    for phase in model.phases:
        torch.manual_seed(1)
        loss = sum(model(batch.images, batch, phase=phase).values())
        before = {name: value.clone() for name, value in model.first.named_parameters()}
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return {name: value - before[name] for name, value in model.first.named_parameters()}


def test_the_second_phase_moves_the_first_stage_by_an_amount_that_depends_on_gamma(ndim):
    """With an optimiser of its own for each phase, the first step of Adam would not depend on gamma at all."""
    none, little, more = (one_step(gamma, ndim) for gamma in (0.0, 0.01, 0.1))
    assert not any(moved.any() for moved in none.values())
    difference = sum((more[name] - little[name]).abs().sum() for name in more)
    assert difference > 0.01 * sum(moved.abs().sum() for moved in more.values())


def test_gamma_0_cuts_the_gradient_to_the_first_stage(ndim):
    model, batch = (
        tiny("lsnet").model_copy(update={"gradient": 0.0}).build(make_task(ndim)),
        make_batch(make_task(ndim), 2),
    )
    sum(model(batch.images, batch, phase="segment").values()).backward()
    assert all(parameter.grad is None for parameter in model.first.parameters())
    assert all(parameter.grad is not None for parameter in model.second.parameters())


def test_while_warming_up_the_second_stage_learns_from_true_boxes(ndim):
    task = make_task(ndim)
    model, batch = tiny("lsnet").model_copy(update={"warmup_truth": 2}).build(task), make_batch(task, 4)
    proposed = torch.full((4, 2, ndim), -50.0)
    for _ in range(2):
        boxes = model._warm_up(proposed, batch)
        true = torch.cat([one.boxes for one in batch.instances])
        assert ((boxes - true).abs() < 0.6 * (true[:, 1] - true[:, 0]).amax()).all()
    assert model._warm_up(proposed, batch) is proposed
    again = tiny("lsnet").build(task)
    again.load_state_dict(model.state_dict())  # a resumed training continues to count
    assert again.steps == model.steps == 3
