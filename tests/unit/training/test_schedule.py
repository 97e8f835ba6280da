"""Schedules: what the learning rate is at every point of a training, and how they are chosen."""

import pytest
import torch

from boxel.recipes import Experiment
from boxel.training.config import TrainConfig
from boxel.training.optimise import build_optimizer, learning_rate


def rates(schedule, *steps: int, lr: float = 1.0) -> list[float]:
    """The learning rates at some of 100 steps, without warm-up."""
    config = TrainConfig.from_dict({"steps": 100, "warmup": 0, "lr": lr, "schedule": schedule})
    return [learning_rate(config, step) for step in steps]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("poly", [1.0, 0.5359, 0.0158]), ("cosine", [1.0, 0.5, 0.0002]), ("constant", [1.0, 1.0, 1.0])],
)
def test_a_schedule_falls_as_its_name_says(schedule, expected):
    """0.5^0.9 and 0.01^0.9; half of 1 + cos(pi / 2) and of 1 + cos(0.99 pi)."""
    assert rates(schedule, 0, 50, 99) == pytest.approx(expected, abs=1e-4)


def test_steps_fall_tenfold_at_42_and_83_percent():
    assert rates("steps", 0, 41, 42, 82, 83, 99, lr=1e-4) == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6])


def test_steps_fall_where_and_by_what_is_set():
    schedule = {"type": "steps", "at": [0.1, 0.5, 0.6], "factor": 0.5}
    assert rates(schedule, 9, 10, 50, 60, 99) == pytest.approx([1, 0.5, 0.25, 0.125, 0.125])


def test_steps_fall_at_the_epochs_of_the_paper():
    """L-SNet: tenfold at epochs 25 and 50 of 60; with 7 steps per epoch these are steps 175 and 350 of 420."""
    values = {"steps": 420, "warmup": 0, "lr": 1.0, "schedule": {"type": "steps", "at": [25 / 60, 50 / 60]}}
    config = TrainConfig.from_dict(values)
    assert [learning_rate(config, step) for step in (174, 175, 349, 350)] == pytest.approx([1, 0.1, 0.1, 0.01])


def test_the_warm_up_comes_before_any_schedule():
    config = TrainConfig(steps=100, warmup=10, lr=1.0).override(["schedule=steps"])
    assert [learning_rate(config, step) for step in (0, 4, 9, 42)] == pytest.approx([0.1, 0.5, 1.0, 0.1])


def test_the_burn_in_of_darknet_rises_with_the_fourth_power():
    """`get_current_rate` of darknet: rate * pow(batch / burn_in, power), batches from 1."""
    config = TrainConfig(steps=16000, warmup=1000, warmup_power=4.0, lr=0.001).override(["schedule=constant"])
    rates = [learning_rate(config, batch - 1) for batch in (1, 100, 500, 1000, 1001)]
    assert rates == pytest.approx([1e-15, 1e-7, 6.25e-5, 1e-3, 1e-3], rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (0.9, True)),
        ({"momentum": 0.949}, (0.949, True)),
        ({"momentum": 0.0}, (0.0, False)),
        ({"nesterov": False}, (0.9, False)),
        ({"momentum": 0.0, "nesterov": False}, (0.0, False)),
    ],
)
def test_sgd_has_the_momentum_that_is_set(ndim, settings, expected):
    model = torch.nn.Linear(ndim, 1)
    (group, _) = build_optimizer(model, TrainConfig(optimizer="sgd", **settings)).param_groups
    assert (group["momentum"], group["nesterov"]) == expected


def test_momentum_without_nesterov_is_the_textbook_update():
    """Two steps on a gradient of 1 with rate 1 and momentum 0.5 move by 1 and by 1.5; Nesterov's by 1.5 and by 1.75."""
    for nesterov, expected in ((False, [-1.0, -2.5]), (True, [-1.5, -3.25])):
        model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(model.weight)
        config = TrainConfig(optimizer="sgd", lr=1.0, momentum=0.5, nesterov=nesterov, weight_decay=0.0)
        optimizer, seen = build_optimizer(model, config), []
        for _ in range(2):
            optimizer.zero_grad()
            model.weight.sum().backward()
            optimizer.step()
            seen.append(model.weight.item())
        assert seen == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 0.9}, "momentum has no effect on adamw.*set train.optimizer=sgd"),
        ({"optimizer": "adam", "nesterov": False}, "nesterov has no effect on adam,"),
        ({"optimizer": "sgd", "momentum": 0, "nesterov": True}, "nesterov needs momentum"),
        ({"optimizer": "sgd", "momentum": 1}, "less than 1"),
        ({"optimizer": "sgd", "momentum": -0.1}, "greater than or equal to 0"),
        ({"warmup": 0, "warmup_power": 4}, "warmup_power has no effect without a warm-up"),
        ({"warmup_power": 0}, "greater than 0"),
    ],
)
def test_settings_of_optimiser_and_warm_up_without_effect_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Experiment.from_dict({"train": settings})


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"at": [0.5, 0.5]}, "must rise"),
        ({"at": [0.8, 0.4]}, "must rise"),
        ({"at": [0.5, 1.0]}, "less than 1"),
        ({"at": [0.0, 0.5]}, "greater than 0"),
        ({"at": []}, "at least 1 item"),
        ({"factor": 0.0}, "greater than 0"),
        ({"factor": 1.0}, "less than 1"),
        ({"epochs": [25]}, "unknown key"),
        ({"type": "step"}, "did you mean 'steps'"),
    ],
)
def test_steps_that_make_no_sense_are_refused(schedule, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_dict({"schedule": {"type": "steps", **schedule}})


def test_a_schedule_is_chosen_by_its_name_or_with_its_settings():
    by_name = Experiment().override(["train.schedule=cosine"])
    assert by_name.train.schedule.type_name == "cosine"
    whole = Experiment().override(['train.schedule={"type": "steps", "at": [0.3]}'])
    assert whole.override(["train.schedule.factor=0.2"]).to_dict()["train"]["schedule"] == {
        "type": "steps",
        "at": [0.3],
        "factor": 0.2,
    }
    with pytest.raises(ValueError, match="unknown Schedule 'cosin'; did you mean 'cosine'"):
        Experiment().override(["train.schedule=cosin"])


def test_a_configuration_whose_schedule_is_a_string_still_opens():
    """As `config.json` had it before schedules had settings."""
    values = Experiment().to_dict()
    values["train"]["schedule"] = "constant"
    assert Experiment.from_dict(values).train.schedule.type_name == "constant"
    assert Experiment.from_dict(values) == Experiment().override(["train.schedule=constant"])


def test_a_schedule_without_a_name_is_the_default():
    assert TrainConfig.from_dict({"schedule": {}}) == TrainConfig()
