"""Patience: a training whose scores do not rise any more ends with a phase in which the learning rate falls to zero."""

import json

import pytest

from boxel.datasets.formats import open_dataset
from boxel.preparation.plan import PlanConfig
from boxel.preparation.prepare import prepare
from boxel.training.config import TrainConfig
from boxel.training.loop import train
from boxel.training.optimise import learning_rate
from boxel.training.patience import LastPhase, last_phase
from boxel.training.schedule import ConstantConfig
from tests.unit.builders import MODELS

CONFIG = TrainConfig(steps=1000, lr=1.0, warmup=0, patience=2, schedule=ConstantConfig())


def log(*scores, every=10):
    return [{"step": every * n, "seconds": 1.0 * n, "val/AP@0.10": score} for n, score in enumerate(scores, start=1)]


@pytest.mark.parametrize(
    ("scores", "first"),
    [
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6), None),  # rises
        ((0.5, 0.5, 0.5, 0.5, 0.5), 50),  # the mean of three does not rise at 40 and at 50
        ((0.1, 0.6, 0.2, 0.7, 0.3, 0.8), None),  # single scores fall, their mean does not fall twice in a row
        ((0.6, 0.6, 0.6, 0.5, 0.5, 0.9, 0.9, 0.9), 50),  # what comes later changes nothing
        ((0.5, 0.5), None),
    ],
)
def test_the_last_phase_begins_when_the_mean_of_three_has_not_risen_for_as_long_as_patience_lasts(scores, first):
    found = last_phase(log(*scores), CONFIG)
    assert (found and found.first) == first
    assert last_phase(log(*scores), CONFIG.model_copy(update={"patience": None})) is None


def test_the_learning_rate_falls_to_zero_in_a_quarter_of_the_steps_before():
    last = last_phase(log(*[0.5] * 8), CONFIG)
    assert last == LastPhase(first=50, end=62, seconds=5.0)
    rates = [learning_rate(CONFIG, step, last=last) for step in (49, 50, 56, 61)]
    assert rates == pytest.approx([1, 1, 0.5, 1 / 12])
    short = CONFIG.model_copy(update={"steps": 55})
    assert last_phase(log(*[0.5] * 8), short).end == 55


def test_a_training_ends_after_its_last_phase_and_one_that_was_stopped_in_it_likewise(native, tmp_path):
    store = prepare(open_dataset(native), tmp_path / "work", PlanConfig(), workers=0)
    config = TrainConfig(
        steps=40, batch_size=2, warmup=1, validate_every=2, save_every=2, patience=2, last_phase=0.5, accelerator="cpu"
    )

    class StoppedError(Exception):
        pass

    def run(name, stop_at=None):
        def on_step(step, measured):
            if step == stop_at:
                raise StoppedError

        validate = {"validate": lambda model: {"AP@0.10": 0.5}, "on_step": on_step, "seed": 3}
        train(tmp_path / name, store, ["a", "b", "c"], store.task, MODELS["retina_unet"], config, **validate)
        return [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]

    whole = run("whole")
    assert [line["step"] for line in whole] == list(range(1, 16))  # flat at 10, and half of that
    assert "val/AP@0.10" in whole[-1]
    for stop_at in (10, 11, 13, 15):
        with pytest.raises(StoppedError):
            run(f"stopped{stop_at}", stop_at)
        again = run(f"stopped{stop_at}")
        assert [(line["loss"], line["lr"]) for line in again] == [(line["loss"], line["lr"]) for line in whole]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": 2, "select_by": "last"}, "patience has no effect on select_by=last"),
        ({"last_phase": 0.1}, "last_phase has no effect without patience"),
    ],
)
def test_settings_without_effect_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_dict(settings)
