"""The six detectors with modern defaults: for a GPU and, `_small`, for a CPU."""

from boxel.inference.config import PredictConfig
from boxel.loading.sampler import SamplerConfig
from boxel.models import ModelConfig
from boxel.models.dense import DenseConfig
from boxel.models.rcnn import MaskConfig, RPNConfig
from boxel.models.regions import RegionConfig
from boxel.nn.resnet import ResNetConfig
from boxel.preparation.plan import PlanConfig
from boxel.recipes.experiment import Experiment
from boxel.training.config import TrainConfig


def full(model: str) -> Experiment:
    """A ResNet-50 with instance norm; ATSS, focal and GIoU loss."""
    parts = {
        "pyramid_filters": 128,
        "narrow_filters": 32,
        "dense": DenseConfig(filters=128),
        "rpn": RPNConfig(filters=128),
        "regions": RegionConfig(filters=512, per_image=128),
    }
    return Experiment(
        recipe=model,
        model=ModelConfig.of_parts(model, parts),
        plan=PlanConfig(voxels_per_step=2**22),
        train=TrainConfig(steps=30_000, lr=1e-3, warmup=1000, validate_every=1000, keep=5, average=0.999),
    )


def small(model: str) -> Experiment:
    """A quarter of a million weights or little more, trained in minutes on two CPU cores."""
    parts = {
        "backbone": ResNetConfig(depth=18, start_filters=16, stem_kernel=3, norm="batch"),
        "pyramid_filters": 32,
        "narrow_filters": 16,
        "dense": DenseConfig(filters=32, num_convs=2, norm="batch"),
        "rpn": RPNConfig(filters=32, norm="batch", candidates=200, proposals=100),
        "regions": RegionConfig(filters=128, per_image=32),
        "mask": MaskConfig(num_convs=2),
        "segment": "classes",
    }
    return Experiment(
        recipe=f"{model}_small",
        model=ModelConfig.of_parts(model, parts),
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
