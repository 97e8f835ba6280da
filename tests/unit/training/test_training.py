"""The loop: reproducible, resumable at any step, ranked checkpoints."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from boxel.datasets.formats import open_dataset
from boxel.preparation.plan import PlanConfig
from boxel.preparation.prepare import prepare
from boxel.preparation.store import Store
from boxel.training.checkpoints import (
    keep_best,
    load_resume,
    read_ranking,
    save_resume,
)
from boxel.training.config import TrainConfig
from boxel.training.loop import train
from boxel.training.optimise import MovingAverage, build_optimizer, learning_rate
from tests.unit.builders import MODELS

FAST = TrainConfig(steps=6, batch_size=2, warmup=1, validate_every=3, save_every=2, average=0.9, accelerator="cpu")


class StoppedError(Exception):
    pass


@pytest.fixture
def store(native, tmp_path) -> Store:
    return prepare(open_dataset(native), tmp_path / "work", PlanConfig(), workers=0)


def run_training(run: Path, store: Store, config: TrainConfig = FAST, stop_at: int | None = None, finish=None) -> dict:
    def on_step(step: int, measured: dict) -> None:
        if step == stop_at:
            raise StoppedError

    train(
        run, store, ["a", "b", "c"], store.task, MODELS["retina_unet"], config,
        seed=3, validate=lambda model: {"AP@0.10": 0.5}, on_step=on_step, finish=finish,
    )  # fmt: skip
    return {line["step"]: line["loss"] for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_training_stopped_at_any_step_ends_like_an_uninterrupted_one(store, tmp_path, optimizer):
    config = FAST.model_copy(update={"optimizer": optimizer})
    whole = run_training(tmp_path / "whole", store, config)
    for stop_at in (1, 3, 5):
        run = tmp_path / f"stopped{stop_at}"
        with pytest.raises(StoppedError):
            run_training(run, store, config, stop_at=stop_at)
        assert run_training(run, store, config) == whole
        for name in ("weights.safetensors", "resume.safetensors"):
            assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("ndim", [2], indirect=True, ids=["2d"])
def test_whether_other_programs_keep_the_cores_busy_is_asked_once(store, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("boxel.training.loop.STEPS_TO_JUDGE", 2)
    monkeypatch.setattr("boxel.training.loop.warn_if_busy", asked.append)
    run_training(tmp_path / "run", store)
    assert asked == [torch.get_num_threads()]


@pytest.mark.parametrize("end", [{"steps": 3}, {"steps": 500, "max_seconds": 0.001}], ids=["steps", "seconds"])
def test_a_training_stopped_after_its_last_step_is_finished_without_another(store, tmp_path, end):
    def stop(model):
        raise StoppedError

    config, finished = FAST.model_copy(update=end), []
    with pytest.raises(StoppedError):
        run_training(tmp_path / "run", store, config, finish=stop)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    run_training(tmp_path / "run", store, config, finish=finished.append)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    assert len(finished) == 1


@pytest.mark.parametrize("setting", [{"precision": "bf16"}, {"devices": 1, "num_workers": 1}], ids=str)
@pytest.mark.parametrize("ndim", [2], indirect=True, ids=["2d"])
def test_precision_and_workers_change_little(store, tmp_path, setting):
    config = FAST.model_copy(update={"steps": 3})
    plain = run_training(tmp_path / "plain", store, config)
    other = run_training(tmp_path / "other", store, config.model_copy(update=setting))
    assert other == pytest.approx(plain, rel=0.1)


def test_the_gradient_scaler_of_fp16_resumes(tmp_path):
    """It halves its scale on an overflow and doubles it after `growth_interval` good steps; both are remembered."""

    def training() -> tuple:
        model = torch.nn.Linear(2, 1)
        return model, torch.optim.SGD(model.parameters(), 0.1), None, torch.amp.GradScaler("cpu", growth_interval=3)

    def step(model, optimizer, average, scaler, factor):
        optimizer.zero_grad()
        scaler.scale(factor * model(torch.ones(1, 2)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    begun, resumed = training(), training()
    for factor in (float("inf"), 1.0, 1.0):
        step(*begun, factor)
    save_resume(tmp_path, 3, *begun)
    assert load_resume(tmp_path, *resumed) == 3
    assert resumed[-1].get_scale() == 2.0**15
    step(*resumed, 1.0)  # the third good step
    assert resumed[-1].get_scale() == 2.0**16


def test_a_state_without_a_gradient_scaler_resumes(tmp_path):
    """As those of fp32 and bf16 have none."""
    model = torch.nn.Linear(2, 1)
    for enabled in (False, True):
        state = (model, torch.optim.SGD(model.parameters(), 0.1), None)
        save_resume(tmp_path, 5, *state, torch.amp.GradScaler("cpu", enabled=False))
        assert load_resume(tmp_path, *state, torch.amp.GradScaler("cpu", enabled=enabled)) == 5


def test_another_seed_gives_another_training(store, tmp_path):
    losses = [
        train(
            tmp_path / str(seed), store, ["a", "b"], store.task, MODELS["retina_net"],
            FAST.model_copy(update={"steps": 1}),
            seed=seed, validate=lambda model: {}, on_step=lambda step, measured: None,
        )
        or json.loads((tmp_path / str(seed) / "metrics.jsonl").read_text())["loss"]
        for seed in (0, 1)
    ]  # fmt: skip
    assert losses[0] != losses[1]


def test_the_best_checkpoints_are_kept_and_ranked(tmp_path):
    for step, score in enumerate([0.2, 0.9, 0.5, 0.7], start=1):
        keep_best(tmp_path, {"w": torch.tensor([float(step)])}, step, score, keep=2)
    assert [(entry.step, entry.score) for entry in read_ranking(tmp_path)] == [(2, 0.9), (4, 0.7)]
    assert sorted(p.name for p in (tmp_path / "checkpoints").glob("*.safetensors")) == [
        "step_000002.safetensors",
        "step_000004.safetensors",
    ]
    best = (tmp_path / "checkpoints" / "step_000002.safetensors").read_bytes()
    assert (tmp_path / "weights.safetensors").read_bytes() == best


def test_the_learning_rate_rises_then_falls_to_zero():
    config = TrainConfig(steps=100, warmup=10, lr=1.0)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == max(rates[9:12])
    assert rates[-1] < 0.02


def test_a_time_limit_ends_a_training_and_its_schedule_follows_the_time(store, tmp_path, monkeypatch):
    ticks = itertools.count(0, 0.1)
    monkeypatch.setattr("boxel.training.loop.time.perf_counter", lambda: next(ticks))
    config = FAST.override(["steps=100000", "max_seconds=0.5", "schedule=cosine"])
    losses = run_training(tmp_path / "run", store, config)
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [step["seconds"] for step in log] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert "val/AP@0.10" in log[-1]
    assert (tmp_path / "run" / "weights.safetensors").exists()
    assert len(losses) == 5
    assert learning_rate(config, step=10, seconds=0.25) == pytest.approx(config.lr / 2, rel=1e-3)


def test_biases_and_norms_are_not_decayed(store):
    groups = build_optimizer(MODELS["retina_net"].build(store.task), FAST).param_groups
    assert groups[0]["weight_decay"] > 0
    assert groups[1]["weight_decay"] == 0
    assert all(p.ndim <= 1 for p in groups[1]["params"])


def test_the_moving_average_follows_the_weights():
    layer = torch.nn.Linear(2, 2)
    average = MovingAverage(layer, decay=0.9)
    target = layer.weight.detach().clone() + 1
    with torch.no_grad():
        layer.weight.copy_(target)
    for step in range(200):
        average.update(layer, step)
    assert torch.allclose(average.state["weight"], target, atol=1e-4)
