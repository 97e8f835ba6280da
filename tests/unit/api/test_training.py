"""What `train` knows about how its data were prepared."""

import json
import math
import shutil

import pytest

import boxel
from boxel.api.prepared_with import as_prepared
from boxel.api.run import RunSplit, start_run
from boxel.recipes import get_recipe

RECIPE = "retina_unet_small"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared")
    boxel.make_toy(root / "toys", num_train=4, num_val=2, num_test=1, ndim=2, size=64)
    chosen = ["plan.spacing=[2.0,1.5]", "plan.max_detections=7"]
    return boxel.prepare(root / "toys", root / "work", recipe=RECIPE, overrides=chosen, workers=0)


def test_train_uses_the_settings_of_the_plan_that_prepare_was_given(store):
    experiment = as_prepared(store, RECIPE, None, ["train.steps=3", "plan.batch_size=5"])
    assert experiment.plan.spacing == (2.0, 1.5)
    assert (experiment.plan.max_detections, experiment.plan.batch_size, experiment.train.steps) == (7, 5, 3)
    assert as_prepared(store, RECIPE, None, ["plan.spacing=[2,1.5]"]).plan.spacing == (2.0, 1.5)


def test_train_without_a_recipe_repeats_what_prepare_was_given(store, tmp_path):
    assert as_prepared(store, "auto", None, ["train.steps=3"]) == get_recipe(RECIPE).override(
        ["plan.spacing=[2.0,1.5]", "plan.max_detections=7", "train.steps=3"]
    )
    settings = ["train.lr=0.5", "train.epochs=3"]
    boxel.prepare(store.path.parent / "toys", tmp_path, recipe="det_unet_small", overrides=settings, workers=0)
    other = boxel.Store(tmp_path)
    assert as_prepared(other, "auto", None, []) == get_recipe("det_unet_small").override(settings)
    assert as_prepared(other, "auto", None, ["train.steps=5"]).train.epochs is None
    assert as_prepared(other, "auto", "retina_net", []) == get_recipe("retina_net_small").override(settings)
    assert as_prepared(other, RECIPE, None, []) == get_recipe(RECIPE)


def test_a_complete_experiment_is_repeated_and_keeps_its_model(store, tmp_path):
    mine = get_recipe(RECIPE).override(["train.lr=0.25"])
    mine.save(tmp_path / "mine.json")
    for name, given in {"a": mine, "b": str(tmp_path / "mine.json")}.items():
        boxel.prepare(store.path.parent / "toys", tmp_path / name, recipe=given, workers=0)
    (tmp_path / "mine.json").unlink()
    for name in "ab":
        prepared = boxel.Store(tmp_path / name)
        assert as_prepared(prepared, "auto", None, []) == mine
        with pytest.raises(ValueError, match="the recipe is a complete experiment with the model 'retina_unet'"):
            as_prepared(prepared, "auto", "retina_net", [])


def test_a_recipe_chosen_by_hardware_is_chosen_again_when_the_training_starts(store, tmp_path, monkeypatch):
    settings = ["plan.max_detections=7", "train.lr=0.5"]
    boxel.prepare(store.path.parent / "toys", tmp_path, overrides=settings, workers=0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert as_prepared(boxel.Store(tmp_path), "auto", None, []) == get_recipe("retina_unet").override(settings)


def test_a_damaged_record_of_the_preparation_says_what_to_do(store, tmp_path):
    boxel.prepare(store.path.parent / "toys", tmp_path, workers=0)
    for text in ("", "{", "null", '{"recipe": 3}'):
        (tmp_path / "prepared_with.json").write_text(text)
        with pytest.raises(ValueError, match=r"prepared_with\.json.*run `boxel prepare` again"):
            boxel.train(tmp_path)


def test_a_training_that_cannot_start_leaves_no_run(store, tmp_path):
    """The folder would refuse the settings that are right."""
    boxes = tmp_path / "boxes"
    shutil.copytree(store.path, boxes)
    fingerprint = json.loads((boxes / "fingerprint.json").read_text())
    for case in fingerprint["cases"]:
        case["masks"] = 0
    (boxes / "fingerprint.json").write_text(json.dumps(fingerprint))
    with pytest.raises(ValueError, match="learns from masks alone"):
        boxel.train(boxes, tmp_path / "run", recipe="unet_small", overrides=["model.net.boxes_without_mask=ignore"])
    with pytest.raises(ValueError, match="change the colours of images with three channels"):
        boxel.train(store.path, tmp_path / "run", overrides=["train.augment.hue=0.1"])
    with pytest.raises(ValueError, match=r"train\.accelerator=cuda with train\.devices=99: torch .* finds \d+ such"):
        boxel.train(store.path, tmp_path / "run", overrides=["train.accelerator=cuda", "train.devices=99"])
    assert not (tmp_path / "run").exists()


def test_a_class_that_no_training_case_has_is_said_once(store, tmp_path, recwarn):
    boxes = tmp_path / "boxes"
    shutil.copytree(store.path, boxes)
    for name in ("fingerprint.json", "task.json"):
        record = json.loads((boxes / name).read_text())
        (boxes / name).write_text(json.dumps(record | {"classes": [*record["classes"], "unseen"]}))
    settings = ["train.sampler.order=balanced", "train.steps=1", "train.validate_every=1", "train.num_workers=0"]
    boxel.train(boxes, tmp_path / "run", overrides=settings)
    assert len([one for one in recwarn if "no training case has unseen" in str(one.message)]) == 1


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


def test_epochs_become_steps_when_the_training_starts(store, tmp_path, caplog):
    """An epoch has as many patches as cover the training images; one and a half of these, by twos."""
    training = store.splits[0].train
    quick = ["plan.patch_size=[32,32]", "plan.batch_size=2", "train.num_workers=0", "train.validate_every=1000"]
    shapes = [store.meta(case).shape for case in training]
    patches = sum(math.ceil(height / 32) * math.ceil(width / 32) for height, width in shapes)
    steps = round(1.5 * patches / 2)
    with caplog.at_level("INFO", "boxel"):
        run = boxel.train(store.path, tmp_path / "run", recipe=RECIPE, overrides=[*quick, "train.epochs=1.5"])
    assert f"1.5 epochs = {steps} steps of 2 patches ({patches} patches per epoch)" in caplog.messages
    values = json.loads((run / "config.json").read_text())["train"]
    assert (values["steps"], values["epochs"]) == (steps, None)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == steps
    written = (run / "metrics.jsonl").read_bytes()
    for same in ("train.epochs=1.5", f"train.steps={steps}"):
        boxel.train(store.path, run, recipe=RECIPE, overrides=[*quick, same])
        assert (run / "metrics.jsonl").read_bytes() == written
    with pytest.raises(ValueError, match="started with other choices"):
        boxel.train(store.path, run, recipe=RECIPE, overrides=[*quick, "train.epochs=2"])


def test_steps_replace_the_epochs_of_a_recipe_and_both_at_once_are_refused():
    by_epochs = get_recipe(RECIPE).override(["train.epochs=60"])
    assert by_epochs.train.epochs == 60
    assert type(by_epochs).from_dict(by_epochs.to_dict()) == by_epochs
    by_steps = by_epochs.override(["train.steps=7"])
    assert (by_steps.train.steps, by_steps.train.epochs) == (7, None)
    assert by_steps.override(["train.epochs=2"]).train.epochs == 2
    with pytest.raises(ValueError, match=r"train\.steps and train\.epochs .*; set one of them"):
        by_epochs.override(["train.epochs=2", "train.steps=3"])
    with pytest.raises(ValueError, match=r"epochs.*greater than 0"):
        by_epochs.override(["train.epochs=0"])
