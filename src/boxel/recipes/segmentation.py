"""Recipes of the networks that segment: L-SNet and its baselines, at the size of the paper and, `_small`, for a CPU.

Reference: L-SNet, sections 2.5 and 3.1. The paper names neither the batch size nor augmentation; it starts from weights
of ImageNet, which are given by `--set model.second.backbone.weights=FILE` and the like.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from boxel.inference.config import PredictConfig
from boxel.loading.augment import NO_AUGMENTATION
from boxel.loading.sampler import SamplerConfig
from boxel.models import (
    CoarseConfig,
    CoarseToFineConfig,
    LNetConfig,
    LSNetConfig,
    ModelConfig,
    ResNetConfig,
    SemanticNetConfig,
    UNetConfig,
)
from boxel.preparation.plan import PlanConfig
from boxel.recipes.experiment import Experiment
from boxel.training.config import LAST, TrainConfig
from boxel.training.schedule import StepsConfig

Decoder = Literal["unet", "attention_unet", "fcn"]
PAPER_SIZE = 320  # voxels per axis of an image; lengths of the paper are for that


@dataclass(frozen=True)
class _Scale:
    """The size of the networks and of an image: of the paper, or for a CPU."""

    size: int
    filters: int
    coarse_depth: Literal[10, 18]
    fine_depth: Literal[18, 34]

    @property
    def ratio(self) -> float:
        """Of lengths to those of the paper."""
        return self.size / PAPER_SIZE

    def net(self, decoder: Decoder, depth: Literal[10, 18, 34]) -> SemanticNetConfig:
        return SemanticNetConfig(backbone=self.backbone(depth), decoder=decoder, filters=self.filters)

    def backbone(self, depth: Literal[10, 18, 34]) -> ResNetConfig:
        return ResNetConfig(depth=depth, start_filters=self.filters, norm="batch")


_FULL, _SMALL = _Scale(PAPER_SIZE, 64, 18, 34), _Scale(160, 16, 10, 18)


def _one_stage(scale: _Scale, decoder: Decoder) -> ModelConfig:
    return UNetConfig(net=scale.net(decoder, scale.fine_depth))


def _lsnet(scale: _Scale, decoder: Decoder) -> ModelConfig:
    first = LNetConfig(
        backbone=scale.backbone(scale.coarse_depth),
        decoder="fcn" if decoder == "fcn" else "unet",
        filters=scale.filters,
        delta=20 * scale.ratio**2,
        beta=2 * scale.ratio,
    )
    return LSNetConfig(first=first, second=scale.net(decoder, scale.fine_depth), margin=7.5 * scale.ratio)


def _coarse_to_fine(scale: _Scale, decoder: Decoder) -> ModelConfig:
    first = CoarseConfig(net=scale.net(decoder, scale.coarse_depth))
    return CoarseToFineConfig(first=first, second=scale.net(decoder, scale.fine_depth), margin=15 * scale.ratio)


# What it is, its model, its networks, their decoder.
_MODELS: dict[str, tuple[str, str, Callable[[_Scale, Decoder], ModelConfig], Decoder]] = {
    "lsnet_unet": ("L-SNet with U-Nets.", "lsnet", _lsnet, "unet"),
    "lsnet_fcn": ("L-SNet with FCNs.", "lsnet", _lsnet, "fcn"),
    "unet": ("U-Net on a ResNet.", "unet", _one_stage, "unet"),
    "attention_unet": ("Attention U-Net on a ResNet.", "unet", _one_stage, "attention_unet"),
    "fcn": ("FCN on a ResNet.", "unet", _one_stage, "fcn"),
    "coarse_to_fine_unet": (
        "Two U-Nets, the second on what the first one cuts out.",
        "coarse_to_fine",
        _coarse_to_fine,
        "unet",
    ),
    "coarse_to_fine_fcn": (
        "Two FCNs, the second on what the first one cuts out.",
        "coarse_to_fine",
        _coarse_to_fine,
        "fcn",
    ),
}
_PAPER_TRAINING = TrainConfig(
    epochs=60,
    optimizer="adam",
    lr=1e-4,
    weight_decay=0.0,
    schedule=StepsConfig(at=(25 / 60, 50 / 60)),
    warmup=0,
    clip_norm=None,
    sampler=SamplerConfig(foreground=0.0, slices="positive"),
    augment=NO_AUGMENTATION,
    select_by=LAST,  # of the metrics of boxes none says how well a network segments
)
_SMALL_TRAINING = _PAPER_TRAINING.model_copy(
    update={"epochs": None, "steps": 1500, "lr": 1e-3, "validate_every": 500, "validation_cases": 40}
)
# Mean DSC of the slices in per cent, L-SNet, table 1.
PUBLISHED_DSC = {
    "lsnet_unet": 88.20,
    "lsnet_fcn": 87.20,
    "unet": 86.56,
    "attention_unet": 86.88,
    "fcn": 84.28,
    "coarse_to_fine_unet": 87.41,
    "coarse_to_fine_fcn": 86.16,
}


def _reproduces(name: str) -> str:
    return (
        f"Pancreas-CT, L-SNet table 1: DSC {PUBLISHED_DSC[name]:.2f} %; from weights of ImageNet; batch size (here 16) "
        "and split not given"
    )


def _build(name: str, scale: _Scale, model: str) -> Experiment:
    """The recipe `name`; a `model` of another kind than its own has its default sizes."""
    _, own, make, decoder = _MODELS[name]
    config = make(scale, decoder) if model == own else ModelConfig.of_parts(model, {})
    paper = scale is _FULL
    return Experiment(
        recipe=name if paper else f"{name}_small",
        reproduces=_reproduces(name) if paper and model == own else "",
        plan=PlanConfig(ndim=2, patch_size=(scale.size,) * 2, batch_size=16 if paper else 8, strides=((2, 2),) * 5),
        model=config,
        train=_PAPER_TRAINING if paper else _SMALL_TRAINING,
        predict=PredictConfig(views="identity", segmentation=True),
    )


def small_recipe(name: str, size: int) -> Experiment:
    """The small recipe `name` for images of `size` voxels per axis, to which its lengths are scaled."""
    return _build(name, replace(_SMALL, size=size), _MODELS[name][1])


def _lsnet_volumes(model: str) -> Experiment:
    """L-SNet on volumes, with a narrower network and a kernel of distances of 5 cells."""
    scale = _Scale(96, 32, 18, 18)
    own = _lsnet(scale, "unet")
    own = own.model_copy(update={"first": own.first.model_copy(update={"box_kernel": 5})})  # type: ignore[attr-defined]
    return Experiment(
        recipe="lsnet_3d",
        plan=PlanConfig(voxels_per_step=2**21),
        model=own if model == "lsnet" else ModelConfig.of_parts(model, {}),
        train=TrainConfig(
            steps=30_000,
            warmup=1000,
            validate_every=1000,
            average=0.999,
            sampler=SamplerConfig(foreground=0.9),
            select_by=LAST,
        ),
        predict=PredictConfig(views="identity", segmentation=True),
    )


def _entries() -> Iterator[tuple[str, str, str, Callable[[str], Experiment]]]:
    for name, (about, own, _, _) in _MODELS.items():
        yield name, about, own, partial(_build, name, _FULL)
        yield f"{name}_small", f"{about} Small, for a CPU.", own, partial(_build, name, _SMALL)
    yield "lsnet_3d", "L-SNet on volumes.", "lsnet", _lsnet_volumes


# By name: what it is, its model, and how it is built for a model.
SEGMENTATION = {name: (about, model, build) for name, about, model, build in _entries()}
