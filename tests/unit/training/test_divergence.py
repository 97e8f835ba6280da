"""A training whose loss is no longer finite: a clear error, and a state from which it resumes."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from boxel.api.run import RunSplit, start_run
from boxel.datasets.formats import open_dataset
from boxel.loading import loader
from boxel.preparation.plan import PlanConfig
from boxel.preparation.prepare import prepare
from boxel.preparation.store import Store
from boxel.recipes import get_recipe
from boxel.training import loop
from boxel.training.checkpoints import load_resume, save_resume
from boxel.training.config import TrainConfig
from boxel.training.divergence import DivergedError, may_change
from boxel.training.tensors import load_weights
from tests.unit.builders import MODELS

CONFIG = TrainConfig(steps=6, batch_size=2, warmup=0, validate_every=2, save_every=2, accelerator="cpu", num_workers=0)
SPLIT = RunSplit(train=("a", "b", "c"), val=(), work="work", fold=0)


@pytest.fixture
def store(native, tmp_path) -> Store:
    return prepare(open_dataset(native), tmp_path / "work", PlanConfig(), workers=0)


@pytest.fixture
def bad_at(monkeypatch):
    """The images of a step, from 1, become NaN; returns a function that chooses it."""
    steps = []

    def batches(*args, **kwargs):
        for step, batch in enumerate(loader.batches(*args, **kwargs), start=args[2] + 1):
            yield replace(batch, images=batch.images * float("nan")) if step in steps else batch

    monkeypatch.setattr(loop, "batches", batches)
    return steps.append


def train(run, store, config=CONFIG):
    done = []
    loop.train(
        run, store, list(SPLIT.train), store.task, MODELS["retina_net"], config,
        seed=3, validate=lambda model: {}, on_step=lambda step, _: done.append(step),
    )  # fmt: skip
    return done


def test_the_error_names_step_cases_terms_and_what_to_try_and_the_state_before_is_kept(store, tmp_path, bad_at):
    bad_at(4)
    run = tmp_path / "run"
    with pytest.raises(DivergedError) as error:
        train(run, store)
    message = str(error.value)
    for part in ("at step 4 (", "class nan", "box ", "learning rate 0.00", "train.lr=0.0001", "boxel check", str(run)):
        assert part in message
    assert any(f"cases {one}, {other}" in message for one in "abc" for other in "abc")
    assert message.endswith("the training goes on after step 2, whose state is kept")
    assert "\n" not in message
    model = MODELS["retina_net"].build(store.task)
    load_weights(model, run / "weights.safetensors")  # what predicts
    assert all(value.isfinite().all() for value in load_file(run / "resume.safetensors").values())


def test_it_resumes_with_a_lower_learning_rate_from_the_state_before(store, tmp_path, bad_at, monkeypatch):
    run, experiment = tmp_path / "run", get_recipe("retina_net").override(["train.lr=0.1"])
    lower = experiment.override(["train.lr=0.01", "train.clip_norm=1", "train.precision=fp32"])
    start_run(run, experiment, store.task, SPLIT)
    with pytest.raises(ValueError, match="other choices"):
        start_run(run, lower, store.task, SPLIT)
    bad_at(4)
    with pytest.raises(DivergedError):
        train(run, store)
    with pytest.raises(ValueError, match="other choices"):
        start_run(run, lower.override(["train.save_every=7"]), store.task, SPLIT)
    start_run(run, lower, store.task, SPLIT)
    assert json.loads((run / "config.json").read_text())["train"]["lr"] == 0.01
    [record] = json.loads((run / "diverged.json").read_text())
    assert (record["step"], record["saved"], record["lr"]) == (4, 2, CONFIG.lr)
    monkeypatch.undo()
    assert train(run, store, CONFIG.model_copy(update={"lr": 1e-5})) == [3, 4, 5, 6]
    assert not may_change(run)  # it came past the step
    with pytest.raises(ValueError, match="other choices"):
        start_run(run, experiment, store.task, SPLIT)


def test_before_the_first_saved_state_it_begins_anew(store, tmp_path, bad_at):
    bad_at(1)
    with pytest.raises(DivergedError, match=r"at step 1 .* the training begins anew$"):
        train(tmp_path / "run", store)


def test_weights_that_are_not_finite_are_neither_saved_nor_ranked(store, tmp_path, monkeypatch):
    """A finite loss whose gradient is not: the weights of the step are lost, and its loss does not show it."""
    step = loop.train_step

    def spoilt(trainer, batch, number, *args):
        measured = step(trainer, batch, number, *args)
        if number == 3:
            next(trainer.model.parameters()).data[0] = float("inf")
        return measured

    monkeypatch.setattr(loop, "train_step", spoilt)
    with pytest.raises(DivergedError, match=r"the state is not finite after step 4 \(\d+ tensors?, such as model/"):
        train(tmp_path / "run", store)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("*.safetensors")] == [
        "step_000002.safetensors"
    ]
    monkeypatch.undo()
    assert train(tmp_path / "run", store) == [3, 4, 5, 6]


def test_an_infinite_buffer_of_a_plugin_is_no_divergence(tmp_path):
    model = torch.nn.Linear(2, 2)
    model.register_buffer("mask", torch.full((2, 2), -torch.inf))
    state = (model, torch.optim.SGD(model.parameters(), 0.1), None, torch.amp.GradScaler("cpu", enabled=False))
    save_resume(tmp_path, 4, *state)
    assert load_resume(tmp_path, *state) == 4
