"""All folds of a data set of your own: one model, pooled over the folds before it is evaluated."""

from boxel.experiments.cell import Cell
from boxel.experiments.grid import Grid, Values
from boxel.experiments.six_models import MODELS
from boxel.experiments.sources import Source
from boxel.recipes import get_recipe

_PRESETS = {"quick": ("retina_unet",), "full": ("retina_unet",), "models": tuple(MODELS)}
PRESETS = tuple(_PRESETS)


def cross_validation(preset: str, source: Source | None) -> Grid:
    if source is None:
        raise ValueError("cross_validation has no data of its own; give a data set with --data")
    models = _PRESETS[preset]

    def cell(values: Values) -> Cell:
        seed, model = int(values["seed"]), str(values["model"])
        recipe = get_recipe(model if preset == "full" else f"{model}_small")
        return Cell(source=source, experiment=recipe.override([f"seed={seed}"]), fold=int(values["fold"]))

    return Grid(
        name="cross_validation",
        version=1,
        about="Five folds, 60/20/20",
        axes={"model": models, "fold": tuple(range(5)), "seed": (0,)},
        cell=cell,
        labels=MODELS,
        reference={"model": "retina_unet"} if len(models) > 1 else None,
        metrics=("AP@0.10", "AP@0.50", "patient_AP"),
        seconds=600.0,
    )
