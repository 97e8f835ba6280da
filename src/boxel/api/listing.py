"""`boxel models`: what there is, and how large it is."""

from typing import Any

from boxel.models import ModelConfig
from boxel.recipes import RECIPES, get_recipe
from boxel.recipes.experiment import Experiment
from boxel.types import Normalisation, Task


def list_recipes() -> dict[str, dict[str, str]]:
    """Name, first sentence and provenance of each recipe."""
    return {
        name: {
            "about": (recipe.__doc__ or "").strip().split("\n")[0],
            "model": recipe().model.type_name,
            "reproduces": recipe().reproduces,
        }
        for name, recipe in RECIPES.items()
    }


def count_parameters(recipe: str, num_classes: int = 2, num_channels: int = 1) -> dict[str, Any]:
    """Parameters of every model under a recipe's sizes, total and by part, for `num_classes` classes.

    The plan's anchors per position are the recipe's; where it leaves them to the data, one.
    """
    experiment = get_recipe(recipe)
    task = _example_task(experiment, num_classes, num_channels)
    table = {}
    for name in ModelConfig.registry:
        model = model_of(experiment, name).build(task)
        parts = {part: sum(p.numel() for p in child.parameters()) for part, child in model.named_children()}
        table[name] = {"parameters": {"total": sum(parts.values()), **parts}}
    return table


def model_of(experiment: Experiment, name: str) -> ModelConfig:
    """The recipe's model with its settings carried over to another architecture, as far as that has them."""
    kind = ModelConfig.registry[name]
    shared = vars(experiment.model)
    return kind.from_dict({key: shared[key] for key in kind.model_fields if key in shared})  # type: ignore[return-value]


def _example_task(experiment: Experiment, num_classes: int, num_channels: int) -> Task:
    plan = experiment.plan
    ndim = len(plan.patch_size) if plan.patch_size else plan.ndim or 2
    levels = plan.levels or (2, 3, 4, 5)
    per_cell = 9 if plan.anchors in ("mdt", "paper") else plan.num_anchors or 1
    return Task(
        name="example",
        ndim=ndim,
        channels=tuple(f"channel {i}" for i in range(num_channels)),
        classes=tuple(f"class {i}" for i in range(num_classes)),
        spacing=plan.spacing or (1.0,) * ndim,
        normalisation=(Normalisation(),) * num_channels,
        patch_size=plan.patch_size or (128,) * ndim,
        batch_size=1,
        strides=plan.strides or ((2,) * ndim,) * max(levels),
        levels=levels,
        anchors=(((8.0,) * ndim,) * per_cell,) * len(levels),
        context=plan.context,
    )


__all__ = ["count_parameters", "list_recipes", "model_of"]
