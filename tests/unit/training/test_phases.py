"""Models of several phases: one optimiser step each, resumable, in several processes; batches reach them unchanged."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from boxel.datasets.formats import open_dataset
from boxel.preparation.plan import PlanConfig
from boxel.preparation.prepare import prepare
from boxel.preparation.store import Store
from boxel.training.loop import Sealed, set_up, train, train_step
from tests.unit.builders import MODELS, make_batch, make_task
from tests.unit.training.two_phases import FAST, TwoPhase, TwoPhaseConfig

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(native, tmp_path) -> Store:
    return prepare(open_dataset(native), tmp_path / "work", PlanConfig(), num_folds=3, workers=0)


def run_training(run: Path, store: Store, config: TwoPhaseConfig | None = None) -> list[dict]:
    train(
        run, store, ["a", "b", "c"], store.task, config or TwoPhaseConfig(), FAST,
        seed=3, validate=lambda model: {}, on_step=lambda step, measured: None,
    )  # fmt: skip
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_each_phase_takes_an_optimiser_step_on_its_own_loss_and_starts_from_the_phase_before(ndim):
    """The same by hand: two steps of plain Adam, each on the parameters of its phase."""
    torch.manual_seed(0)
    model = TwoPhase()
    batch, twin = make_batch(make_task(ndim), 2), copy.deepcopy(model)
    config = FAST.model_copy(update={"optimizer": "adam", "weight_decay": 0.0, "clip_norm": None})
    trainer = set_up(model, config)
    expected = {}
    optimisers = [torch.optim.Adam(part.parameters(), lr=0.1) for part in (twin.line, twin.cube)]
    for step in range(3):
        measured = train_step(trainer, batch, step, lr=0.1, seeds=(10 + step, 20 + step))
        for phase, optimiser, seed in zip(TwoPhase.phases, optimisers, (10 + step, 20 + step), strict=True):
            torch.manual_seed(seed)
            terms = twin.loss(twin.infer(batch.images, phase=phase), batch)
            optimiser.zero_grad()
            sum(terms.values()).backward()
            optimiser.step()
            expected |= {f"loss/{phase}/{name}": term.item() for name, term in terms.items()}
        assert measured == pytest.approx({"loss": sum(expected.values()), **expected})
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-6)


def test_terms_of_a_single_phase_keep_their_plain_names(ndim):
    model = MODELS["retina_net"].build(make_task(ndim))
    measured = train_step(set_up(model, FAST), make_batch(make_task(ndim), 2), 0, 0.01, (1,))
    assert set(measured) == {"loss", "loss/class", "loss/box"}


@pytest.mark.parametrize("fails_at", [1, 2, 3, 6, 8], ids="in loss {}".format)
def test_a_training_stopped_between_phases_or_steps_ends_like_an_uninterrupted_one(store, tmp_path, fails_at):
    """Losses 2, 4, 6 and 8 are of the second phase of a step."""
    whole = run_training(tmp_path / "whole", store)
    with pytest.raises(KeyboardInterrupt):
        run_training(tmp_path / "run", store, TwoPhaseConfig(fails_at=fails_at))
    resumed = run_training(tmp_path / "run", store)
    losses = [{key: value for key, value in step.items() if key.startswith("loss")} for step in resumed]
    assert losses == [{key: value for key, value in step.items() if key.startswith("loss")} for step in whole]
    for name in ("weights.safetensors", "resume.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_random_streams_differ_between_phases_and_steps(store, tmp_path, monkeypatch):
    seeds = []
    monkeypatch.setattr("boxel.training.loop.torch.manual_seed", seeds.append)
    run_training(tmp_path / "run", store)
    in_steps = seeds[2:]  # the first two are for the weights
    assert len(in_steps) == len(set(in_steps)) == FAST.steps * len(TwoPhase.phases)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_batch_reaches_the_loss_untouched_by_the_precision(ndim, precision):
    model = TwoPhase()
    batch = make_batch(make_task(ndim), 2)
    batch.instances[0].boxes[0, 0, 0] = 1000.37  # bfloat16 would make 1000 of it
    train_step(set_up(model, FAST.model_copy(update={"precision": precision})), batch, 0, 0.1, (1, 2))
    assert [seen is batch for seen in model.seen] == [True, True]
    assert model.seen[0].instances[0].boxes[0, 0, 0].item() == pytest.approx(1000.37, abs=1e-3)


def test_a_sealed_batch_is_nothing_that_wrappers_look_into():
    assert not hasattr(Sealed, "__dataclass_fields__")
    assert not hasattr(Sealed, "to")


@pytest.mark.parametrize("ndim", [2], indirect=True, ids=["2d"])
def test_two_processes_train_the_phases_of_one_model_on_untouched_batches(store, tmp_path):
    """Under bf16. The weights stay the same in both, though each phase leaves some of them without a gradient."""
    command = [sys.executable, "-m", "tests.unit.training.two_phases", str(store.path), str(tmp_path)]
    result = subprocess.run(
        command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 0, result.stderr
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first["untouched"]
    assert second["untouched"]
    for phase in TwoPhase.phases:
        sizes = [[step[f"loss/{phase}/size"] for step in rank["losses"]] for rank in (first, second)]
        assert sizes[0] == sizes[1]
        assert len(set(sizes[0])) == FAST.steps
        errors = [[step[f"loss/{phase}/error"] for step in rank["losses"]] for rank in (first, second)]
        assert errors[0] != errors[1]
