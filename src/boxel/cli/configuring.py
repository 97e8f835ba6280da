"""The verb `boxel config`."""

from typing import Annotated

import typer

from boxel.cli.console import say
from boxel.cli.options import ModelName, Plugins, Recipe, Settings


def config(
    recipe: Recipe = "auto",
    model: ModelName = None,
    set_: Settings = None,
    explain: Annotated[
        str, typer.Option(metavar="KEY", help="Say what one setting, or a group such as `train`, does, instead.")
    ] = "",
    plugin: Plugins = None,
) -> None:
    """Print a recipe as a YAML file to change, in which comments say what each setting does; for --recipe."""
    from boxel.recipes import get_recipe
    from boxel.recipes.explained import as_yaml
    from boxel.recipes.explained import explain as explained

    experiment = get_recipe(recipe, model).override(set_ or ())
    say(explained(experiment, explain) if explain else as_yaml(experiment), end="\n" if explain else "")
