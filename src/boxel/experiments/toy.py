"""Figure 5 of Retina U-Net: six detectors on three toy tasks with few training images.

Preset `quick` has the geometry of the paper in images of 160 x 160, the `_small` recipes and the same number of steps
for every model; `full` is the scale of the paper, for a GPU.

Reference: Jaeger et al., Retina U-Net, 2018, section 4.3 and figure 5.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boxel.datasets.cases import Dataset, read_case_image
from boxel.experiments.baseline_cells import predictions_of
from boxel.experiments.cell import Cell
from boxel.experiments.grid import Claim, Grid, Value, Values
from boxel.experiments.ideal_observer import ideal_detections
from boxel.experiments.six_models import MODELS
from boxel.experiments.sources import Source, ToyImages
from boxel.loading.augment import NO_AUGMENTATION
from boxel.models import IoUMatcherConfig, MiningConfig, SmoothL1Config
from boxel.recipes import Experiment, get_recipe
from boxel.types import Detections

PRESETS = ("quick", "full")
TASKS = {"pattern": "donuts_pattern", "shape": "donuts_shape", "scale": "circles_scale"}
# Chosen on validation images with Retina Net alone: from 100 on, more did not raise its AP (docs/results/toy.md).
SIZES = {"quick": (20, 40, 300), "full": (50, 100, 250, 500, 1000)}
KEY_PAIR = ("retina_net", "retina_unet")
NUM_SEEDS, NUM_SEEDS_OF_KEY_PAIR = 5, 12
# Models that see boxes only: patterns and shapes, which differ in the masks only, are the same to them.
_BOXES_ONLY = ("retina_net", "faster_rcnn_plus", "retina_net_mdt")
CONTROLS: dict[Value, str] = {
    "retina_unet_unsupervised": "Retina U-Net, segmentation weight 0",
    "retina_net_mdt": "Retina Net, toolkit's matching",
    "retina_unet_mdt": "Retina U-Net, toolkit's matching",
}
_STEPS = ("train.steps=700", "train.validate_every=175")


def toy(preset: str, source: Source | None) -> Grid:
    sizes = SIZES[preset]
    few = sizes[:2] if preset == "quick" else sizes

    def cell(values: Values) -> Cell:
        return _cell(preset, values)

    def skip(values: Values) -> bool:
        of_key_pair = values["model"] in KEY_PAIR and values["task"] != "scale" and values["n"] in few
        is_control = values["model"] in CONTROLS
        return (not of_key_pair and int(values["seed"]) >= NUM_SEEDS) or (
            is_control and (values["task"] == "scale" or values["n"] not in few)
        )

    return Grid(
        name="toy",
        version=2,
        about=f"Toy images of the Retina U-Net paper, figure 5 ({preset})",
        axes={
            "task": tuple(TASKS),
            "model": (*MODELS, *CONTROLS),
            "n": sizes,
            "seed": tuple(range(NUM_SEEDS_OF_KEY_PAIR)),
        },
        cell=cell,
        skip=skip,
        reference={"model": "retina_net"},
        metrics=("AP@0.10", "AP@0.50"),
        claims=_claims(sizes),
        baselines={"ideal_observer": _ideal_observer},
        labels={**MODELS, **CONTROLS, "ideal_observer": "ideal observer"},
        seconds=150.0 if preset == "quick" else 3600.0,
    )


def _cell(preset: str, values: Values) -> Cell:
    seed, model, task = int(values["seed"]), str(values["model"]), str(values["task"])
    if model in _BOXES_ONLY and task == "shape":
        task = "pattern"
    images = ToyImages(
        task=TASKS[task], preset="paper", train_sizes=SIZES[preset], size=160 if preset == "quick" else 320, seed=seed
    )
    name = model.removesuffix("_unsupervised").removesuffix("_mdt")
    quick = preset == "quick"
    experiment = get_recipe(f"{name}_small").override(_STEPS) if quick else get_recipe("paper_toy", name)
    if model == "retina_unet_unsupervised":
        experiment = experiment.override(["model.segmentation_weight=0"])
    if model.endswith("_mdt"):
        experiment = _with_matching_of_toolkit(experiment)
    return Cell(
        source=images, experiment=experiment.override([f"seed={seed}"]), fold=SIZES[preset].index(int(values["n"]))
    )


def _ideal_observer(cell: Cell, dataset: Dataset, reference: Path) -> dict[str, Detections]:
    images: Any = cell.source
    return {
        case: ideal_detections(read_case_image(dataset[case], dataset).array[0], images.task, images.preset)
        for case in predictions_of(reference)
    }


def _with_matching_of_toolkit(experiment: Experiment) -> Experiment:
    """One positive and one negative anchor per image, softmax, smooth L1; no augmentation."""
    parts: Mapping[str, object] = {
        "matcher": IoUMatcherConfig(positive=0.5, negative=0.1),
        "class_loss": MiningConfig(max_positives=1),
        "box_loss": SmoothL1Config(),
        "softmax": True,
    }
    model = experiment.model.model_copy(update={"dense": experiment.model.dense.model_copy(update=parts)})  # type: ignore[attr-defined]
    train = experiment.train.model_copy(update={"augment": NO_AUGMENTATION})
    return experiment.model_copy(update={"model": model, "train": train, "reproduces": ""})


def _claims(sizes: tuple[int, ...]) -> tuple[Claim, ...]:
    unet, net = {"model": "retina_unet"}, {"model": "retina_net"}
    fewest, few = sizes[:2]

    def supervised(text: str, **where: Value) -> Claim:
        return Claim(text=text, better=dict(unet), worse=dict(net), where=where)

    return (
        supervised("(a) segmentation helps on shapes", task="shape", n=fewest),
        supervised("(a) segmentation helps on shapes", task="shape", n=few),
        Claim(
            text="(a) the fewer images, the more it helps on shapes",
            better=dict(unet),
            worse=dict(net),
            where={"task": "shape", "n": fewest},
            minus={"task": "shape", "n": sizes[-1]},
            margin=0.0,
        ),
        supervised("(b) segmentation helps on patterns", task="pattern", n=fewest),
        supervised("(b) segmentation helps on patterns", task="pattern", n=few),
        Claim(
            text="the supervision helps, not the larger network",
            better=dict(unet),
            worse={"model": "retina_unet_unsupervised"},
            where={"n": few},
        ),
        supervised("(c) segmentation does not help on scales", task="scale", n=few).model_copy(
            update={"kind": "equal"}
        ),
        Claim(
            text="(c) two stages are not worse than one on scales",
            better={"model": "faster_rcnn_plus"},
            worse=dict(net),
            where={"task": "scale", "n": few},
            kind="not_worse",
        ),
        Claim(
            text="(d) masks of regions of interest do not help with few images",
            better={"model": "mask_rcnn"},
            worse={"model": "faster_rcnn_plus"},
            where={"n": fewest},
            kind="equal",
        ),
    )
