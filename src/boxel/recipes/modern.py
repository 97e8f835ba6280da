"""Every model for a GPU and, `_small`, for a CPU: with modern defaults, or, Faster R-CNN and YOLOv4, as published."""

from typing import Any

from boxel.inference.config import PredictConfig
from boxel.loading.sampler import SamplerConfig
from boxel.models import (
    CoarseConfig,
    CSPDarknetConfig,
    DenseConfig,
    FasterRCNNConfig,
    FPNConfig,
    LNetConfig,
    MaskConfig,
    ModelConfig,
    ResNetConfig,
    RoIConfig,
    RPNConfig,
    SemanticNetConfig,
    YOLOv4Config,
)
from boxel.preparation.plan import PlanConfig
from boxel.recipes.experiment import Experiment
from boxel.recipes.parts import model_with
from boxel.training.config import LAST, TrainConfig

_NARROW = ResNetConfig(depth=18, start_filters=16, stem_kernel=3, norm="batch")
_NARROW_NET = SemanticNetConfig(backbone=_NARROW, filters=16)
_NARROW_FIRST = {
    "lsnet": LNetConfig(backbone=_NARROW, filters=16, box_kernel=5, delta=5.0, beta=1.0),
    "coarse_to_fine": CoarseConfig(net=_NARROW_NET),
}
# Models whose own settings are kept, of which the parts that the others share would replace some; and their plan.
TORCHVISION = FasterRCNNConfig()
TORCHVISION_PLAN = {"strides": ((2,),) * 5, "levels": (2, 3, 4, 5, 6), "anchors": "torchvision"}
_LARGE: dict[str, tuple[ModelConfig, dict[str, Any]]] = {
    "faster_rcnn": (TORCHVISION, TORCHVISION_PLAN),
    "yolov4": (YOLOv4Config(), {}),
}
_SMALL = {
    "yolov4": YOLOv4Config(backbone=CSPDarknetConfig(width=0.25, depth=0.25)),
    "faster_rcnn": FasterRCNNConfig(
        backbone=_NARROW,
        neck=FPNConfig(filters=32),
        rpn=TORCHVISION.rpn.model_copy(
            update={
                "filters": 32,
                "norm": "batch",
                "candidates": 200,
                "proposals": 100,
                "train_candidates": None,
                "train_proposals": None,
            }
        ),
        roi=TORCHVISION.roi.model_copy(update={"filters": 128, "norm": "group", "per_image": 32, "pool_size": None}),
    ),
}


# Networks that segment and whose boxes only help: of the metrics of boxes none says how good they are.
_BY_LAST = {name: {"select_by": LAST} for name in ("unet", "lsnet", "coarse_to_fine")}


def full(model: str) -> Experiment:
    """A ResNet-50 with instance norm; ATSS, focal and GIoU loss. Some models are as published instead."""
    parts = {
        "neck": _pyramid(model, 128, narrow=32),
        "dense": DenseConfig(filters=128),
        "rpn": RPNConfig(filters=128),
        "roi": RoIConfig(filters=512, per_image=128),
    }
    own, plan = _LARGE.get(model, (None, {}))
    return Experiment(
        recipe=model,
        model=own or model_with(model, parts),
        plan=PlanConfig(voxels_per_step=2**22, **plan),
        train=TrainConfig(
            steps=30_000, lr=1e-3, warmup=1000, validate_every=1000, keep=5, average=0.999, **_BY_LAST.get(model, {})
        ),
    )


def small(model: str) -> Experiment:
    """About a quarter of a million weights, trained in minutes on two CPU cores."""
    parts: dict[str, object] = {
        "backbone": _NARROW,
        "neck": _pyramid(model, 32, narrow=16),
        "dense": DenseConfig(filters=32, num_convs=2, norm="batch"),
        "rpn": RPNConfig(filters=32, norm="batch", candidates=200, proposals=100),
        "roi": RoIConfig(filters=128, per_image=32),
        "mask": MaskConfig(num_convs=2),
        "segment": "classes",
        "net": _NARROW_NET,
        "second": _NARROW_NET,
    }
    if model in _NARROW_FIRST:
        parts["first"] = _NARROW_FIRST[model]
    return Experiment(
        recipe=f"{model}_small",
        model=_SMALL.get(model) or model_with(model, parts),
        plan=PlanConfig(patch_extent=2.4, large_patches=8, voxels_per_step=2**18),
        train=TrainConfig(
            steps=800,
            lr=2e-3,
            warmup=50,
            validate_every=200,
            validation_cases=40,
            average=0.99,
            sampler=SamplerConfig(foreground=0.9),
            **_BY_LAST.get(model, {}),
        ),
        predict=PredictConfig(tile_voxels=2**17),
    )


def _pyramid(model: str, filters: int, *, narrow: int) -> FPNConfig:
    """An FPN; a U-FPN, whose lowest levels are narrow, where the model segments."""
    segments = getattr(ModelConfig.registry.get(model), "segments", False)
    return FPNConfig(filters=filters, narrow_filters=narrow if segments else None)
