"""The benchmarking report on DeepLesion: Faster R-CNN (tables 2 and 3) and YOLOv4 (table 4) on eight types of lesions.

Presets: `report` cuts the labelled lesions, which are the official validation and test parts, 75 to 25 by patient, as
the report does (its own split is not public); `official` trains on the official validation part and tests on the test
part; `sample` is the whole experiment on a few pictures of 8 bits with small networks, to see it work: its metrics mean
nothing. Unlike the report, which chose its best epoch on the test images, a tenth of the training patients chooses the
checkpoint.

Rows that start from weights of COCO read them from the folder `weights` beside the data: whoever runs them downloads
them. Rows are the report's, and Retina U-Net with Boxel's defaults, which takes the ellipse in each box for the lesion.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from boxel.experiments.cell import Cell
from boxel.experiments.deeplesion_tables import BoxSizes, Compared, Confusions, LearningCurves, Lesions, TrainAndTest
from boxel.experiments.grid import Claim, Grid, Value, Values
from boxel.experiments.sources import DataFolder, PatientSplit, Source, project_data
from boxel.recipes import Experiment, get_recipe

PRESETS = ("report", "official", "sample")
_OPTIONS = ("classes=known_type", "window=row")
_WEIGHTS = {"faster_rcnn": "fasterrcnn_resnet50_fpn_coco.pth", "yolov4": "yolov4.conv.137"}


@dataclass(frozen=True)
class _Trained:
    """A row of table 2: how Faster R-CNN was trained."""

    label: str
    optimizer: Literal["adam", "sgd"]
    pretrained: bool = False
    balanced: bool = True
    augmented: bool = False

    def overrides(self) -> list[str]:
        own = ["train.optimizer=adam", "train.lr=1e-4"]
        if self.optimizer == "sgd":
            own = ["train.optimizer=sgd", "train.lr=2e-5", "train.momentum=0.9", "train.nesterov=false"]
        if not self.balanced:
            own += ["train.sampler.order=epoch", "train.sampler.shuffle=false"]
        if self.augmented:  # +-30 degrees; the crops of 0 to 64 of 612 pixels resized to one size are a zoom
            own += ["train.augment.spatial=1", "train.augment.rotate=30", "train.augment.scale=[0.837,1.058]"]
        return own


_FASTER_RCNN: dict[Value, _Trained] = {
    "faster_rcnn_1": _Trained("Faster R-CNN, COCO, Adam, unbalanced", "adam", pretrained=True, balanced=False),
    "faster_rcnn_2": _Trained("Faster R-CNN, Adam", "adam"),
    "faster_rcnn_3": _Trained("Faster R-CNN, COCO, Adam", "adam", pretrained=True),
    "faster_rcnn_4": _Trained("Faster R-CNN, SGD", "sgd"),
    "faster_rcnn_5": _Trained("Faster R-CNN, COCO, SGD", "sgd", pretrained=True),
    "faster_rcnn_6": _Trained("Faster R-CNN, COCO, Adam, augmented", "adam", pretrained=True, augmented=True),
}
LABELS: dict[Value, str] = {
    **{row: trained.label for row, trained in _FASTER_RCNN.items()},
    "yolov4_416": "YOLOv4, COCO, 416 x 416",
    "yolov4_864": "YOLOv4, COCO, stride 4, 864 and 1024",
    "faster_rcnn_vgg": "Faster R-CNN, VGG-16 of stride 8",
    "retina_unet": "Retina U-Net, defaults of Boxel",
}
# Train and test mAP, train and test mean IoU (tables 3 and 4); test mAP at 0.5 and 0.75 of the best (table 5).
PUBLISHED: dict[str, tuple[float, float, float, float]] = {
    "faster_rcnn_1": (0.38, 0.12, 0.43, 0.21),
    "faster_rcnn_2": (0.65, 0.15, 0.43, 0.17),
    "faster_rcnn_3": (0.79, 0.19, 0.77, 0.22),
    "faster_rcnn_6": (0.49, 0.19, 0.38, 0.18),
    "faster_rcnn_4": (0.01, 0.00, 0.02, 0.00),
    "faster_rcnn_5": (0.00, 0.00, 0.01, 0.00),
    "yolov4_416": (0.63, 0.18, 0.38, 0.22),
    "yolov4_864": (0.80, 0.20, 0.59, 0.32),
}
_TABLE_5 = {"faster_rcnn_3": (0.152, 0.069), "yolov4_864": (0.165, 0.063)}


def deeplesion(preset: str, source: Source | None) -> Grid:
    data, weights = _data(preset, source)

    def cell(values: Values) -> Cell:
        row = str(values["model"])
        experiment = _small(row) if preset == "sample" else _experiment(row, weights)
        return Cell(
            source=data, experiment=experiment.override([f"seed={values['seed']}"]), fold=0, protocol="deeplesion"
        )

    sample = preset == "sample"
    return Grid(
        name="deeplesion",
        version=1,
        about="benchmarking report on DeepLesion, tables 3 to 7"
        + {"report": "", "official": ", official parts", "sample": ": SAMPLE, its metrics mean nothing"}[preset],
        axes={"model": tuple(LABELS), "seed": (0,)},
        cell=cell,
        reference={"model": "faster_rcnn_3"},
        metrics=("AP@0.21", "AP@0.50", "AP@0.75", "mean_iou_objects@0.21"),
        claims=() if sample else _CLAIMS,
        derived=(
            Lesions(),
            TrainAndTest({} if sample else PUBLISHED),
            *(() if sample else (Compared(_TABLE_5),)),
            BoxSizes(),
            LearningCurves("AP@0.10" if sample else "AP@0.50"),
            Confusions(),
        ),
        labels={row: label.replace("COCO", "COCO left out") for row, label in LABELS.items()} if sample else LABELS,
        seconds=60.0 if sample else 20 * 3600.0,
    )


_CLAIMS = (
    Claim(
        text="weights of COCO help, Adam", better={"model": "faster_rcnn_3"}, worse={"model": "faster_rcnn_2"},
        metric="AP@0.50",
    ),
    Claim(
        text="balanced batches help", better={"model": "faster_rcnn_3"}, worse={"model": "faster_rcnn_1"},
        metric="AP@0.50",
    ),
    Claim(
        text="a head on stride 4 and more pixels help YOLOv4", better={"model": "yolov4_864"},
        worse={"model": "yolov4_416"}, metric="AP@0.50",
    ),
    Claim(
        text="stride 8 instead of 32 helps Faster R-CNN", better={"model": "faster_rcnn_vgg"},
        worse={"model": "faster_rcnn_2"}, metric="AP@0.50",
    ),
)  # fmt: skip


def _data(preset: str, source: Source | None) -> tuple[Source, Path]:
    """The images, and the folder of weights."""
    if source is None and preset == "sample":
        source = DataFolder(path=project_data("deeplesion/jpg8bit"), format="deeplesion_jpg")
    if not isinstance(source, DataFolder):
        raise ValueError(
            "deeplesion needs the folder with DL_info.csv and Images_png; give it with --data, or try it out with "
            "--preset sample"
        )
    folder = source if preset == "sample" else source.or_options(*_OPTIONS)
    weights = Path(folder.path, "weights")
    if preset == "official":
        return folder, weights
    return PatientSplit(folder=folder, test=0.25, val=0.25 if preset == "sample" else 0.1), weights  # of ten patients


def _experiment(row: str, weights: Path) -> Experiment:
    if row == "retina_unet":
        own = ("plan.spacing_unit=voxel", 'plan.normalisation=["fixed"]', "plan.means=[127.5]", "plan.stds=[127.5]")
        return get_recipe(row).override([*own, "model.boxes_without_mask=fill"])
    if row == "faster_rcnn_vgg":
        return get_recipe("deeplesion_faster_rcnn_vgg")
    if row in _FASTER_RCNN:
        trained = _FASTER_RCNN[row]
        start = [f"model.weights={weights / _WEIGHTS['faster_rcnn']}"] if trained.pretrained else []
        return get_recipe("deeplesion_faster_rcnn").override([*trained.overrides(), *start])
    # The neck in the file is for levels 3, 4 and 5, that of the finer network for 2, 4 and 5.
    recipe, part = {"yolov4_416": ("deeplesion_yolov4", ""), "yolov4_864": ("deeplesion_yolov4_fine", "backbone.")}[row]
    return get_recipe(recipe).override([f"model.{part}weights={weights / _WEIGHTS['yolov4']}"])


def _small(row: str) -> Experiment:
    """The row with a small network, random weights, few steps and images of 128 x 128."""
    pixels = ("plan.spacing_unit=voxel", "plan.spacing=[4,4]", "plan.patch_size=[128,128]")
    steps = ("train.steps=120", "train.validate_every=60", "train.keep=1", "train.select_by=AP@0.10")
    own: Mapping[str, str] = {"retina_unet": "retina_unet_small", "faster_rcnn_vgg": "faster_rcnn_small"}
    name = own.get(row, "faster_rcnn_small" if row in _FASTER_RCNN else "yolov4_small")
    experiment = get_recipe(name).override([*pixels, *steps])
    if row in _FASTER_RCNN:
        experiment = experiment.override(["train.sampler.order=balanced"]).override(_FASTER_RCNN[row].overrides())
    if row == "faster_rcnn_vgg":
        backbone = 'model.backbone={"type": "vgg", "pools": 3, "start_filters": 8, "norm": "batch"}'
        one_level = ("model.neck=none", "plan.strides=[[2],[2],[2]]", "plan.levels=[3]")
        experiment = experiment.override([backbone, *one_level])
    if row == "yolov4_864":
        strides = "plan.strides=[[2],[2],[2],[2],[2]]"
        experiment = experiment.override([strides, "plan.levels=[2,4,5]", "predict.scales=[1.25]"])
    return experiment
