"""Retina Net and Retina U-Net with modern defaults, for a GPU and, `_small`, for a CPU."""

from boxel.data.plan import PlanConfig
from boxel.data.sampler import SamplerConfig
from boxel.inference.config import PredictConfig
from boxel.models import ModelConfig, RetinaNetConfig, RetinaUNetConfig
from boxel.models.dense import DenseConfig
from boxel.nn.resnet import BackboneConfig
from boxel.recipes.experiment import Experiment
from boxel.training.config import TrainConfig


def retina_unet() -> Experiment:
    """Retina U-Net on a ResNet-50 with instance norm, ATSS, focal and GIoU loss."""
    return _full(
        "retina_unet",
        RetinaUNetConfig(pyramid_filters=128, narrow_filters=32, dense=DenseConfig(filters=128)),
    )


def retina_net() -> Experiment:
    """The same without the segmentation: for data sets that know boxes only."""
    return _full("retina_net", RetinaNetConfig(pyramid_filters=128, dense=DenseConfig(filters=128)))


def retina_unet_small() -> Experiment:
    """A Retina U-Net of a quarter of a million weights, trained in minutes on two CPU cores."""
    return _small(
        "retina_unet_small",
        RetinaUNetConfig(
            backbone=_small_backbone(),
            pyramid_filters=32,
            narrow_filters=16,
            dense=_small_dense(),
            segment="classes",
        ),
    )


def retina_net_small() -> Experiment:
    """The same without the segmentation."""
    return _small(
        "retina_net_small",
        RetinaNetConfig(backbone=_small_backbone(), pyramid_filters=32, dense=_small_dense()),
    )


def _full(name: str, model: ModelConfig) -> Experiment:
    return Experiment(
        recipe=name,
        model=model,
        plan=PlanConfig(voxels_per_step=2**22),
        train=TrainConfig(steps=30_000, lr=1e-3, warmup=1000, validate_every=1000, keep=5, average=0.999),
    )


def _small(name: str, model: ModelConfig) -> Experiment:
    return Experiment(
        recipe=name,
        model=model,
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


def _small_backbone() -> BackboneConfig:
    return BackboneConfig(depth=18, start_filters=16, stem_kernel=3, norm="batch")


def _small_dense() -> DenseConfig:
    return DenseConfig(filters=32, num_convs=2, norm="batch")
