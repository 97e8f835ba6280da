"""A training with a budget of time or memory measures what it costs; a resumed one keeps what it measured."""

import json
import math

import numpy as np
import pytest

import boxel
from boxel.api import budget, fitting
from boxel.api.budget import plan_validations
from boxel.api.fitting import Cost, calibrate, fit, within_gpu
from boxel.api.planning import plan
from boxel.datasets.formats import open_dataset
from boxel.preparation.plan import plan as plan_task
from boxel.preparation.rules import RULES
from boxel.recipes import get_recipe
from boxel.training.config import TrainConfig
from boxel.training.cost import StepCost
from tests.unit.preparation.fingerprints import cubes, data

RECIPE = "retina_unet_small"
QUICK = ["plan.patch_size=[32,32]", "plan.batch_size=2", "train.num_workers=0", "predict.views=identity"]
MIB = 2**20


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("budget")
    boxel.make_toy(root / "toys", num_train=8, num_val=2, num_test=1, ndim=2, size=64)
    return boxel.prepare(root / "toys", root / "work", recipe=RECIPE, workers=0)


@pytest.fixture
def costs(monkeypatch):
    """Made-up costs: 100 MiB and 1 KiB per voxel; 0.5 s per step, 2 s per case; counts how often it is asked."""
    asked = []

    def made_up(function, *args, **kwargs):
        asked.append(function.__name__)
        if function.__name__ == "run_steps":
            patch, sizes = args[2].patch_size, args[5]
            voxels = [size * math.prod(patch) for size in sizes]
            return [StepCost(count, count / 2**16, 100 * MIB + 1024 * count, 50 * MIB) for count in voxels]
        return StepCost(2048, 0.5, 200 * MIB, 50 * MIB), 2.0

    monkeypatch.setattr(fitting, "in_child", made_up)
    monkeypatch.setattr(budget, "in_child", made_up)
    return asked


def train_config(run):
    return json.loads((run / "config.json").read_text())["train"]


@pytest.mark.parametrize(
    ("seconds", "cases", "all_cases", "keep", "expected"),
    [
        (0.1, 10, 10, 1, (10, 10, 1)),  # ten take 10 s of 90
        (1.5, 10, 10, 1, (6, 10, 1)),  # 15 s each
        (4.0, 10, 10, 1, (4, 5, 1)),  # four on all cases would take 160 s
        (100.0, 10, 10, 1, (1, 1, 1)),  # one case takes more than the share
        (0.5, 10, 40, 5, (10, 10, 2)),  # 40 s are for two kept checkpoints on all cases
        (4.0, 10, 40, 5, (4, 5, 1)),  # no time to validate kept ones on all cases
    ],
)
def test_validations_take_at_most_a_share_of_the_budget(seconds, cases, all_cases, keep, expected):
    found = plan_validations(TrainConfig(keep=keep), seconds, cases, all_cases, 600.0)
    assert (found.count, found.cases, found.keep) == expected
    assert found.seconds <= 0.15 * 600 or found.count == found.cases == 1
    assert found.seconds >= found.count * found.cases * seconds


def test_a_budget_becomes_steps_when_the_training_starts_and_a_rerun_resumes_with_them(store, tmp_path, costs, caplog):
    """Of 12 s, 95 % are planned; 15 % of that are for validations, on the one case that fits."""
    settings = [*QUICK, "train.budget=12s", "train.warmup=50"]
    with caplog.at_level("INFO", "boxel"):
        run = boxel.train(store.path, tmp_path / "run", recipe=RECIPE, overrides=settings)
    values = train_config(run)
    assert 15 <= values["steps"] <= 18
    assert values["budget"] == "12s"
    assert (values["validate_every"], values["validation_cases"]) == (values["steps"], 1)
    assert values["warmup"] == 1
    assert f"budget 12s: {values['steps']} steps of 0.5 s, 1 validation on 1 case of 2 s" in caplog.messages
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == values["steps"]
    assert json.loads(lines[-1])["lr"] < json.loads(lines[2])["lr"] / 5
    (run / "resume.safetensors").unlink()
    written = (run / "config.json").read_bytes()
    again = boxel.train(store.path, run, recipe=RECIPE, overrides=settings)
    assert (again / "config.json").read_bytes() == written
    assert costs == ["measure"]
    with pytest.raises(ValueError, match="started with other choices"):
        boxel.train(store.path, run, recipe=RECIPE, overrides=[*QUICK, "train.budget=1h"])


def test_a_training_is_the_same_with_and_without_the_measurement(store, tmp_path, monkeypatch):
    """The measurement is real here, and the training short."""
    monkeypatch.setattr(budget, "USED", 0.05)
    monkeypatch.setattr(budget, "LEAST_STEPS", 2)
    by_budget = boxel.train(store.path, tmp_path / "a", recipe=RECIPE, overrides=[*QUICK, "train.budget=60s"])
    values = train_config(by_budget)
    names = ("steps", "warmup", "validate_every", "validation_cases", "keep")
    same = [f"train.{name}={json.dumps(values[name])}" for name in names]
    by_steps = boxel.train(store.path, tmp_path / "b", recipe=RECIPE, overrides=[*QUICK, *same])
    assert values["steps"] >= 2
    assert (by_budget / "weights.safetensors").read_bytes() == (by_steps / "weights.safetensors").read_bytes()


def test_a_budget_that_is_too_short_says_how_long_it_has_to_be(store, tmp_path, costs):
    with pytest.raises(
        ValueError, match=r"train\.budget=3s is too short: a training step takes 0\.5 s .*at least 1min"
    ):
        boxel.train(store.path, tmp_path / "run", recipe=RECIPE, overrides=[*QUICK, "train.budget=3s"])
    assert not (tmp_path / "run").exists()


def test_a_day_of_a_gpu_needs_one(store, tmp_path, monkeypatch, costs):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for command in (boxel.train, plan):
        with pytest.raises(ValueError, match=r"train\.budget=gpu-day: torch .* finds no GPU .* such as 24h"):
            command(store.path, recipe=RECIPE, overrides=[*QUICK, "train.budget=gpu-day"])
    assert costs == []


def test_the_cost_is_a_straight_line_through_two_steps():
    cost = Cost(StepCost(1000, 1.0, 100_000, 0), StepCost(4000, 2.5, 160_000, 0))
    assert (cost.per_voxel, cost.fixed, cost.peak(10_000)) == (20, 80_000, 280_000)
    assert cost.seconds(10_000) == pytest.approx(5.5)
    level = Cost(StepCost(1000, 1.0, 100_000, 0), StepCost(4000, 0.9, 90_000, 0))
    assert level.peak(4000) == 90_000
    assert level.seconds(1000) > 0


@pytest.mark.parametrize("limit", [300, 600, 2000])
def test_the_largest_step_that_fits_the_memory_is_planned(costs, limit):
    fingerprint = data([(600, 600)] * 3, [(1.0, 1.0)] * 3, cubes(2, 10, 20, 30))
    fitted = fit(fingerprint, get_recipe(RECIPE).override([f"plan.memory={limit * MIB}", "plan.patch_extent=null"]))
    assert fitted.plan.voxels_per_step == (limit - 100) * 1024
    task = plan_task(fingerprint, fitted.plan)
    taken = task.batch_size * math.prod(task.patch_size)
    assert 0.5 * fitted.plan.voxels_per_step < taken <= fitted.plan.voxels_per_step or task.batch_size == 16
    assert "fit" in task.why["batch_size"]


def test_a_limit_that_not_even_one_patch_fits_is_refused(costs):
    fingerprint = data([(600, 600)] * 3, [(1.0, 1.0)] * 3, cubes(2, 10, 20, 30))
    for limit in (50, 101):
        with pytest.raises(ValueError, match=r"plan\.memory is .* MiB, but a training step takes .*retina_unet_small"):
            fit(fingerprint, get_recipe(RECIPE).override([f"plan.memory={limit * MIB}", "plan.patch_size=[512,512]"]))


def test_prepare_measures_once_and_train_takes_over_what_it_found(store, tmp_path, costs):
    toys, settings = store.path.parent / "toys", ["plan.memory=400MiB"]
    for _ in range(2):
        prepared = boxel.prepare(toys, tmp_path / "work", recipe=RECIPE, overrides=settings, workers=0)
    assert costs == ["run_steps"]
    short = ["train.steps=1", "train.validate_every=1", "train.num_workers=0"]
    run = boxel.train(prepared.path, overrides=short)
    values = json.loads((run / "config.json").read_text())["plan"]
    assert (values["memory"], values["voxels_per_step"]) == (400 * MIB, 300 * 1024)
    assert costs == ["run_steps"]
    other = boxel.train(prepared.path, tmp_path / "other", recipe="retina_net_small", overrides=short)
    assert costs == ["run_steps"] * 2
    boxel.train(prepared.path, other, recipe="retina_net_small", overrides=short)
    assert costs == ["run_steps"] * 2
    with pytest.raises(ValueError, match=r"prepared with plan\.memory=.*, but training"):
        boxel.train(prepared.path, tmp_path / "third", overrides=["plan.voxels_per_step=5000"])


def test_a_step_that_does_not_fit_the_gpu_becomes_smaller(costs, monkeypatch):
    fingerprint = data([(600, 600)] * 3, [(1.0, 1.0)] * 3, cubes(2, 10, 20, 30))
    experiment = get_recipe("retina_unet")
    assert within_gpu(fingerprint, experiment) == experiment
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)

    class Device:
        total_memory = 1000 * MIB

    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: Device)
    smaller = within_gpu(fingerprint, experiment).plan
    assert (smaller.memory, smaller.voxels_per_step) == (900 * MIB, 800 * 1024)
    Device.total_memory = 2**40
    assert within_gpu(fingerprint, experiment) == experiment


def test_a_step_is_measured_in_patches_that_any_machine_can_hold(monkeypatch):
    fingerprint = data([(512,) * 3] * 3, [(1.0,) * 3] * 3, cubes(3, 10, 20, 30))
    experiment, seen = get_recipe("retina_unet").override(["train.accelerator=cpu"]), []
    task = plan_task(fingerprint, experiment.plan)

    def made_up(function, made, ids, small, model, train, sizes, seconds):
        seen.extend((small.patch_size, size) for size in sizes)
        return [StepCost(size * math.prod(small.patch_size), 1.0, size, 0) for size in sizes]

    monkeypatch.setattr(fitting, "in_child", made_up)
    calibrate(task, experiment, 3)
    (patch, few), (_, many) = seen
    assert few < many
    assert many * math.prod(patch) <= 2**18 < math.prod(task.patch_size)
    assert not (np.array(patch) % np.prod(task.strides, axis=0)).any()


def test_plan_says_what_prepare_and_train_will_do_and_writes_nothing(store, costs):
    toys = store.path.parent / "toys"
    before = sorted(path.stat().st_mtime_ns for path in store.path.parent.rglob("*"))
    of_data = plan(toys, recipe=RECIPE)
    of_work = plan(store.path, recipe=RECIPE)
    assert of_data.task == of_work.task == store.task
    assert of_data.steps == get_recipe(RECIPE).train.steps
    values = of_data.to_dict()
    voxels = store.task.batch_size * math.prod(store.task.patch_size)
    assert values["memory"]["step"] == pytest.approx(100 * MIB + 1024 * voxels)
    assert values["seconds_per_step"] == pytest.approx(voxels / 2**16)
    assert json.loads(json.dumps(values)) == values
    assert plan(toys, recipe=RECIPE, overrides=["train.epochs=2"]).steps is None
    assert plan(store.path, recipe=RECIPE, overrides=["train.epochs=50"]).steps > 1
    longer, shorter = (plan(toys, recipe=RECIPE, overrides=[f"train.budget={time}"]).steps for time in ("2h", "1h"))
    assert longer == pytest.approx(2 * shorter, abs=1)
    assert plan(toys, recipe=RECIPE, overrides=["plan.memory=300MiB"]).experiment.plan.voxels_per_step == 200 * 1024
    assert sorted(path.stat().st_mtime_ns for path in store.path.parent.rglob("*")) == before


@pytest.mark.parametrize("prescribed", [True, False])
def test_data_of_few_patients_and_data_that_prescribe_folds_have_a_plan(prescribed, tmp_path, costs):
    data = boxel.make_toy(tmp_path / "toys", num_train=4, num_val=0, num_test=0, size=64)
    if prescribed:
        names = [case.id for case in open_dataset(data).cases]
        (data / "splits.json").write_text(json.dumps([{"train": names[:2], "val": names[2:3], "test": names[3:]}]))
    assert plan(data, recipe=RECIPE).task.ndim == 2


def test_every_choice_of_a_plan_has_a_rule(store):
    assert set(RULES) == set(store.task.why)
