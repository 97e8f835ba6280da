"""Benign or malignant: nodules of LIDC-IDRI in mosaics of crops, since whole scans are not at hand.

The classes are those of the papers: malignant from a rating of 3. Size alone tells them apart to some degree, so a
floor classifies by size only, and a second metric counts nodules of 6 to 12 mm only. Half of the crops end with the
nodule along z: neither slices with context nor volumes see tissue beyond it.

Preset `first` is 2D and 3D, one fold, three seeds; `full` all folds, two seeds; `seam` the control in which rim tissue
replaces the nodules: every model must be at chance there. `one_class` asks where nodules are, not of which class.
"""

from pathlib import Path
from typing import Any

from boxel.api.run import RunSplit
from boxel.datasets.cases import Dataset, read_case
from boxel.experiments.baseline_cells import predictions_of
from boxel.experiments.baselines import SizeClassifier, box_diameters, classify_by_size, fit_size_classifier
from boxel.experiments.cell import Cell
from boxel.experiments.derived import FalsePositivesByScore, RankCorrelation
from boxel.experiments.grid import Claim, Grid, Value, Values
from boxel.experiments.six_models import MODELS
from boxel.experiments.sources import DataFolder, MosaicOfCrops, Source, project_data
from boxel.recipes import Experiment, get_recipe
from boxel.types import Detections

PRESETS = ("first", "full", "seam", "one_class")
VIEWS: dict[Value, str] = {"2d": "2D", "2dc": "2D with context", "3d": "3D"}
_OVERRIDES = {
    "2d": ("plan.ndim=2",),
    "2dc": ("plan.ndim=2", "plan.context=3"),
    "3d": (),
}
_STEPS = ("train.steps=700", "train.validate_every=175", "train.validation_cases=25")
_CLASSES = ("class_column=Malignancy_value", "class_from=3", "classes=benign,malignant")
_ONE_CLASS = ("classes=nodule",)
_STRATUM = (6.0, 12.0)


def lesions(preset: str, source: Source | None) -> Grid:
    crops = crops_of(source, one_class=preset == "one_class")
    mosaic = MosaicOfCrops(
        path=crops.path, format=crops.format, options=crops.options, control="seam" if preset == "seam" else "none"
    )
    stratum = f"AP@0.10 ({_STRATUM[0]:g}-{_STRATUM[1]:g} mm)"
    two_classes = preset != "one_class"

    def cell(values: Values) -> Cell:
        return Cell(source=mosaic, experiment=_experiment(values), fold=int(values["fold"]))

    return Grid(
        name="lesions",
        version=2,
        about=f"LIDC nodules in mosaics of crops ({preset})",
        axes={
            "view": tuple(VIEWS) if preset in ("full", "one_class") else ("2d", "3d"),
            "model": tuple(MODELS),
            "fold": tuple(range(4)) if preset in ("full", "one_class") else (0,),
            "seed": tuple(range({"first": 3, "full": 2, "seam": 1, "one_class": 2}[preset])),
        },
        cell=cell,
        reference={"model": "retina_net"},
        metrics=("AP@0.10", *((stratum,) if two_classes else ()), "patient_AP"),
        strata={stratum: ("AP@0.10", *_STRATUM)} if two_classes else {},
        claims=_claims() if preset in ("first", "full") else (),
        baselines={"size_only": _size_only} if preset in ("first", "full") else {},
        derived=(RankCorrelation("AP@0.10", "patient_AP"), FalsePositivesByScore({"model": "det_unet"})),
        labels={**MODELS, **VIEWS, "size_only": "class from size only"},
        seconds=300.0,
    )


def crops_of(source: Source | None, *, one_class: bool) -> DataFolder:
    """The folder of crops: that of the project's data unless another is given, as one class or by malignancy."""
    options = ("values=instances", "modality=CT", *(_ONE_CLASS if one_class else _CLASSES))
    crops = source or DataFolder(path=project_data("lidc_nodules"), format="pairs")
    if not isinstance(crops, DataFolder):
        raise ValueError("a mosaic is made from a folder of crops; give it with --data")
    return crops.or_options(*options)


def _experiment(values: Values) -> Experiment:
    changes = [*_STEPS, *_OVERRIDES[str(values["view"])], f"seed={values['seed']}"]
    return get_recipe(f"{values['model']}_small").override(changes)


def _claims() -> tuple[Claim, ...]:
    return (
        Claim(
            text="segmentation helps: Retina U-Net above Retina Net",
            better={"model": "retina_unet"},
            worse={"model": "retina_net"},
        ),
        Claim(
            text="the class is more than the size: Retina Net above the floor",
            better={"model": "retina_net"},
            worse={"model": "size_only"},
        ),
    )


def _size_only(cell: Cell, dataset: Dataset, reference: Path) -> dict[str, Detections]:
    """The detections of the reference row, each as both classes by the size of its box."""
    classifier = _fitted(dataset, RunSplit.load(reference / "run" / "split.json").train)
    return {
        case: classify_by_size(detections, _spacing_of(detections), classifier)
        for case, detections in predictions_of(reference).items()
    }


def _fitted(dataset: Dataset, train: tuple[str, ...]) -> SizeClassifier:
    diameters: list[float] = []
    labels: list[int] = []
    for case in train:
        loaded = read_case(dataset[case], dataset)
        spacing = loaded.image.geometry.spacing
        diameters += box_diameters(loaded.instances.boxes, spacing).tolist()
        labels += loaded.instances.labels.tolist()
    numbers: Any = (diameters, labels)
    return fit_size_classifier(*numbers)


def _spacing_of(detections: Detections) -> tuple[float, ...]:
    if detections.geometry is None:
        raise ValueError("a prediction without its geometry; predict again")
    return tuple(detections.geometry.spacing)
