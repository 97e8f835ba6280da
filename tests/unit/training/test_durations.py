"""Budgets and memories in words: what is understood, what is refused, and which settings exclude each other."""

import pytest

from boxel.inputs.memory import bytes_of, process_memory
from boxel.preparation.plan import PlanConfig
from boxel.recipes import get_recipe
from boxel.training.config import TrainConfig, seconds_of

RECIPE = "retina_unet_small"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10min", 600), ("1.5h", 5400), (" 2 h ", 7200), ("1d", 86400), ("gpu-day", 86400), (600, 600)],
)
def test_durations(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "-5min", "10 minutes", "1e5", "inf", "h", "9" * 400, True, [1]])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"is no duration; give one such as 90s, 10min, 2h or gpu-day"):
        TrainConfig(budget=text)


def test_a_budget_is_recorded_in_seconds_and_a_gpu_day_as_such():
    recorded = {text: TrainConfig(budget=text).budget for text in ("10min", "600s", 600, "gpu-day")}
    assert recorded == {"10min": "600s", "600s": "600s", 600: "600s", "gpu-day": "gpu-day"}
    config = TrainConfig(budget="10min")
    assert config.budget_seconds == 600
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert TrainConfig().budget_seconds is None


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GB", 24 * 10**9), ("1.5GiB", 3 * 2**29), ("500 mb", 5 * 10**8), ("2tib", 2 * 2**40), ("64KB", 64_000)],
)
def test_sizes_of_memory(text, size):
    assert bytes_of(text) == size
    assert get_recipe(RECIPE).override([f"plan.memory={text}"]).plan.memory == size


@pytest.mark.parametrize("text", ["", "24", "GB", "-1GB", "0GB", "1e9B", "24 gigabytes"])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"no size of a memory; .*, such as 24GB or 1\.5GiB"):
        PlanConfig(memory=text)


def test_steps_epochs_and_budget_replace_each_other_and_two_at_once_are_refused():
    recipe = get_recipe(RECIPE)
    by_budget = recipe.override(["train.epochs=3"]).override(["train.budget=2h"])
    assert (by_budget.train.budget, by_budget.train.epochs) == ("7200s", None)
    assert by_budget.override(["train.steps=5"]).train.budget is None
    assert by_budget.override(["train.epochs=5"]).train.budget is None
    assert recipe.override(["train.epochs=3"]).override(["train.budget=null"]).train.epochs == 3
    for pair in (["train.steps=1", "train.budget=2h"], ["train.budget=2h", "train.epochs=1"]):
        with pytest.raises(ValueError, match="both say how long to train; set one of them"):
            recipe.override(pair)
    with pytest.raises(ValueError, match="epochs and budget both say"):
        TrainConfig(epochs=2, budget="2h")


def test_settings_that_another_one_decides_are_refused():
    recipe = get_recipe(RECIPE)
    with pytest.raises(ValueError, match=r"train\.validate_every has no effect with train\.budget"):
        recipe.override(["train.budget=2h", "train.validate_every=5"])
    with pytest.raises(ValueError, match=r"plan\.memory and plan\.voxels_per_step both limit a step"):
        recipe.override(["plan.memory=2GB", "plan.voxels_per_step=5000"])
    limited = recipe.override(["plan.memory=2GB"])
    assert limited.override(["plan.voxels_per_step=5000"]).plan.memory is None


def test_the_memory_of_this_process_has_a_peak():
    now, most = process_memory()
    assert 2**20 < now <= most
