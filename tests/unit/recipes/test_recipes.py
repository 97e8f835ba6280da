"""Recipes: complete experiments by name, for every model that is registered, and what the papers' reproduce."""

import json

import pytest

from boxel.models import DenseConfig, FPNConfig, ModelConfig, NeckConfig
from boxel.recipes import Experiment, get_recipe, recipes
from boxel.recipes.parts import model_with
from boxel.recipes.segmentation import small_recipe

OF_L_SNET = ("lsnet_unet", "lsnet_fcn", "unet", "attention_unet", "fcn", "coarse_to_fine_unet", "coarse_to_fine_fcn")


@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_recipe_survives_json_and_says_what_it_is(name):
    experiment = get_recipe(name)
    assert experiment.recipe == name
    assert Experiment.from_dict(json.loads(experiment.to_json())) == experiment
    assert recipes()[name].about
    of_paper = name.startswith(("mdt_", "paper_", "deeplesion_")) or name in OF_L_SNET
    of_paper = of_paper and name != "deeplesion_faster_rcnn_vgg"  # which its report only proposes
    assert of_paper == bool(experiment.reproduces)


def test_a_recipe_file_is_as_good_as_a_name(tmp_path):
    get_recipe("mdt_toy").override(["train.lr=0.5"]).save(tmp_path / "mine.json")
    assert get_recipe(tmp_path / "mine.json").train.lr == 0.5
    with pytest.raises(ValueError, match="did you mean 'mdt_toy'"):
        get_recipe("mdt_to")


def test_the_papers_recipes_have_the_published_settings():
    """Specification appendix A; 2.3 for the box coding; 6.4 for the clustering."""
    toy, volume = get_recipe("mdt_toy"), get_recipe("mdt_lidc_3d")
    assert toy.train.steps == 24 * 100
    assert volume.train.steps == 100 * 200
    assert toy.plan.batch_size == 20
    assert volume.plan.patch_size == (64, 128, 128)
    assert toy.train.lr == volume.train.lr == 1e-4
    assert toy.model.dense.class_loss.max_positives == 1
    assert volume.model.dense.class_loss.max_positives == 3
    assert volume.model.dense.matcher.negative == 0.01
    assert toy.consolidate.iou_threshold == 1e-5
    assert toy.consolidate.min_score == 0.01
    assert get_recipe("mdt_lidc_2dc").plan.context == 3
    assert get_recipe("mdt_lidc_2d").consolidate.merge_slices_iou == 0.1


@pytest.fixture
def registered():
    """A user's model, registered for one test."""

    class MineConfig(ModelConfig, name="mine"):
        """My detector."""

        dense: int = 3  # not what Boxel's models call so
        neck: NeckConfig = FPNConfig()

    yield MineConfig
    del ModelConfig.registry["mine"]


def test_a_model_that_is_registered_later_has_its_recipes(registered):
    assert recipes()["mine"].about == "My detector."
    for name, filters in {"mine": 128, "mine_small": 32}.items():
        experiment = get_recipe(name)
        assert experiment.recipe == name
        assert isinstance(experiment.model, registered)
        assert experiment.model.neck.filters == filters
        assert experiment.model.dense == 3
    assert get_recipe("mdt_toy", "mine").reproduces == ""
    assert get_recipe("mdt_lidc_3d", "mine").reproduces == ""


def test_a_part_that_a_model_lacks_is_refused():
    with pytest.raises(ValueError, match=r"model retina_net: unknown key 'rpn'"):
        ModelConfig.of_parts("retina_net", {"rpn": {}})
    with pytest.raises(ValueError, match="did you mean 'retina_net'"):
        ModelConfig.of_parts("retina_nett", {})
    with pytest.raises(ValueError, match=r"no model has the parts densee"):
        model_with("retina_net", {"densee": DenseConfig()})


@pytest.mark.parametrize(
    ("setting", "kept"),
    [
        ("seed=3", True),
        ("train.num_workers=2", True),
        ("train.precision=fp32", True),
        ("train.lr=0.0001", True),  # the paper's own
        ("train.lr=0.001", False),
        ("model.neck.filters=8", False),
        ('model.dense.class_loss={"type": "focal"}', False),
        ("predict.views=identity", False),
    ],
)
def test_a_claim_to_reproduce_survives_only_what_the_paper_leaves_open(setting, kept):
    assert bool(get_recipe("mdt_toy").override([setting]).reproduces) == kept
    assert not get_recipe("retina_unet").override([setting.replace("seed=3", "seed=4")]).reproduces


@pytest.mark.parametrize("size", [64, 160, 320])
def test_the_lengths_of_l_snet_scale_with_the_image(size):
    """Those of the paper are for 320 pixels: delta 20 (an area), beta 2, margins 7.5 and 15."""
    ratio = size / 320
    model = small_recipe("lsnet_unet", size).model
    assert (model.first.delta, model.first.beta, model.margin) == (20 * ratio**2, 2 * ratio, 7.5 * ratio)
    assert small_recipe("coarse_to_fine_fcn", size).model.margin == 15 * ratio
    assert small_recipe("unet", size).plan.patch_size == (size, size)
