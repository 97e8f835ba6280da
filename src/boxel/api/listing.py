"""`boxel models`: the recipes and models, and the size of each model."""

from typing import Any

from boxel.models import ModelConfig
from boxel.recipes import get_recipe, is_file, recipes
from boxel.recipes.experiment import Experiment
from boxel.recipes.segmentation import SEGMENTATION
from boxel.types import Normalisation, Task


def list_recipes() -> dict[str, dict[str, str]]:
    """What each recipe is, its model, and what it reproduces, by its name."""
    return {
        name: {"about": recipe.about, "model": recipe.model, "reproduces": recipe.build(recipe.model).reproduces}
        for name, recipe in recipes().items()
    }


def count_parameters(recipe: str, num_classes: int = 2, num_channels: int = 1) -> dict[str, Any]:
    """Parameters of every model under a recipe's sizes, in total and by part.

    Dotted names are parts of parts. A recipe from a file has one model, and so has one of a network that segments; any
    other has all detectors. If a recipe leaves the number of anchors per position to the data, one is assumed.
    """
    own, segmenting = get_recipe(recipe).model.type_name, {model for _, model, _ in SEGMENTATION.values()}
    alone = is_file(recipe) or own in segmenting
    names = [own] if alone else [name for name in ModelConfig.registry if name not in segmenting]
    table = {}
    for name in names:
        experiment = get_recipe(recipe, name)
        model = experiment.model.build(_example_task(experiment, num_classes, num_channels))
        count = {"total": _count(model)}
        for part, child in model.named_children():
            count[part] = _count(child)
            inner = dict(child.named_children())
            inner = dict(inner["heads"].named_children()) if "heads" in inner else inner
            if len(inner) > 1:
                count |= {f"{part}.{key}": _count(grandchild) for key, grandchild in inner.items()}
        table[name] = {"parameters": count}
    return table


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _example_task(experiment: Experiment, num_classes: int, num_channels: int) -> Task:
    plan = experiment.plan
    ndim = len(plan.patch_size) if plan.patch_size else plan.ndim or 2
    levels = plan.levels or (2, 3, 4, 5)
    fixed = plan.anchors_for(ndim, levels)
    per_cell = len(fixed[0]) if fixed else plan.num_anchors or 1
    return Task(
        name="example",
        ndim=ndim,
        channels=tuple(f"channel {i}" for i in range(num_channels)),
        classes=tuple(f"class {i}" for i in range(num_classes)),
        spacing=plan.spacing or (1.0,) * ndim,
        normalisation=(Normalisation(),) * num_channels,
        patch_size=plan.patch_size or (128,) * ndim,
        batch_size=1,
        strides=plan.strides_for(ndim) or ((2,) * ndim,) * (max(levels) - experiment.model.extends),
        levels=levels,
        anchors=(((8.0,) * ndim,) * per_cell,) * len(levels),
        context=plan.context,
    )


__all__ = ["count_parameters", "list_recipes"]
