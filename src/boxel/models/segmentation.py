"""Learning to segment at full resolution, and instance masks from it.

Reference: Jaeger et al., Retina U-Net, 2018, section 3.1, eq. (1).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from boxel.models.postprocess import join
from boxel.models.pyramid import UPyramidConfig
from boxel.nn import nd
from boxel.nn.losses import segmentation_loss
from boxel.ops import roi_align
from boxel.types import Batch, Detections, Task


class Segmentation(nn.Module):
    """The 1-wide convolution `conv` of P0: logits `(b, k, *s)`, background first, then foreground or the classes.

    The pyramid applies it, composed with the convolutions before it.
    """

    def __init__(self, task: Task, config: UPyramidConfig) -> None:
        super().__init__()
        self.config = config
        self.learns = task.masks or config.boxes_without_mask == "fill"
        self.by_class = config.segment == "classes"
        width = config.narrow_filters or config.pyramid_filters
        self.conv = nd.CONV[task.ndim](width, 1 + (len(task.classes) if self.by_class else 1), 1)

    def loss(self, logits: Float[Tensor, "b k *s"], batch: Batch) -> Float[Tensor, ""]:
        """The weighted segmentation term; 0 where the data set has no masks to learn from."""
        if not self.learns:
            return logits.sum() * 0.0  # still a part of every step, which distributed training relies on
        fill = self.config.boxes_without_mask == "fill"
        target = segmentation_target(batch, by_class=self.by_class, fill=fill)
        return self.config.segmentation_weight * segmentation_loss(logits, target, self.config.segmentation_loss)

    def with_masks(self, logits: Float[Tensor, "b k *s"], detections: Sequence[Detections]) -> list[Detections]:
        """The same detections with masks: what the segmentation says inside their boxes about their class."""
        boxes, images = join([found.boxes for found in detections])
        labels = torch.cat([found.labels for found in detections])
        probabilities = logits.float().softmax(1)[:, 1:]
        cells = (self.config.mask_cells,) * boxes.shape[-1]
        masks = roi_align(probabilities, boxes, images, output_size=cells, stride=(1.0,) * len(cells))
        masks = masks[torch.arange(len(masks), device=masks.device), labels if self.by_class else 0]
        return [replace(found, masks=masks[images == image]) for image, found in enumerate(detections)]


def segmentation_target(batch: Batch, *, by_class: bool, fill: bool = False) -> Int[Tensor, "b *s"]:
    """0 for background, 1 for foreground (or class + 1), -1 in ignored regions and boxes of objects without a mask.

    Args:
        fill: such an object counts as the ellipse that touches its box' sides instead.
    """
    targets = []
    for image, (label_map, instances) in enumerate(zip(batch.label_maps, batch.instances, strict=True)):
        target = torch.zeros_like(label_map, dtype=torch.int64)
        for box in batch.ignored[image] if batch.ignored else ():
            target[_voxels(box)] = -1
        boxed = instances[~instances.has_mask]
        for box, label in zip(boxed.boxes, boxed.labels.tolist(), strict=True):
            if fill:
                target[_ellipse(box, target.shape)] = label + 1 if by_class else 1
                continue
            target[_voxels(box)] = -1
        masked = instances[instances.has_mask]
        if len(masked):
            lookup = torch.zeros(int(label_map.max()) + 1, dtype=torch.int64, device=label_map.device)
            known = masked.ids < len(lookup)
            lookup[masked.ids[known]] = masked.labels[known] + 1 if by_class else 1
            classes = lookup[label_map.long()]
            target = torch.where(classes > 0, classes, target)
        targets.append(target)
    return torch.stack(targets)


def _voxels(box: Float[Tensor, "2 d"]) -> tuple[slice, ...]:
    """Every voxel that the box touches."""
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
