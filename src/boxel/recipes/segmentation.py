"""Recipes of the networks that segment: L-SNet and its baselines, at the size of the paper and, `_small`, for a CPU.

Reference: L-SNet, sections 2.5 and 3.1. The paper names neither the batch size nor augmentation; it starts from weights
of ImageNet, which are given by `--set model.second.backbone.weights=FILE` and the like.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

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
from boxel.training.config import TrainConfig
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


_MODELS: dict[str, tuple[str, Callable[[_Scale, Decoder], ModelConfig], Decoder]] = {
    "lsnet_unet": ("L-SNet with U-Nets.", _lsnet, "unet"),
    "lsnet_fcn": ("L-SNet with FCNs.", _lsnet, "fcn"),
    "unet": ("U-Net on a ResNet.", _one_stage, "unet"),
    "attention_unet": ("Attention U-Net on a ResNet.", _one_stage, "attention_unet"),
    "fcn": ("FCN on a ResNet.", _one_stage, "fcn"),
    "coarse_to_fine_unet": ("Two U-Nets, the second on what the first one cuts out.", _coarse_to_fine, "unet"),
    "coarse_to_fine_fcn": ("Two FCNs, the second on what the first one cuts out.", _coarse_to_fine, "fcn"),
}
_TYPES = {_lsnet: "lsnet", _one_stage: "unet", _coarse_to_fine: "coarse_to_fine"}


def _build(name: str, scale: _Scale, model: str) -> Experiment:
    """The recipe `name`; another `model` than its own has its default sizes."""
    _, own, decoder = _MODELS[name]
    config = own(scale, decoder) if model == _TYPES[own] else ModelConfig.of_parts(model, {})
    paper = scale is _FULL
    return Experiment(
        recipe=name if paper else f"{name}_small",
        plan=PlanConfig(
            ndim=2,
            patch_size=(scale.size,) * 2,
            batch_size=16 if paper else 8,
            strides=((2, 2),) * 5,
        ),
        model=config,
        train=_PAPER_TRAINING if paper else _SMALL_TRAINING,
        predict=PredictConfig(views="identity", segmentation=True),
    )


_PAPER_TRAINING = TrainConfig(
    epochs=60,
    optimizer="adam",
    lr=1e-4,
    weight_decay=0.0,
    schedule=StepsConfig(at=(25 / 60, 50 / 60), factor=0.1),
    warmup=0,
    clip_norm=None,
    sampler=SamplerConfig(foreground=1.0, slices="positive"),
    augment=NO_AUGMENTATION,
)
_SMALL_TRAINING = _PAPER_TRAINING.model_copy(
    update={"epochs": None, "steps": 1500, "lr": 1e-3, "validate_every": 500, "validation_cases": 40}
)

SEGMENTATION: dict[str, tuple[str, str, Callable[[str], Experiment]]] = {}
