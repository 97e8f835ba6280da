"""What `train` knows about how its data were prepared."""

import json

import pytest

import boxel
from boxel.api.run import RunSplit, start_run
from boxel.api.training import _as_prepared
from boxel.recipes import get_recipe

RECIPE = "retina_unet_small"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared")
    boxel.make_toy(root / "toys", num_train=4, num_val=2, num_test=1, ndim=2, size=64)
    chosen = ["plan.spacing=[2.0,1.5]", "plan.max_detections=7"]
    return boxel.prepare(root / "toys", root / "work", recipe=RECIPE, overrides=chosen, workers=0)


def test_train_uses_the_settings_of_the_plan_that_prepare_was_given(store):
    experiment = _as_prepared(store, get_recipe(RECIPE), ["train.steps=3", "plan.batch_size=5"])
    assert experiment.plan.spacing == (2.0, 1.5)
    assert (experiment.plan.max_detections, experiment.plan.batch_size, experiment.train.steps) == (7, 5, 3)
    assert _as_prepared(store, get_recipe(RECIPE), ["plan.spacing=[2,1.5]"]).plan.spacing == (2.0, 1.5)


def test_a_setting_that_contradicts_prepare_is_an_error_that_says_what_to_do(store):
    with pytest.raises(ValueError, match=r"prepared with plan\.max_detections=7.*use 9; leave out --set plan\."):
        boxel.train(store.path, recipe=RECIPE, overrides=["plan.max_detections=9"])


def test_a_recipe_that_does_not_fit_names_the_one_that_prepared(store):
    with pytest.raises(ValueError, match=rf"prepared with normalisation .*\(recipe '{RECIPE}'\).*recipe 'mdt_toy'"):
        boxel.train(store.path, recipe="mdt_toy")


def test_a_run_that_names_its_schedule_as_earlier_versions_did_is_resumed(store, tmp_path):
    split = RunSplit(train=("a",), val=(), work="work", fold=0)
    experiment = get_recipe(RECIPE)
    start_run(tmp_path, experiment, store.task, split)
    file = tmp_path / "config.json"
    values = json.loads(file.read_text())
    values["train"]["schedule"] = "poly"
    file.write_text(json.dumps(values))
    start_run(tmp_path, experiment, store.task, split)
    assert json.loads(file.read_text())["train"]["schedule"] == {"type": "poly"}
    with pytest.raises(ValueError, match=r"config\.json: this run was started with other choices"):
        start_run(tmp_path, experiment.override(["train.schedule=steps"]), store.task, split)
