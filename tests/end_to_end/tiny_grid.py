"""A plug-in and an experiment of tiny cells: three seeds of a model that stalls on a node that is to be lost."""

import os
import time
from pathlib import Path

from boxel.experiments.cell import Cell
from boxel.experiments.grid import Grid
from boxel.experiments.registry import EXPERIMENTS, Entry
from boxel.experiments.sources import ToyImages
from boxel.models import RetinaUNetConfig
from boxel.recipes import get_recipe
from tests.end_to_end.commands import QUICK

LOST = "BOXEL_TEST_LOST_NODE"  # a folder: `id` in it names the node; `reached` says that a cell stalls there
STALLS_AT = 5  # the loss that is called for this time, after a state was saved


class StallingConfig(RetinaUNetConfig, name="stalling"):
    """A Retina U-Net whose training does not get beyond a step, on one node."""

    def build(self, task):
        model, calls = super().build(task), []
        loss = model.loss

        def stalling_loss(*arguments):
            calls.append(arguments)
            if len(calls) == STALLS_AT and on_lost_node():
                (Path(os.environ[LOST]) / "reached").touch()
                time.sleep(600)
            return loss(*arguments)

        model.loss = stalling_loss
        return model


def on_lost_node() -> bool:
    if LOST not in os.environ:
        return False
    import ray

    return ray.get_runtime_context().get_node_id() == (Path(os.environ[LOST]) / "id").read_text()


def tiny(preset, source) -> Grid:
    recipe = get_recipe("retina_unet_small").override(QUICK)
    model = StallingConfig(**{name: getattr(recipe.model, name) for name in type(recipe.model).model_fields})

    def cell(values) -> Cell:
        images = ToyImages(task="donuts_pattern", preset="mdt", train_sizes=(4,), num_val=1, num_test=2, size=64)
        return Cell(source=images, experiment=recipe.model_copy(update={"model": model, "seed": values["seed"]}))

    return Grid(name="tiny", version=1, about="Tests", axes={"model": ("stalling",), "seed": (0, 1, 2)}, cell=cell)


EXPERIMENTS["tiny"] = Entry(tiny, "tests")
