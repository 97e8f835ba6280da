"""Learning to segment at full resolution, and instance masks from it.

Reference: Jaeger et al., Retina U-Net, 2018, section 3.1, eq. (1).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from boxel.models.grid import Numbers
from boxel.models.postprocess import join
from boxel.models.pyramid import PyramidConfig
from boxel.nn import nd
from boxel.nn.losses import segmentation_loss
from boxel.nn.neck import LazyLevel
from boxel.ops import roi_align
from boxel.types import Batch, Detections


class SegmentingConfig(PyramidConfig):
    """A model on a U-FPN, whose finest level P0 learns to segment.

    Attributes:
        segment: what P0 learns to tell apart: foreground from background, or the classes.
        segmentation_loss: `paper` is eq. (1) of the paper, `mdt` the form of its code.
        segmentation_weight: of the segmentation loss beside those of classes and boxes. The paper's is 1; 0.5 gives the
            cross-entropy of the `paper` form the weight that it has in the `mdt` form, which is halved.
        boxes_without_mask: what the inside of an object known by its box alone counts as: `ignore` leaves it out of
            the loss, `fill` takes the ellipse that touches the sides of the box for the object.
        mask_cells: cells per axis of the instance masks, which lie on a grid over each object's box.
    """

    gives_masks: ClassVar[bool] = True
    segments: ClassVar[bool] = True

    segment: Literal["foreground", "classes"] = "foreground"
    segmentation_loss: Literal["paper", "mdt"] = "paper"
    segmentation_weight: NonNegativeFloat = 0.5
    boxes_without_mask: Literal["ignore", "fill"] = "ignore"
    mask_cells: PositiveInt = 28

    @property
    def fills_boxes(self) -> bool:
        return self.boxes_without_mask == "fill"

    def segmentation_classes(self, classes: Sequence[str]) -> tuple[str, ...]:
        return tuple(classes) if self.segment == "classes" or len(classes) == 1 else ("foreground",)


class Segmenter(nn.Module):
    """A 1x1 convolution (1x1x1 in 3D) of P0: logits `(b, 1 + k, *s)`, background first, then foreground or the classes.

    Args:
        channels: of P0.

    Attributes:
        learns: whether there is anything to learn from: masks, or boxes that are filled.
    """

    def __init__(self, numbers: Numbers, channels: int, config: SegmentingConfig) -> None:
        super().__init__()
        self.config, self.learns = config, numbers.masks or config.fills_boxes
        self.by_class = config.segment == "classes"
        self.conv = nd.CONV[numbers.ndim](channels, 1 + (numbers.num_classes if self.by_class else 1), 1)

    def forward(self, finest: LazyLevel) -> Float[Tensor, "b k *s"]:
        """Logits from P0, which the neck need not compute in its full width."""
        return finest.convolve(self.conv)

    def loss(self, logits: Float[Tensor, "b k *s"] | None, batch: Batch) -> dict[str, Tensor]:
        """The weighted term `segmentation`: 0 where there is nothing to learn it from, left out without logits."""
        if logits is None:
            return {}
        fill = self.config.fills_boxes
        if not self.learns or (batch.label_maps is None and not fill):
            return {"segmentation": logits.sum() * 0.0}  # a part of every step, which distributed training relies on
        target = segmentation_target(batch, by_class=self.by_class, fill=fill)
        term = segmentation_loss(logits, target, self.config.segmentation_loss)
        return {"segmentation": self.config.segmentation_weight * term}

    @torch.no_grad()
    def probabilities(self, logits: Tensor | None) -> Float[Tensor, "b k *s"]:
        """Class probabilities, background first.

        Raises:
            ValueError: the outputs were inferred without a segmentation.
        """
        if logits is None:
            raise ValueError("the outputs have no segmentation; infer with segmentation=True")
        return logits.float().softmax(1)

    @torch.no_grad()
    def add_masks(self, detections: Sequence[Detections[Tensor]], logits: Tensor | None) -> list[Detections[Tensor]]:
        """The same detections with masks: the probability of their class inside their boxes.

        Raises:
            ValueError: the outputs were inferred without a segmentation.
        """
        boxes, images = join([one.boxes for one in detections])
        labels = torch.cat([one.labels for one in detections])
        cells = (self.config.mask_cells,) * boxes.shape[-1]
        foreground = self.probabilities(logits)[:, 1:]
        masks = roi_align(foreground, boxes, images, output_size=cells, stride=(1.0,) * len(cells))
        masks = masks[torch.arange(len(masks), device=masks.device), labels if self.by_class else 0]
        return [replace(one, masks=masks[images == image]) for image, one in enumerate(detections)]


def segmentation_target(batch: Batch, *, by_class: bool, fill: bool = False) -> Int[Tensor, "b *s"]:
    """0 for background, 1 for foreground (or class + 1), -1 in ignored regions and boxes of objects without a mask.

    Args:
        fill: such an object counts as the ellipse that touches the sides of its box instead.
    """
    targets = []
    for image, instances in enumerate(batch.instances):
        target = torch.zeros(batch.images.shape[2:], dtype=torch.int64, device=batch.images.device)
        for box in batch.ignored[image] if batch.ignored else ():
            target[_voxels(box)] = -1
        boxed = instances[~instances.has_mask]
        for box, label in zip(boxed.boxes, boxed.labels.tolist(), strict=True):
            if fill:
                target[_ellipse(box, target.shape)] = label + 1 if by_class else 1
            else:
                target[_voxels(box)] = -1
        masked = instances[instances.has_mask]
        if len(masked) and batch.label_maps is not None:
            label_map = batch.label_maps[image]
            lookup = torch.zeros(int(label_map.max()) + 1, dtype=torch.int64, device=label_map.device)
            known = masked.ids < len(lookup)
            lookup[masked.ids[known]] = masked.labels[known] + 1 if by_class else 1
            classes = lookup[label_map.long()]
            target = torch.where(classes > 0, classes, target)
        targets.append(target)
    return torch.stack(targets)


def _voxels(box: Float[Tensor, "2 d"]) -> tuple[slice, ...]:
    """All voxels that the box touches."""
    lower, upper = box.floor().long().clamp(min=0), box.ceil().long().clamp(min=0)
    return tuple(slice(int(a), int(b)) for a, b in zip(lower[0], upper[1], strict=True))


def _ellipse(box: Float[Tensor, "2 d"], shape: Sequence[int]) -> Bool[Tensor, "*s"]:
    """The voxels whose centre lies in the ellipse that touches the sides of a box."""
    distance = torch.zeros(tuple(shape), device=box.device)
    for axis, size in enumerate(shape):
        centre, radius = box[:, axis].mean(), (box[1, axis] - box[0, axis]) / 2
        steps = (torch.arange(size, device=box.device) + 0.5 - centre) / radius
        distance += (steps**2).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return distance <= 1
