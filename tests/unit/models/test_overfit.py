"""Every registered model passes the public check, and learns eight images by heart; L-SNet also their masks."""

import pytest
import torch

from boxel.models import ModelConfig
from boxel.recipes import get_recipe
from boxel.testing.models import WIDTHS, check_model, learn_by_heart
from tests.unit.builders import make_batch, make_task, tiny


@pytest.mark.parametrize("name", sorted(ModelConfig.registry))
def test_a_model_passes_the_public_check_and_learns_eight_images_by_heart(ndim, name):
    check_model(tiny(name), [ndim], overfit=True)


@pytest.mark.parametrize("name", sorted(ModelConfig.registry))
def test_a_model_learns_slices_with_their_neighbours_by_heart(name):
    torch.manual_seed(0)
    anchors = tuple(((width,) * 2,) for width in map(float, WIDTHS))
    task = make_task(2, size=16, strides=((2, 2),) * 2, levels=(1, 2), anchors=anchors, context=3)
    assert learn_by_heart(tiny(name).build(task), make_batch(task, 8, widths=WIDTHS), task.classes) == 1.0


@pytest.mark.parametrize("name", sorted(ModelConfig.registry))
@pytest.mark.parametrize(("recipe", "ndim"), [("mdt_toy", 2), ("mdt_lidc_3d", 3)], ids=["2d", "3d"])
def test_the_papers_form_of_a_model_passes_the_public_check(recipe, ndim, name):
    narrow = {"dense": {"filters": 8}, "rpn": {"filters": 8}, "roi": {"filters": 8}, "neck": {"filters": 8}}
    narrow["backbone"] = {"depth": 10, "start_filters": 4}
    if name == "yolov4":  # whose heads are as wide as the neck
        del narrow["dense"]
    values = get_recipe(recipe, name).model.to_dict()
    for part in values.keys() & narrow.keys():
        values[part] |= narrow[part]
    check_model(ModelConfig.from_dict(values), [ndim])


def segment_by_heart(ndim: int, decoder: str, steps: int) -> list[float]:
    """DSC of four images with a cube each, after training on them.

    The margin is 4 voxels, so that a cube of 8 spans 3 of an FCN's 6 cells per axis in its region: linear interpolation
    between 2 cells, of the default margin, cannot draw one with a DSC above 0.92 in 3D. The bumps of the heat map have
    a cell above one half wherever an object lies between cells, also in 3D.
    """
    torch.manual_seed(0)
    task, config = make_task(ndim, ("cube",)), tiny("lsnet")
    first = config.first.model_copy(update={"decoder": decoder, "delta": 2.0})
    second = config.second.model_copy(update={"decoder": decoder})
    model = config.model_copy(update={"first": first, "second": second, "margin": 4.0}).build(task)
    batch = make_batch(task, 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        for phase in model.phases:
            optimizer.zero_grad()
            sum(model.train()(batch.images, batch, phase=phase).values()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        schedule.step()
    seen = model.eval().segment(model.infer(batch.images)).argmax(1) > 0
    pairs = zip(seen, batch.label_maps > 0, strict=True)
    return [(2 * (one & true).sum() / (one.sum() + true.sum())).item() for one, true in pairs]


@pytest.mark.parametrize("decoder", ["unet", "fcn"])
@pytest.mark.parametrize("ndim", [2, pytest.param(3, marks=pytest.mark.slow)], ids=["2d", "3d"])
def test_l_snet_learns_the_segmentation_of_four_images_by_heart(ndim, decoder):
    steps = 600 if (ndim, decoder) == (3, "unet") else 150
    assert min(segment_by_heart(ndim, decoder, steps)) >= 0.98
