"""The detectors of the benchmarking report on DeepLesion, and YOLOv4 in 3D.

The report trains YOLOv4 with Darknet and leaves what it does not name at Darknet's defaults (`yolov4-custom.cfg`):
burn-in, decay, steps, mosaics, jitter and exposure. Where it contradicts itself, the figures of its tables count: 416
pixels (its text: 448), and 864 for training (816 and 869, which Darknet does not take), 1024 for prediction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from boxel.inference.config import PredictConfig
from boxel.loading.augment import AugmentConfig
from boxel.loading.sampler import SamplerConfig
from boxel.models import CSPDarknetConfig, ModelConfig
from boxel.preparation.plan import PlanConfig
from boxel.recipes.experiment import Experiment
from boxel.recipes.modern import full
from boxel.training.config import TrainConfig
from boxel.training.schedule import StepsConfig

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


def _yolov4(name: str, model: str) -> Experiment:
    own = _SIZES[name]
    step = IMAGE / own.size
    reproduces = (
        f"Table 4 of the benchmarking report on DeepLesion: {own.table} on its test images; its split, its best epoch "
        "(chosen on the test images) and its weights of COCO are not public"
    )
    return Experiment(
        recipe=name if model == "yolov4" else f"{name}_{model}",
        reproduces=reproduces if model == "yolov4" else "",
        model=ModelConfig.of_parts(model, {}) if model == "yolov4" else full(model).model,
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
            validate_every=1000, select_by="AP@0.50", augment=_DARKNET,
            sampler=SamplerConfig(foreground=0.0, order="balanced"),
        ),
        predict=PredictConfig(views="identity", scales=(own.predicted / own.size,)),
    )  # fmt: skip


def _yolov4_3d(model: str) -> Experiment:
    own = full(model)
    if model != "yolov4":
        return own
    narrow = CSPDarknetConfig(width=0.25)
    return own.model_copy(update={"recipe": "yolov4_3d", "model": own.model.model_copy(update={"backbone": narrow})})


# What it is, and the experiment for a model.
DEEPLESION: dict[str, tuple[str, str, Callable[[str], Experiment]]] = {
    "deeplesion_yolov4": (
        "DeepLesion, Table 4: YOLOv4 on images of 416 x 416.",
        "yolov4",
        partial(_yolov4, "deeplesion_yolov4"),
    ),
    "deeplesion_yolov4_fine": (
        "DeepLesion, Table 4: YOLOv4 with a head on stride 4, on images of 864 x 864.",
        "yolov4",
        partial(_yolov4, "deeplesion_yolov4_fine"),
    ),
    "yolov4_3d": ("YOLOv4 in 3D at a quarter of its width.", "yolov4", _yolov4_3d),
}
