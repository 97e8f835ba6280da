"""The detectors of the benchmarking report on DeepLesion, and variants: YOLOv4 in 3D, Faster R-CNN on a VGG.

The report trains Faster R-CNN with torchvision, which enlarges every image to 800 pixels, for 110 epochs at a constant
rate, and names neither decay nor burn-in: there are none. Rows of its table 2 that differ are in the experiment.

The report trains YOLOv4 with Darknet and leaves what it does not name at Darknet's defaults (`yolov4-custom.cfg`):
burn-in, decay, steps, mosaics, jitter and exposure. Where it contradicts itself, the figures of its tables count: 416
pixels (its text: 448), and 864 for training (816 and 869, which Darknet does not take), 1024 for prediction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from boxel.inference.config import PredictConfig
from boxel.loading.augment import NO_AUGMENTATION, AugmentConfig
from boxel.loading.sampler import SamplerConfig
from boxel.models import CSPDarknetConfig, FasterRCNNConfig, ModelConfig, NoNeckConfig, VGGConfig, YOLOv4Config
from boxel.preparation.anchors import torchvision_anchors
from boxel.preparation.plan import PlanConfig
from boxel.recipes.experiment import Experiment
from boxel.recipes.modern import TORCHVISION, TORCHVISION_PLAN, full
from boxel.training.config import TrainConfig
from boxel.training.schedule import ConstantConfig, StepsConfig

IMAGE = 512  # pixels per axis of DeepLesion
# Height and width of three anchors on each of three levels, in pixels of the network's input.
DARKNET_ANCHORS = (
    ((16.0, 12.0), (36.0, 19.0), (28.0, 40.0)),
    ((75.0, 36.0), (55.0, 76.0), (146.0, 72.0)),
    ((110.0, 142.0), (243.0, 192.0), (401.0, 459.0)),
)
REPORT_ANCHORS = (
    ((15.0, 15.0), (21.0, 21.0), (26.0, 29.0)),
    ((38.0, 34.0), (37.0, 50.0), (58.0, 46.0)),
    ((60.0, 69.0), (94.0, 97.0), (133.0, 156.0)),
)
_DARKNET = AugmentConfig(
    mirror=0.0, spatial=0.0, jitter=0.3, mosaic=1.0, intensity=1.0,
    noise=0.0, blur=0.0, brightness=0.0, gamma=0.0, contrast=0.5,
)  # fmt: skip
_BALANCED = SamplerConfig(foreground=0.0, order="balanced")


@dataclass(frozen=True)
class _Input:
    """What an image becomes: its size in training and prediction, the levels that detect, and their anchors."""

    size: int
    predicted: int
    levels: tuple[int, int, int]
    anchors: tuple[tuple[tuple[float, float], ...], ...]
    table: str


_SIZES = {
    "deeplesion_yolov4": _Input(416, 416, (3, 4, 5), DARKNET_ANCHORS, "mAP 18 %, mean IoU 22 %"),
    "deeplesion_yolov4_fine": _Input(864, 1024, (2, 4, 5), REPORT_ANCHORS, "mAP 20 %, mean IoU 32 %"),
}


# VGG-16 without its last two poolings: one level of stride 8; layers of the RoIs are 512 wide instead of VGG's 4096.
_ON_VGG = FasterRCNNConfig(
    backbone=VGGConfig(pools=3),
    neck=NoNeckConfig(),
    rpn=TORCHVISION.rpn.model_copy(update={"filters": 512}),
    roi=TORCHVISION.roi.model_copy(update={"filters": 512}),
)
_VGG_PLAN = {
    "ndim": 2, "strides": ((2,),) * 3, "levels": (3,), "anchors": (torchvision_anchors(2, (16, 24, 32, 48, 96)),),
}  # fmt: skip
# The mean and deviation of ImageNet's three channels together, as they are equal in a CT.
_GREY = {"normalisation": ("fixed",), "means": (0.449 * 255,), "stds": (0.226 * 255,)}


def _own_model(own: ModelConfig, model: str) -> ModelConfig:
    return own if model == own.type_name else full(model).model


def _yolov4(name: str, model: str) -> Experiment:
    own = _SIZES[name]
    step = IMAGE / own.size
    reproduces = (
        f"Table 4 of the benchmarking report on DeepLesion: {own.table} on its test images; its split, its best epoch "
        "(chosen on the test images) and its weights of COCO are not public"
    )
    return Experiment(
        recipe=_name(name, model, "yolov4"),
        reproduces=reproduces if model == "yolov4" else "",
        model=_own_model(YOLOv4Config(), model),
        plan=PlanConfig(
            spacing_unit="voxel",
            spacing=(step, step),
            normalisation=("fixed",),
            means=(0.0,),
            stds=(255.0,),
            patch_size=(own.size, own.size),
            strides=((2, 2),) * 5,
            levels=own.levels,
            anchors=own.anchors,
        ),
        train=TrainConfig(
            steps=16_000, batch_size=64, optimizer="sgd", lr=1e-3, momentum=0.9, nesterov=False, weight_decay=5e-4,
            warmup=1000, warmup_power=4.0, schedule=StepsConfig(at=(0.8, 0.9), factor=0.1), clip_norm=None,
            validate_every=1000, select_by="AP@0.50", augment=_DARKNET, sampler=_BALANCED,
        ),
        predict=PredictConfig(
            views="identity", scales=(own.predicted / own.size,), tile_voxels=own.predicted**2,  # in one piece
        ),
    )  # fmt: skip


def _faster_rcnn(name: str, model: str) -> Experiment:
    on_vgg = name.endswith("vgg")
    size = IMAGE if on_vgg else 800
    reproduces = (
        "Table 3 of the benchmarking report on DeepLesion, without weights of COCO: mAP 15 %, mean IoU 17 % on its "
        "test images; its split and its best epoch (chosen on the test images) are not public"
    )
    return Experiment(
        recipe=_name(name, model, "faster_rcnn"),
        reproduces="" if on_vgg or model != "faster_rcnn" else reproduces,
        model=_own_model(_ON_VGG if on_vgg else TORCHVISION, model),
        plan=PlanConfig(
            spacing_unit="voxel", spacing=(IMAGE / size,) * 2, patch_size=(size, size), **_GREY,
            **(_VGG_PLAN if on_vgg else TORCHVISION_PLAN),
        ),
        train=TrainConfig(
            epochs=110, batch_size=32, optimizer="adam", lr=1e-4, weight_decay=0.0, warmup=0,
            schedule=ConstantConfig(), clip_norm=None, validate_every=1000, select_by="AP@0.50",
            augment=NO_AUGMENTATION, sampler=_BALANCED,
        ),
        predict=PredictConfig(views="identity"),
    )  # fmt: skip


def _variant(name: str, own: ModelConfig, plan: dict[str, Any], model: str) -> Experiment:
    """The recipe of the model with these settings; of another model, its own."""
    usual = full(model)
    if model != own.type_name:
        return usual
    return usual.model_copy(update={"recipe": name, "model": own, "plan": usual.plan.model_copy(update=plan)})


def _name(recipe: str, model: str, own: str) -> str:
    return recipe if model == own else f"{recipe}_{model}"


# What it is, its model, and the experiment for a model.
DEEPLESION: dict[str, tuple[str, str, Callable[[str], Experiment]]] = {
    "yolov4_3d": (
        "YOLOv4 in 3D at a quarter of its width.",
        "yolov4",
        partial(_variant, "yolov4_3d", YOLOv4Config(backbone=CSPDarknetConfig(width=0.25)), {}),
    ),
    "faster_rcnn_vgg": (
        "Faster R-CNN on a VGG-16, for slices with lesions.",
        "faster_rcnn",
        partial(_variant, "faster_rcnn_vgg", _ON_VGG, _VGG_PLAN),
    ),
    "deeplesion_faster_rcnn": (
        "DeepLesion, tables 2 and 3: Faster R-CNN on images of 800 x 800, balanced batches.",
        "faster_rcnn",
        partial(_faster_rcnn, "deeplesion_faster_rcnn"),
    ),
    "deeplesion_faster_rcnn_vgg": (
        "DeepLesion: Faster R-CNN on a VGG-16 of stride 8, as its authors propose.",
        "faster_rcnn",
        partial(_faster_rcnn, "deeplesion_faster_rcnn_vgg"),
    ),
    "deeplesion_yolov4": (
        "DeepLesion, table 4: YOLOv4 on images of 416 x 416.",
        "yolov4",
        partial(_yolov4, "deeplesion_yolov4"),
    ),
    "deeplesion_yolov4_fine": (
        "DeepLesion, table 4: YOLOv4 with a head on stride 4, on images of 864 x 864.",
        "yolov4",
        partial(_yolov4, "deeplesion_yolov4_fine"),
    ),
}
