"""Recipes: named, complete experiments; those of papers say what they reproduce."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from boxel.config import did_you_mean
from boxel.inputs.texts import read_json, read_mapping
from boxel.models import ModelConfig
from boxel.recipes.deeplesion import DEEPLESION
from boxel.recipes.experiment import Experiment
from boxel.recipes.modern import full, small
from boxel.recipes.papers import PAPERS
from boxel.recipes.segmentation import SEGMENTATION


@dataclass(frozen=True)
class Recipe:
    """A recipe: `build(model)` returns the experiment; `model` is its default."""

    about: str
    model: str
    build: Callable[[str], Experiment]


def _summary(documented: object) -> str:
    return (documented.__doc__ or "").strip().split("\n")[0]


def recipes() -> dict[str, Recipe]:
    """All recipes by name: `NAME` and `NAME_small` of each registered model, and those of papers."""
    kinds = ModelConfig.registry.items()
    return {
        **{name: Recipe(_summary(kind), name, full) for name, kind in kinds},
        **{f"{name}_small": Recipe(f"{_summary(kind)} Small, for a CPU.", name, small) for name, kind in kinds},
        **{name: Recipe(about, "retina_unet", partial(build, name)) for name, (about, build) in PAPERS.items()},
        **{name: Recipe(about, model, build) for name, (about, model, build) in (SEGMENTATION | DEEPLESION).items()},
    }


def get_recipe(recipe: str | Path | Experiment, model: str | None = None) -> Experiment:
    """The experiment of a recipe, by name or from a JSON or YAML file, such as a run's `config.json`.

    `auto` is `retina_unet` if there is a GPU, else `retina_unet_small`.

    Args:
        model: the recipe for this model instead of its own.

    Raises:
        ValueError: no such recipe, model or file; an unknown key in the file; a model for a file, which names its own.
    """
    name = str(recipe)
    if isinstance(recipe, Experiment) or is_file(name):
        experiment = recipe if isinstance(recipe, Experiment) else _read(Path(name))
        if model not in (None, experiment.model.type_name):
            raise ValueError(
                f"model {model!r}: the recipe is a complete experiment with the model {experiment.model.type_name!r}; "
                "name a recipe to choose its model"
            )
        return experiment
    if name == "auto":
        import torch

        name = "retina_unet" if torch.cuda.is_available() else "retina_unet_small"
    known = recipes()
    if name not in known:
        raise ValueError(f"unknown recipe {name!r}{did_you_mean(name, known)}; or give a .json or .yaml file")
    if model is not None and model not in ModelConfig.registry:
        raise ValueError(f"unknown model {model!r}{did_you_mean(model, ModelConfig.registry)}")
    return known[name].build(model or known[name].model)


def is_file(recipe: str | Path) -> bool:
    """Whether a recipe is given as a file, and not by its name."""
    return Path(recipe).suffix.lower() in (".json", ".yaml", ".yml")


def _read(path: Path) -> Experiment:
    """The experiment in a file; if that of a run cannot be read, the error names the plug-ins beside it."""
    try:
        values = read_json(path) if path.suffix.lower() == ".json" else read_mapping(path)
        return Experiment.from_dict(values, str(path))
    except ValueError as error:
        files = sorted(path.parent.glob("plugins/*.py"))
        if not files or "unknown" not in str(error):
            raise
        given = " ".join(f"--plugin {file}" for file in files)
        raise ValueError(f"{error}; this run used plug-ins: add {given}, if you trust that code") from None


__all__ = ["Experiment", "Recipe", "get_recipe", "is_file", "recipes"]
