"""Every registered model passes the public check, and learns eight images by heart."""

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
    values = get_recipe(recipe, name).model.to_dict()
    for part in values.keys() & narrow.keys():
        values[part] |= narrow[part]
    check_model(ModelConfig.from_dict(values), [ndim])
