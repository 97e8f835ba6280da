"""Every model for a GPU and, `_small`, for a CPU: with modern defaults, or, Faster R-CNN, with those of torchvision."""

from boxel.inference.config import PredictConfig
from boxel.loading.sampler import SamplerConfig
from boxel.models import (
    CoarseConfig,
    DenseConfig,
    FasterRCNNConfig,
    FPNConfig,
    LNetConfig,
    MaskConfig,
    ModelConfig,
    NoNeckConfig,
    ResNetConfig,
    RoIConfig,
    RPNConfig,
    SemanticNetConfig,
    VGGConfig,
)
from boxel.preparation.anchors import torchvision_anchors
from boxel.preparation.plan import PlanConfig
from boxel.recipes.experiment import Experiment
from boxel.recipes.parts import model_with
from boxel.training.config import TrainConfig

_NARROW = ResNetConfig(depth=18, start_filters=16, stem_kernel=3, norm="batch")
_NARROW_NET = SemanticNetConfig(backbone=_NARROW, filters=16)
_NARROW_FIRST = {
    "lsnet": LNetConfig(backbone=_NARROW, filters=16, box_kernel=5, delta=5.0, beta=1.0),
    "coarse_to_fine": CoarseConfig(net=_NARROW_NET),
}
# Models whose own settings are kept, of which the parts that the others share would replace some.
_TORCHVISION = FasterRCNNConfig()
_LARGE = {"faster_rcnn": (_TORCHVISION, {"strides": ((2,),) * 5, "levels": (2, 3, 4, 5, 6), "anchors": "torchvision"})}
_SMALL = {
    "faster_rcnn": FasterRCNNConfig(
        backbone=_NARROW,
        neck=FPNConfig(filters=32),
        rpn=_TORCHVISION.rpn.model_copy(
            update={
                "filters": 32,
                "norm": "batch",
                "candidates": 200,
                "proposals": 100,
                "train_candidates": None,
                "train_proposals": None,
            }
        ),
        roi=_TORCHVISION.roi.model_copy(update={"filters": 128, "norm": "group", "per_image": 32, "pool_size": None}),
    )
}


def full(model: str) -> Experiment:
    """A ResNet-50 with instance norm; ATSS, focal and GIoU loss. `faster_rcnn` has its own values, and its own plan."""
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
        train=TrainConfig(steps=30_000, lr=1e-3, warmup=1000, validate_every=1000, keep=5, average=0.999),
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
        plan=PlanConfig(patch_extent=2.4, voxels_per_step=2**18),
        train=TrainConfig(
            steps=800,
            lr=2e-3,
            warmup=50,
            validate_every=200,
            validation_cases=40,
            average=0.99,
            sampler=SamplerConfig(foreground=0.9),
        ),
        predict=PredictConfig(tile_voxels=2**17),
    )


def _on_vgg(model: str) -> Experiment:
    """Slices, one level of stride 8: a VGG-16 without its last two poolings, and narrower layers for the RoIs."""
    parts = {
        "backbone": VGGConfig(pools=3),
        "neck": _pyramid(model, 128, narrow=32) if _segments(model) else NoNeckConfig(),
        "rpn": _TORCHVISION.rpn.model_copy(update={"filters": 512}),
        "roi": _TORCHVISION.roi.model_copy(update={"filters": 512}),
    }
    anchors = (torchvision_anchors(2, (16, 24, 32, 48, 96)),)
    plan = PlanConfig(voxels_per_step=2**22, ndim=2, strides=((2,),) * 3, levels=(3,), anchors=anchors)
    return full(model).model_copy(update={"recipe": "faster_rcnn_vgg", "model": model_with(model, parts), "plan": plan})


# By name: what it is, its model, and how it is built for a model.
VARIANTS = {"faster_rcnn_vgg": ("Faster R-CNN on a VGG-16, for slices with lesions.", "faster_rcnn", _on_vgg)}


def _pyramid(model: str, filters: int, *, narrow: int) -> FPNConfig:
    """An FPN; a U-FPN, whose lowest levels are narrow, where the model segments."""
    return FPNConfig(filters=filters, narrow_filters=narrow if _segments(model) else None)


def _segments(model: str) -> bool:
    return getattr(ModelConfig.registry.get(model), "segments", False)
