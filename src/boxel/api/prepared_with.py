"""What a prepared folder says about how it was prepared, which a training repeats."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from boxel.api.fitting import Fitted
from boxel.config import Config
from boxel.preparation.store import Store
from boxel.recipes import Experiment, get_recipe

# The file in a work folder that says what `train` has to repeat.
PREPARED_WITH = "prepared_with.json"
LIMITS = {"memory", "voxels_per_step"}  # of a step; one replaces the other


class PreparedWith(Config):
    """`prepared_with.json` of a work folder.

    Attributes:
        recipe: the name of the recipe of `boxel prepare`.
        plan: its `--set plan.*`.
        given: the recipe as it was asked for: a name, which may be `auto`, or a complete experiment.
        overrides: every `--set`.
        fitted: `plan.voxels_per_step` that was measured to fit `plan.memory`, and for which settings, see
            `boxel.api.fitting`.
    """

    recipe: str
    plan: dict[str, Any]
    given: str | dict[str, Any] = "auto"
    overrides: tuple[str, ...] = ()
    fitted: Fitted | None = None


def plan_choices(overrides: Sequence[str]) -> list[str]:
    """The settings of the plan that `overrides` choose."""
    keys = [assignment.partition("=")[0].strip().split(".") for assignment in overrides]
    return [key[1] for key in keys if key[0] == "plan" and len(key) > 1]


def prepared_with(work: Path) -> PreparedWith | None:
    """The record in a work folder; None if there is none."""
    path = work / PREPARED_WITH
    try:
        return PreparedWith.load(path) if path.exists() else None  # an earlier Boxel wrote none
    except ValueError as error:
        raise ValueError(f"{error}; run `boxel prepare` again, which writes it anew") from None


def fitted_before(work: Path) -> Fitted | None:
    """What `prepare` measured to fit `plan.memory`, if it did."""
    prepared = prepared_with(work)
    return prepared.fitted if prepared else None


def by_recipe(store: Store) -> str:
    """The recipe that the data were prepared with, in words; empty if that is not known."""
    prepared = prepared_with(store.path)
    return f" (recipe {prepared.recipe!r})" if prepared else ""


def as_prepared(store: Store, recipe: str | Experiment, model: str | None, overrides: Sequence[str]) -> Experiment:
    """The experiment of a training: the recipe, with the plan's settings of `boxel prepare` and with `overrides`.

    Raises:
        ValueError: an override contradicts a setting of `boxel prepare`.
    """
    prepared = prepared_with(store.path)
    if recipe == "auto" and prepared is not None:
        given = prepared.given
        recipe = Experiment.from_dict(given, str(store.path / PREPARED_WITH)) if isinstance(given, dict) else given
        own = [text for text in prepared.overrides if not plan_choices([text])]
        recipe, model = get_recipe(recipe, model).override(own), None
    chosen = get_recipe(recipe, model).override(overrides)
    if prepared is None or not prepared.plan:
        return chosen
    values = chosen.plan.to_dict()
    names = set(plan_choices(overrides))
    for name in names | (LIMITS if names & LIMITS else set()):
        if name in prepared.plan and values[name] != prepared.plan[name]:
            raise ValueError(
                f"{store.path}: prepared with plan.{name}={json.dumps(prepared.plan[name])}, but training is to use "
                f"{json.dumps(values[name])}; leave out --set plan.{name}, or prepare with it into another folder"
            )
    return chosen.override([f"plan.{name}={json.dumps(value)}" for name, value in prepared.plan.items()])
