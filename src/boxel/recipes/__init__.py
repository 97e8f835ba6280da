"""Recipes: named functions that return a complete experiment; the papers' say what they reproduce."""

from collections.abc import Callable
from pathlib import Path

from boxel.config import did_you_mean, read_json
from boxel.recipes.experiment import Experiment
from boxel.recipes.papers import mdt_lidc_2d, mdt_lidc_2dc, mdt_lidc_3d, mdt_toy
from boxel.recipes.retina_unet import retina_net, retina_net_small, retina_unet, retina_unet_small

RECIPES: dict[str, Callable[[], Experiment]] = {
    recipe.__name__: recipe
    for recipe in (
        retina_unet,
        retina_net,
        retina_unet_small,
        retina_net_small,
        mdt_toy,
        mdt_lidc_2d,
        mdt_lidc_2dc,
        mdt_lidc_3d,
    )
}


def get_recipe(recipe: str | Path | Experiment) -> Experiment:
    """The experiment of a recipe's name, or of a JSON file such as a run's `config.json`.

    `auto` is `retina_unet` where there is a GPU, else `retina_unet_small`.

    Raises:
        ValueError: no such recipe or file, or an unknown key in the file.
    """
    if isinstance(recipe, Experiment):
        return recipe
    name = str(recipe)
    if name == "auto":
        import torch

        name = "retina_unet" if torch.cuda.is_available() else "retina_unet_small"
    if name in RECIPES:
        return RECIPES[name]()
    if name.endswith(".json"):
        return Experiment.from_dict(read_json(Path(name)), name)
    raise ValueError(f"unknown recipe {name!r}{did_you_mean(name, RECIPES)}; or give a .json file")


__all__ = ["RECIPES", "Experiment", "get_recipe"]
