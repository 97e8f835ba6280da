"""Callbacks of a training, and loggers; stand-ins take the place of libraries that are not installed."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

import boxel
from boxel.training import loggers as module
from boxel.training.loggers import observers_of
from tests.end_to_end.commands import QUICK

NAMES = ("tensorboard", "mlflow", "wandb")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    root = tmp_path_factory.mktemp("logged")
    boxel.make_toy(root / "data", num_train=4, num_val=2, num_test=1, size=64)
    boxel.prepare(root / "data", root / "work", recipe="retina_unet_small", overrides=QUICK, workers=0)
    return root / "work"


@pytest.fixture
def logged(monkeypatch):
    """Modules with the functions that Boxel calls, as their documentation has them; what they are called with."""
    logged = {name: [] for name in NAMES}

    class SummaryWriter:
        def __init__(self, log_dir, purge_step):
            logged["tensorboard"].append(("start", log_dir, purge_step))

        def add_scalar(self, tag, value, step):
            logged["tensorboard"].append((step, tag))

        def close(self):
            logged["tensorboard"].append(("end",))

    def start_run(run_id, run_name):
        logged["mlflow"].append(("start", run_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="m1"))

    class Run:
        id = "w1"

        def log(self, values, step):
            logged["wandb"].extend((step, key) for key in values)

        def finish(self):
            logged["wandb"].append(("end",))

    def init(id, resume, name, dir, config):  # noqa: A002
        logged["wandb"].append(("start", id, config["train"]["steps"]))
        return Run()

    mlflow = {
        "start_run": start_run,
        "log_params": lambda values: logged["mlflow"].append(("params", values["train.steps"])),
        "log_metrics": lambda values, step: logged["mlflow"].extend((step, key) for key in values),
        "end_run": lambda: logged["mlflow"].append(("end",)),
    }
    parts = {"torch.utils.tensorboard": {"SummaryWriter": SummaryWriter}, "mlflow": mlflow, "wandb": {"init": init}}
    for name, content in parts.items():
        stand_in = ModuleType(name)
        vars(stand_in).update(content)
        monkeypatch.setitem(sys.modules, name, stand_in)
    monkeypatch.setattr(module, "find_spec", lambda name: name in NAMES)
    return logged


def test_callbacks_get_steps_and_validations_and_loggers_both_also_when_resumed(work, tmp_path, logged):
    steps, validations, run = [], [], tmp_path / "run"

    def stop(step, metrics):
        steps.append((step, metrics["loss"] > 0, "val/AP@0.10" in metrics))
        if step == 5:
            raise KeyboardInterrupt

    words = {"recipe": "retina_unet_small", "overrides": QUICK, "logger": ["auto", "mlflow", "wandb"]}
    with pytest.raises(KeyboardInterrupt):
        boxel.train(work, run, **words, on_step=stop)
    boxel.train(work, run, **words, on_validation=lambda step, metrics: validations.append((step, *metrics)))
    assert steps == [(step, True, False) for step in range(1, 6)]
    assert validations == [(8, "AP@0.10", "AP@0.50", "mAP@0.10:0.50")]
    first, resumed = [("start", str(run / "tensorboard"), step) for step in (1, 5)]
    assert first in logged["tensorboard"]
    assert resumed in logged["tensorboard"]
    assert logged["mlflow"][:2] == [("start", None, "run"), ("params", "8")]
    assert [one for one in logged["mlflow"] if one[0] == "start"][1] == ("start", "m1", None)
    assert [one for one in logged["wandb"] if one[0] == "start"] == [("start", None, 8), ("start", "w1", 8)]
    for name, metric in (("tensorboard", "val/AP@0.10"), ("mlflow", "val/AP_0.10"), ("wandb", "val/AP@0.10")):
        assert {(1, "loss"), (8, "lr"), (8, metric)} <= set(logged[name])
        assert logged[name].count(("end",)) == 2
    assert json.loads((run / "loggers.json").read_text()) == {"mlflow": "m1", "wandb": "w1"}


def test_a_logger_that_is_unknown_or_not_installed_is_refused_before_anything_is_written(work, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    for name in NAMES:
        with pytest.raises(ValueError, match=rf"{name} is not installed; .* pip install 'boxel\[{name}\]'"):
            boxel.train(work, tmp_path / "run", logger=name)
    with pytest.raises(ValueError, match="--logger wandbb: unknown; did you mean 'wandb'"):
        boxel.train(work, tmp_path / "run", logger="wandbb")
    assert not (tmp_path / "run").exists()


def test_a_logger_that_fails_to_start_is_one_message(work, tmp_path, logged):
    sys.modules["wandb"].init = lambda **_: 1 / 0
    with pytest.raises(ValueError, match="--logger wandb: division by zero; correct this, or train with --logger none"):
        boxel.train(work, tmp_path / "run", recipe="retina_unet_small", overrides=QUICK, logger="wandb")


def test_no_logger_is_needed(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert observers_of("auto") == observers_of("none") == []
