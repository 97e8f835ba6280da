"""The six detectors of the Retina U-Net papers, each trained for the same time."""

from boxel.experiments.cell import Cell
from boxel.experiments.grid import Grid, Value, Values
from boxel.experiments.sources import Source, ToyImages
from boxel.recipes import get_recipe

MODELS: dict[Value, str] = {
    "retina_net": "Retina Net",
    "retina_unet": "Retina U-Net",
    "mask_rcnn": "Mask R-CNN",
    "faster_rcnn_plus": "Faster R-CNN+",
    "ufrcnn_plus": "U-FRCNN+",
    "det_unet": "DetU-Net",
}
OVERRIDES = ("train.steps=100000", "train.max_seconds=120", "train.validate_every=500")


def six_models(preset: str, source: Source | None) -> Grid:
    def cell(values: Values) -> Cell:
        seed, model = int(values["seed"]), str(values["model"])
        images = ToyImages(
            task="donuts_shape", preset="mdt", train_sizes=(200,), num_val=40, num_test=400, size=160, seed=seed
        )
        experiment = get_recipe(f"{model}_small").override([f"seed={seed}", *OVERRIDES])
        return Cell(source=source or images, experiment=experiment)

    return Grid(
        name="six_models",
        version=1,
        about="The six detectors, the same time for each",
        axes={"model": tuple(MODELS), "seed": (0,)},
        cell=cell,
        labels=MODELS,
        seconds=150.0,
    )
