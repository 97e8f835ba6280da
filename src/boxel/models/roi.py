"""The second stage of two-stage models: from proposals to classified and refined boxes.

Reference: Ren et al., Faster R-CNN, 2015; He et al., Mask R-CNN, 2017; sampling as in Jaeger et al., Retina U-Net,
2018 and its code.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from boxel.config import Config
from boxel.models.grid import Numbers, PyramidGrid
from boxel.models.loss_terms import (
    BoxLossConfig,
    SmoothL1Config,
    box_loss,
    coding_std,
    draw,
    draw_sample,
    mostly_ignored,
)
from boxel.models.postprocess import best_boxes, join
from boxel.nn.blocks import Norm
from boxel.nn.losses import class_scores, mine_hard_negatives
from boxel.nn.roi_heads import RoIBoxHead
from boxel.ops import assign_levels, assign_levels_fpn, assign_levels_mdt, decode, iou, pyramid_roi_align
from boxel.ranges import Width, ZeroToOne
from boxel.types import Detections, Instances


class RoIConfig(Config):
    """Pooling, sampling and classification of regions of interest (RoIs).

    Attributes:
        pool_size: cells per axis that a RoI is pooled to, one number for all axes or for each; None spreads about 49
            (2D) or 147 (3D) cells in proportion to the anchors.
        sampling_ratio: samples per cell and axis.
        aligned: cells hold their values at their centres; else at their lower corners, see `boxel.ops.roi_align`.
        level_rule: which pyramid level a RoI is pooled from: by its `size` in voxels; as in the papers' toolkit, by its
            in-plane size relative to the `patch`; or by the `canonical` rule of FPN, see `boxel.ops.assign_levels_fpn`.
        filters: width of the two fully connected layers.
        norm: the norm after each of them.
        per_image: RoIs sampled per image for training.
        positive_share: at most this share of them is positive.
        positive, negative: a RoI of at least / less IoU with its best object is positive / negative.
        negatives: `random` fills up with random negatives; `hard` draws as many as there are positives from the
            `pool_factor` times as many that look most like an object (stochastic hard example mining).
        pool_factor: of hard negatives, from how many times as many they are drawn.
        add_ground_truth: the annotated boxes are proposals too.
        centre_std, size_std: box targets are divided by these.
        candidates: best (RoI, class) pairs that are decoded per image; None for ten per detection that is kept
            (`max_detections`), at least 1000.
        min_score, nms_threshold: detections of a lower score, or that overlap a better one more, are dropped.
    """

    pool_size: PositiveInt | tuple[PositiveInt, ...] | None = None
    sampling_ratio: PositiveInt = 2
    aligned: bool = True
    level_rule: Literal["size", "patch", "canonical"] = "size"
    filters: Width = 256
    norm: Norm = "group"
    per_image: PositiveInt = 64
    positive_share: ZeroToOne = 0.5
    positive: ZeroToOne = 0.5
    negative: ZeroToOne = 0.5
    negatives: Literal["random", "hard"] = "random"
    pool_factor: PositiveInt = 10
    add_ground_truth: bool = True
    box_loss: BoxLossConfig = SmoothL1Config()
    centre_std: PositiveFloat = 0.1
    size_std: PositiveFloat = 0.2
    candidates: PositiveInt | None = None
    min_score: ZeroToOne = 0.02
    nms_threshold: ZeroToOne = 0.5

    @model_validator(mode="after")
    def _all_have_effect(self) -> "RoIConfig":
        if self.negatives != "hard" and self.pool_factor != type(self).model_fields["pool_factor"].default:
            raise ValueError("pool_factor has no effect on random negatives; set negatives=hard, or leave it out")
        return self


class RoIs(NamedTuple):
    """The sampled RoIs of a batch: `boxes (r, 2, d)`, the image of each, its class (-1: background).

    `objects` are rows of all images' instances in one list; -1 for background.
    """

    boxes: Tensor
    images: Tensor
    labels: Tensor
    objects: Tensor


class RoIPooler:
    """RoIAlign on a pyramid, each RoI on one level.

    Raises:
        ValueError: `level_rule=patch` on a grid without a patch size.
    """

    def __init__(self, grid: PyramidGrid, config: RoIConfig) -> None:
        if config.level_rule == "patch" and grid.patch_size is None:
            raise ValueError("model.roi.level_rule=patch needs a grid with a patch_size; give one, or choose size")
        # As in torchvision and Lin et al., a level above the encoder's last is for region proposals only.
        own = [place for place, level in enumerate(grid.levels) if level <= len(grid.strides)]
        self.grid, self.config, self.places = grid, config, own or [len(grid.levels) - 1]

    def __call__(
        self, pyramid: Sequence[Tensor], boxes: Tensor, images: Tensor, size: Sequence[int]
    ) -> Float[Tensor, "r c *p"]:
        """Features of each RoI on `size` cells, from the level that `level_rule` assigns it to."""
        pyramid = [pyramid[place] for place in self.places]
        strides = [self.grid.level_strides[place] for place in self.places]
        if self.config.level_rule == "patch":
            levels = assign_levels_mdt(boxes, self.grid.patch_size or (), len(pyramid))
        elif self.config.level_rule == "canonical":
            levels = assign_levels_fpn(boxes, [self.grid.levels[place] for place in self.places])
        else:
            levels = assign_levels(boxes, strides)
        return pyramid_roi_align(
            pyramid,
            boxes,
            images,
            levels,
            output_size=size,
            strides=strides,
            sampling_ratio=self.config.sampling_ratio,
            aligned=self.config.aligned,
        )


class RoIDetection(nn.Module):
    """Class and box head on pooled RoIs: how they are sampled for training, the loss, and the detections.

    Args:
        channels: of the pyramid.
    """

    std: Tensor

    def __init__(self, numbers: Numbers, channels: int, config: RoIConfig) -> None:
        super().__init__()
        self.config, self.numbers = config, numbers
        self.pool = RoIPooler(numbers.grid, config)
        size = config.pool_size or default_pool_size(numbers.grid)
        self.pool_size = (size,) * numbers.ndim if isinstance(size, int) else size
        self.head = RoIBoxHead(
            numbers.ndim,
            channels,
            pool_size=self.pool_size,
            filters=config.filters,
            norm=config.norm,
            outputs=numbers.num_classes + 1,  # softmax, background first
        )
        std = coding_std(numbers.ndim, config.centre_std, config.size_std)
        self.register_buffer("std", std, persistent=False)

    def forward(self, pyramid: Sequence[Tensor], boxes: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits `(r, k + 1)`, background first, and deltas for each of them `(r, k + 1, 2, d)`."""
        return self.head(self.pool(pyramid, boxes, images, self.pool_size))

    @torch.no_grad()
    def sample(
        self,
        pyramid: Sequence[Tensor],
        proposals: Sequence[Detections[Tensor]],
        instances: Sequence[Instances[Tensor]],
        ignored: Sequence[Tensor] = (),
    ) -> RoIs:
        """The RoIs to train on: some positive, some negative, of each image."""
        parts, first = [], 0
        for image, (proposed, objects) in enumerate(zip(proposals, instances, strict=True)):
            boxes = torch.cat([proposed.boxes, objects.boxes]) if self.config.add_ground_truth else proposed.boxes
            best, owner = _best_overlap(boxes, objects.boxes)
            usable = torch.ones_like(best, dtype=torch.bool)
            if ignored:
                usable = ~mostly_ignored(boxes, ignored[image])
            positive, negative = self._choose(pyramid, boxes, best, usable, image)
            rows = torch.cat([positive, negative])
            background = torch.full_like(negative, -1)
            owners = torch.cat([owner[positive] + first, background])
            labels = torch.cat([objects.labels[owner[positive]], background])
            first += len(objects)
            parts.append(RoIs(boxes[rows], torch.full_like(owners, image), labels, owners))
        return RoIs(*map(torch.cat, zip(*parts, strict=True)))

    def _choose(
        self, pyramid: Sequence[Tensor], boxes: Tensor, best: Tensor, usable: Tensor, image: int
    ) -> tuple[Int[Tensor, " p"], Int[Tensor, " q"]]:
        config = self.config
        positive = (best >= config.positive).nonzero()[:, 0]
        negative = ((best < config.negative) & usable).nonzero()[:, 0]
        if config.negatives == "random":
            return draw_sample(positive, negative, config.per_image, config.positive_share)
        positive = draw(positive, int(config.per_image * config.positive_share))
        logits, _ = self(pyramid, boxes[negative], torch.full_like(negative, image))
        hardness = class_scores(logits, softmax=True).amax(-1)
        return positive, negative[mine_hard_negatives(hardness, max(1, len(positive)), config.pool_factor)]

    def loss(self, pyramid: Sequence[Tensor], rois: RoIs, instances: Sequence[Instances[Tensor]]) -> dict[str, Tensor]:
        """Terms `roi_class` and `roi_box` of sampled RoIs."""
        logits, deltas = self(pyramid, rois.boxes, rois.images)
        positive = (rois.labels >= 0).nonzero()[:, 0]
        targets = torch.cat([one.boxes for one in instances])[rois.objects[positive]]
        own_deltas = deltas[positive, rois.labels[positive] + 1]
        return {
            "roi_class": F.cross_entropy(logits, rois.labels + 1, reduction="sum") / max(1, len(logits)),
            "roi_box": box_loss(
                self.config.box_loss, own_deltas, rois.boxes[positive], targets, self.std, sampled=len(logits)
            ),
        }

    @torch.no_grad()
    def detect(
        self, pyramid: Sequence[Tensor], proposals: Sequence[Detections[Tensor]], shape: Sequence[int]
    ) -> list[Detections[Tensor]]:
        """The best boxes of each image, suppressed per class."""
        config = self.config
        boxes, images = join([one.boxes for one in proposals])
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
                    max_detections=self.numbers.detections_in(shape),
                )
            )
        return result


def default_pool_size(grid: PyramidGrid) -> tuple[int, ...]:
    """49 cells in the plane, times 3 for each further axis, in proportion to the mean anchor's cells; at least 2."""
    anchors = torch.tensor(grid.anchors) / torch.tensor(grid.level_strides)[:, None]
    shape = anchors.log().mean((0, 1))
    cells = (49 * 3 ** (len(shape) - 2)) ** (1 / len(shape))
    return tuple(max(2, round(float(cells * extent))) for extent in (shape - shape.mean()).exp())


def _best_overlap(boxes: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of each box with its best object, and that object; 0 and 0 where there are no objects."""
    if not len(objects):
        return boxes.new_zeros(len(boxes)), torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    best, owner = iou(boxes, objects).max(1)
    return best, owner
