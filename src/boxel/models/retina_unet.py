"""Retina U-Net: Retina Net whose pyramid goes on to full resolution, where it learns to segment.

Reference: Jaeger et al., Retina U-Net, 2018, section 3.1, figure 2, eq. (1).
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from boxel.models.base import Model, ModelConfig
from boxel.models.dense import DenseConfig, DenseDetection, DenseOutputs
from boxel.nn import nd
from boxel.nn.fpn import FPN
from boxel.nn.losses import segmentation_loss
from boxel.nn.resnet import BackboneConfig
from boxel.types import Batch, Detections, Task


class RetinaUNetConfig(ModelConfig, name="retina_unet"):
    """Retina U-Net.

    Attributes:
        narrow_filters: width of the levels below those that detect (P1, P0), where it differs from `pyramid_filters`
            (the papers': the same).
        segment: what P0 learns to tell apart: foreground from background, or the classes.
        segmentation_loss: `paper` is eq. (1) of the paper, `mdt` the form of its code.
    """

    backbone: BackboneConfig = BackboneConfig()
    pyramid_filters: int = 64
    narrow_filters: int | None = None
    dense: DenseConfig = DenseConfig()
    segment: Literal["foreground", "classes"] = "foreground"
    segmentation_loss: Literal["paper", "mdt"] = "paper"
    segmentation_weight: float = 0.5

    def build(self, task: Task) -> "RetinaUNet":
        return RetinaUNet(task, self)


class RetinaUNetOutputs(NamedTuple):
    """Dense outputs and, while training, segmentation logits `(b, k, *s)`, background first."""

    dense: DenseOutputs
    segmentation: Tensor | None


class RetinaUNet(Model):
    """See the module."""

    def __init__(self, task: Task, config: RetinaUNetConfig) -> None:
        super().__init__()
        self.config = config
        self.levels = task.levels
        channels = len(task.channels) * (2 * task.context + 1)
        self.backbone = config.backbone.build(task.ndim, channels, task.strides, full_resolution=True)
        self.neck = FPN(
            task.ndim,
            self.backbone.channels,
            first_level=0,
            filters=config.pyramid_filters,
            outputs=(0, *task.levels),
            linear_below=min(task.levels),
            narrow=config.narrow_filters,
        )
        self.dense = DenseDetection(task, config.pyramid_filters, config.dense)
        classes = len(task.classes) if config.segment == "classes" else 1
        width = config.narrow_filters or config.pyramid_filters
        self.segmentation = nd.CONV[task.ndim](width, classes + 1, 1)

    def infer(self, images: Tensor) -> RetinaUNetOutputs:
        features = self.backbone(images)
        if not self.training:  # detection needs neither P0 nor what leads to it
            return RetinaUNetOutputs(self.dense(self.neck(features, self.levels), images.shape[2:]), None)
        finest, *pyramid = self.neck(features)
        return RetinaUNetOutputs(self.dense(pyramid, images.shape[2:]), self.segmentation(finest))

    def loss(self, outputs: RetinaUNetOutputs, batch: Batch) -> dict[str, Tensor]:
        terms = self.dense.loss(outputs.dense, batch.instances)
        if outputs.segmentation is None:
            return terms
        target = segmentation_target(batch, by_class=self.config.segment == "classes")
        terms["segmentation"] = self.config.segmentation_weight * segmentation_loss(
            outputs.segmentation, target, self.config.segmentation_loss
        )
        return terms

    def detect(self, outputs: RetinaUNetOutputs) -> list[Detections]:
        return self.dense.detect(outputs.dense)


def segmentation_target(batch: Batch, *, by_class: bool) -> Int[Tensor, "b *s"]:
    """0 for background, 1 for foreground (or class + 1), -1 where an object is known by its box alone."""
    targets = []
    for label_map, instances in zip(batch.label_maps, batch.instances, strict=True):
        target = torch.zeros_like(label_map, dtype=torch.int64)
        for box in instances.boxes[~instances.has_mask]:
            lower, upper = box.floor().long().clamp(min=0), box.ceil().long().clamp(min=0)
            target[tuple(slice(int(a), int(b)) for a, b in zip(lower[0], upper[1], strict=True))] = -1
        masked = instances[instances.has_mask]
        if len(masked):
            lookup = torch.zeros(int(label_map.max()) + 1, dtype=torch.int64, device=label_map.device)
            known = masked.ids < len(lookup)
            lookup[masked.ids[known]] = masked.labels[known] + 1 if by_class else 1
            classes = lookup[label_map.long()]
            target = torch.where(classes > 0, classes, target)
        targets.append(target)
    return torch.stack(targets)
