"""The second stage of two-stage models: from proposals to classified, refined and, where asked for, segmented boxes.

Reference: Ren et al., Faster R-CNN, 2015; He et al., Mask R-CNN, 2017; sampling as in Jaeger et al., Retina U-Net,
2018 and its code.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from boxel.config import Config
from boxel.models.loss_terms import BoxLossConfig, SmoothL1Config, box_loss, coding_std, mostly_ignored
from boxel.models.postprocess import best_boxes, join
from boxel.nn.blocks import Norm
from boxel.nn.losses import class_scores, mine_hard_negatives
from boxel.nn.roi_heads import RoIBoxHead
from boxel.ops import assign_levels, assign_levels_mdt, decode, iou, pyramid_roi_align
from boxel.types import Detections, Instances, Task


class RegionConfig(Config):
    """Pooling, sampling and classification of regions.

    Attributes:
        pool_size: cells per axis that a region is pooled to; None spreads about 49 (2D) or 147 (3D) cells in
            proportion to the anchors.
        sampling_ratio: samples per cell and axis.
        level_rule: which pyramid level a region is pooled from: by its `size` in voxels, or, as in the toolkit, by its
            in-plane size relative to the `patch`.
        filters: width of the two fully connected layers.
        per_image: regions sampled per image while training.
        positive_share: at most so much of them are positive.
        positive, negative: a region of at least / less IoU with its best object is positive / negative.
        negatives: `random` fills up with random negatives; `hard` draws as many as there are positives from the
            `pool_factor` times as many that look most like an object (stochastic hard example mining).
        add_truth: the annotated boxes are candidates too.
    """

    pool_size: tuple[int, ...] | None = None
    sampling_ratio: int = 2
    level_rule: Literal["size", "patch"] = "size"
    filters: int = 256
    norm: Norm = "group"
    per_image: int = 64
    positive_share: float = 0.5
    positive: float = 0.5
    negative: float = 0.5
    negatives: Literal["random", "hard"] = "random"
    pool_factor: int = 10
    add_truth: bool = True
    box_loss: BoxLossConfig = SmoothL1Config()
    centre_std: float = 0.1
    size_std: float = 0.2
    candidates: int = 1000
    min_score: float = 0.02
    nms_threshold: float = 0.5


class Regions(NamedTuple):
    """Regions of a batch: `boxes (n, 2, d)`, the image of each, its class (-1: background).

    `objects` are rows of all images' instances in one list; -1 for background.
    """

    boxes: Tensor
    images: Tensor
    labels: Tensor
    objects: Tensor


class RegionDetection(nn.Module):
    """Pools regions from the pyramid, classifies and refines them."""

    std: Tensor

    def __init__(self, task: Task, channels: int, config: RegionConfig) -> None:
        super().__init__()
        self.config = config
        self.strides = task.level_strides
        self.patch_size = task.patch_size
        self.max_detections = task.max_detections
        self.pool_size = config.pool_size or default_pool_size(task)
        self.outputs = len(task.classes) + 1  # softmax, background first
        self.head = RoIBoxHead(
            task.ndim,
            channels,
            pool_size=self.pool_size,
            filters=config.filters,
            norm=config.norm,
            outputs=self.outputs,
        )
        std = coding_std(task.ndim, config.centre_std, config.size_std)
        self.register_buffer("std", std, persistent=False)

    def pool(
        self, pyramid: Sequence[Tensor], boxes: Tensor, images: Tensor, size: Sequence[int]
    ) -> Float[Tensor, "n c *p"]:
        """Features of each region on a grid of `size`, from the level that its own size asks for."""
        if self.config.level_rule == "patch":
            levels = assign_levels_mdt(boxes, self.patch_size, len(pyramid))
        else:
            levels = assign_levels(boxes, self.strides)
        return pyramid_roi_align(
            pyramid,
            boxes,
            images,
            levels,
            output_size=size,
            strides=self.strides,
            sampling_ratio=self.config.sampling_ratio,
        )

    def forward(self, pyramid: Sequence[Tensor], boxes: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits `(n, k + 1)`, background first, and deltas for each of them `(n, k + 1, 2, d)`."""
        return self.head(self.pool(pyramid, boxes, images, self.pool_size))

    def loss(
        self,
        pyramid: Sequence[Tensor],
        proposals: Sequence[Detections],
        instances: Sequence[Instances],
        ignored: Sequence[Tensor] = (),
    ) -> tuple[dict[str, Tensor], Regions]:
        """Terms `region_class` and `region_box`, and the regions they were taken from."""
        regions = self.sample(pyramid, proposals, instances, ignored)
        logits, deltas = self(pyramid, regions.boxes, regions.images)
        positive = (regions.labels >= 0).nonzero()[:, 0]
        targets = torch.cat([found.boxes for found in instances])[regions.objects[positive]]
        own_deltas = deltas[positive, regions.labels[positive] + 1]
        return {
            "region_class": F.cross_entropy(logits, regions.labels + 1, reduction="sum") / max(1, len(logits)),
            "region_box": box_loss(self.config.box_loss, own_deltas, regions.boxes[positive], targets, self.std),
        }, regions

    @torch.no_grad()
    def sample(
        self,
        pyramid: Sequence[Tensor],
        proposals: Sequence[Detections],
        instances: Sequence[Instances],
        ignored: Sequence[Tensor] = (),
    ) -> Regions:
        """The regions to learn from."""
        parts, first = [], 0
        for image, (found, truth) in enumerate(zip(proposals, instances, strict=True)):
            boxes = torch.cat([found.boxes, truth.boxes]) if self.config.add_truth else found.boxes
            best, owner = _best_overlap(boxes, truth.boxes)
            usable = torch.ones_like(best, dtype=torch.bool)
            if ignored:
                usable = ~mostly_ignored(boxes, ignored[image])
            positive, negative = self._choose(pyramid, boxes, best, usable, image)
            rows = torch.cat([positive, negative])
            background = torch.full_like(negative, -1)
            objects = torch.cat([owner[positive] + first, background])
            labels = torch.cat([truth.labels[owner[positive]], background])
            first += len(truth)
            parts.append(Regions(boxes[rows], torch.full_like(objects, image), labels, objects))
        return Regions(*map(torch.cat, zip(*parts, strict=True)))

    def _choose(
        self, pyramid: Sequence[Tensor], boxes: Tensor, best: Tensor, usable: Tensor, image: int
    ) -> tuple[Int[Tensor, " p"], Int[Tensor, " q"]]:
        config = self.config
        positive = _draw((best >= config.positive).nonzero()[:, 0], int(config.per_image * config.positive_share))
        negative = ((best < config.negative) & usable).nonzero()[:, 0]
        if config.negatives == "random":
            return positive, _draw(negative, config.per_image - len(positive))
        logits, _ = self(pyramid, boxes[negative], torch.full_like(negative, image))
        hardness = class_scores(logits, softmax=True).amax(-1)
        return positive, negative[mine_hard_negatives(hardness, max(1, len(positive)), config.pool_factor)]

    def detect(
        self, pyramid: Sequence[Tensor], proposals: Sequence[Detections], shape: Sequence[int]
    ) -> list[Detections]:
        """The best boxes of each image, suppressed per class."""
        config = self.config
        boxes, images = join([found.boxes for found in proposals])
        logits, deltas = self(pyramid, boxes, images)
        scores = class_scores(logits, softmax=True)
        result = []
        for image in range(len(proposals)):
            own = images == image
            own_deltas, own_boxes = deltas[own], boxes[own]
            result.append(
                best_boxes(
                    scores[own],
                    lambda rows, labels, d=own_deltas, b=own_boxes: decode(d[rows, labels + 1], b[rows], self.std),  # type: ignore[misc]
                    shape,
                    candidates=config.candidates,
                    min_score=config.min_score,
                    nms_threshold=config.nms_threshold,
                    max_detections=self.max_detections,
                )
            )
        return result


def default_pool_size(task: Task) -> tuple[int, ...]:
    """49 cells in the plane, times 3 for each further axis, in proportion to the mean anchor's cells; at least 2."""
    anchors = torch.tensor(task.anchors) / torch.tensor(task.level_strides)[:, None]
    shape = anchors.log().mean((0, 1))
    cells = (49 * 3 ** (task.ndim - 2)) ** (1 / task.ndim)
    return tuple(max(2, round(float(cells * extent))) for extent in (shape - shape.mean()).exp())


def _best_overlap(boxes: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of each box with its best object, and that object; 0 and 0 where there are no objects."""
    if not len(truth):
        return boxes.new_zeros(len(boxes)), torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    best, owner = iou(boxes, truth).max(1)
    return best, owner


def _draw(rows: Int[Tensor, " n"], most: int) -> Int[Tensor, " m"]:
    return rows[torch.randperm(len(rows), device=rows.device)[:most]]
