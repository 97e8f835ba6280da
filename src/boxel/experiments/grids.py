"""The papers' comparisons as grids of runs: the same data, the same time, one row per detector."""

from typing import Any

from boxel.config import Config


class Row(Config):
    """One run of a grid: a recipe, the model it is for, and what is changed in it."""

    label: str
    recipe: str
    model: str
    overrides: tuple[str, ...] = ()


class Grid(Config):
    """Runs that are compared.

    Attributes:
        toy: settings of `boxel.datasets.toy.make_toy` for the data, unless the user brings a data set.
        overrides: changes of every run.
    """

    about: str
    rows: tuple[Row, ...]
    toy: dict[str, Any]
    overrides: tuple[str, ...] = ()


def six_models() -> Grid:
    """The six detectors of the Retina U-Net papers, each trained for the same time."""
    names = {
        "retina_net": "Retina Net",
        "retina_unet": "Retina U-Net",
        "mask_rcnn": "Mask R-CNN",
        "faster_rcnn_plus": "Faster R-CNN+",
        "ufrcnn_plus": "U-FRCNN+",
        "det_unet": "DetU-Net",
    }
    return Grid(
        about="The six detectors, the same time for each",
        rows=tuple(Row(label=label, recipe=f"{name}_small", model=name) for name, label in names.items()),
        toy={"task": "donuts_shape", "preset": "mdt", "num_train": 200, "num_val": 40, "num_test": 400, "size": 160},
        overrides=("train.steps=100000", "train.max_seconds=120", "train.validate_every=500"),
    )


GRIDS = {grid.__name__: grid for grid in (six_models,)}
