"""The dense detection part of one-stage models: anchors, matching, losses, decoding.

Reference: Jaeger et al., Retina U-Net, 2018, section 3.1 and its code; focal loss: Lin et al. 2017; ATSS: Zhang et
al. 2020.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from boxel.config import Choice, Config
from boxel.models.anchors import LevelAnchors
from boxel.models.grid import Numbers
from boxel.models.loss_terms import (
    BoxLossConfig,
    ClassLossConfig,
    FocalConfig,
    OverlapLossConfig,
    SampledConfig,
    box_loss,
    class_loss,
    coding_std,
    mostly_ignored,
    only_sampled,
)
from boxel.models.postprocess import best_boxes
from boxel.nn.blocks import Norm
from boxel.nn.heads import DenseHead
from boxel.nn.losses import class_scores
from boxel.ops import decode, match, paired_iou
from boxel.ranges import Width, ZeroToOne
from boxel.types import Batch, Detections, Instances


class MatcherConfig(Choice):
    """How anchors are assigned to objects."""

    @abstractmethod
    def match(self, anchors: Tensor, boxes: Sequence[Tensor], level_sizes: Sequence[int], per_cell: int) -> Tensor:
        """Per image `(b, n)`, the index of each anchor's object; arguments and result as in `boxel.ops.match`."""


class ATSSConfig(MatcherConfig, name="atss"):
    """Adaptive selection: of the `candidates` nearest anchors per level, those above mean + std of their IoU.

    Attributes:
        candidates: anchors that are considered for an object on each level.
    """

    candidates: PositiveInt = 9

    def match(self, anchors: Tensor, boxes: Sequence[Tensor], level_sizes: Sequence[int], per_cell: int) -> Tensor:
        return match(
            anchors, boxes, rule="atss", level_sizes=level_sizes, anchors_per_cell=per_cell, candidates=self.candidates
        )


class IoUMatcherConfig(MatcherConfig, name="iou"):
    """Fixed IoU thresholds: each object's best anchor is always positive; anchors between the two are ignored.

    Attributes:
        positive: an anchor of at least this IoU with an object is one of the object's.
        negative: an anchor of a lower IoU with every object is background.
    """

    positive: ZeroToOne = 0.5
    negative: ZeroToOne = 0.1

    @model_validator(mode="after")
    def _in_order(self) -> "IoUMatcherConfig":
        if self.negative > self.positive:
            raise ValueError(
                f"negative={self.negative:g} is above positive={self.positive:g}, so anchors between would be both; "
                "lower negative, or raise positive"
            )
        return self

    def match(self, anchors: Tensor, boxes: Sequence[Tensor], level_sizes: Sequence[int], per_cell: int) -> Tensor:
        return match(
            anchors, boxes, rule="iou", level_sizes=level_sizes, positive=self.positive, negative=self.negative
        )


class DenseConfig(Config):
    """Dense heads and their training targets.

    Attributes:
        filters: width of the towers, which have `num_convs` convolutions.
        num_convs: convolutions of a tower before its output.
        norm: the norm after each of them.
        shared_tower: one tower for classes and boxes (an RPN) instead of two; its outputs are 1x1 convolutions (1x1x1
            in 3D).
        softmax: classes, with the background as one of them, exclude each other; else they are independent sigmoids.
        centre_std, size_std: box targets are divided by these.
        centred_anchors: anchors lie on the centres of cells; else on their lower corners.
        per_level: candidates are chosen on each pyramid level, instead of on all together.
        candidates: best (anchor, class) pairs that are decoded, per image or, with `per_level`, per pyramid level;
            None for ten per detection that is kept (`max_detections`), at least 1000.
        min_score, nms_threshold: detections of a lower score, or that overlap a better one more, are dropped.
        nms_per_level: with `per_level`, only one of the same level drops them.
    """

    filters: Width = 64
    num_convs: NonNegativeInt = 2
    norm: Norm = "group"
    shared_tower: bool = False
    softmax: bool = False
    matcher: MatcherConfig = ATSSConfig()
    class_loss: ClassLossConfig = FocalConfig()
    box_loss: BoxLossConfig = OverlapLossConfig()
    centre_std: PositiveFloat = 0.1
    size_std: PositiveFloat = 0.2
    centred_anchors: bool = True
    candidates: PositiveInt | None = None
    per_level: bool = False
    min_score: ZeroToOne = 0.02
    nms_threshold: ZeroToOne = 0.5
    nms_per_level: bool = False

    @model_validator(mode="after")
    def _all_have_effect(self) -> "DenseConfig":
        if self.nms_per_level and not self.per_level:
            raise ValueError(
                "nms_per_level has no effect on candidates of all levels together; set per_level=true, or leave it out"
            )
        if self.softmax and isinstance(self.class_loss, FocalConfig) and self.class_loss.quality:
            raise ValueError(
                "class_loss.quality has no effect on classes that exclude each other; set softmax=false or leave it out"
            )
        return self


class DenseOutputs(NamedTuple):
    """`logits (b, n, o)`, `deltas (b, n, 2, d)`, `anchors (n, 2, d)`, how many each level has, the images' `shape`."""

    logits: Tensor
    deltas: Tensor
    anchors: Tensor
    level_sizes: list[int]
    shape: tuple[int, ...]


class DenseDetection(nn.Module):
    """Class and box towers over the pyramid, with their loss and their detections.

    Args:
        channels: of the pyramid.
    """

    std: Tensor

    def __init__(self, numbers: Numbers, channels: int, config: DenseConfig) -> None:
        super().__init__()
        ndim, grid = numbers.ndim, numbers.grid
        self.config = config
        self.numbers = numbers
        self.anchors_per_cell = len(grid.anchors[0])

        def head(*outputs: int, prior: float | None = None) -> DenseHead:
            return DenseHead(
                ndim,
                channels,
                levels=len(grid.anchors),
                filters=config.filters,
                num_convs=config.num_convs,
                norm=config.norm,
                num_anchors=self.anchors_per_cell,
                outputs=outputs,
                kernel_size=1 if config.shared_tower else 3,
                prior=prior,
            )

        class_outputs = numbers.num_classes + config.softmax
        # A start at "no object" keeps the many negatives from dominating, where they are not drawn.
        prior = None if config.softmax or isinstance(config.class_loss, SampledConfig) else 0.01
        if config.shared_tower:
            self.heads = nn.ModuleDict({"shared": head(class_outputs, 2 * ndim, prior=prior)})
        else:
            self.heads = nn.ModuleDict({"classes": head(class_outputs, prior=prior), "boxes": head(2 * ndim)})
        std = coding_std(ndim, config.centre_std, config.size_std)
        self.register_buffer("std", std, persistent=False)
        self.anchors = LevelAnchors(grid, centred=config.centred_anchors)

    def forward(self, pyramid: list[Tensor], shape: Sequence[int]) -> DenseOutputs:
        logits, deltas = (rows for head in self.heads.values() for rows in head(pyramid))
        deltas = deltas.float()
        anchors, level_sizes = self.anchors([tuple(level.shape[2:]) for level in pyramid], deltas.device)
        deltas = deltas.unflatten(-1, self.std.shape)
        return DenseOutputs(logits, deltas, anchors, level_sizes, tuple(shape))

    def match(self, outputs: DenseOutputs, instances: Sequence[Instances[Tensor]]) -> Int[Tensor, "b n"]:
        """The index of the object of each anchor in each image; -1 for background, -2 for neither."""
        boxes = [one.boxes for one in instances]
        return self.config.matcher.match(outputs.anchors, boxes, outputs.level_sizes, self.anchors_per_cell)

    def loss(self, outputs: DenseOutputs, batch: Batch) -> dict[str, Tensor]:
        """Terms `class` and `box`."""
        instances = batch.instances
        matches = self.match(outputs, instances)
        for index, ignored in zip(matches, batch.ignored, strict=False):  # there may be none
            index[(index == -1) & mostly_ignored(outputs.anchors, ignored)] = -2
        matches = only_sampled(self.config.class_loss, matches)
        labels = torch.stack(
            [
                torch.where(index >= 0, _gather(one.labels, index), index)
                for index, one in zip(matches, instances, strict=True)
            ]
        )
        image, row = (matches >= 0).nonzero(as_tuple=True)
        deltas, anchors = outputs.deltas[image, row], outputs.anchors[row]
        boxes = torch.cat([one.boxes[index[index >= 0]] for one, index in zip(instances, matches, strict=True)])
        fit = paired_iou(decode(deltas.detach(), anchors, self.std), boxes)
        config = self.config
        return {
            "class": class_loss(config.class_loss, outputs.logits, labels, fit, softmax=config.softmax),
            "box": box_loss(config.box_loss, deltas, anchors, boxes, self.std, sampled=(matches >= -1).sum()),
        }

    @torch.no_grad()
    def detect(
        self, outputs: DenseOutputs, most: int | None = None, candidates: int | None = None
    ) -> list[Detections[Tensor]]:
        """The best boxes of each image, suppressed per class; at most as many as the plan has per patch, or `most`.

        Args:
            candidates: in place of those of the configuration.
        """
        config = self.config
        return [
            best_boxes(
                class_scores(logits, softmax=config.softmax),
                lambda rows, _, deltas=deltas: decode(deltas[rows], outputs.anchors[rows], self.std),  # type: ignore[misc]
                outputs.shape,
                candidates=candidates or config.candidates,
                min_score=config.min_score,
                nms_threshold=config.nms_threshold,
                max_detections=most or self.numbers.detections_in(outputs.shape),
                group_sizes=outputs.level_sizes if config.per_level else None,
                nms_per_group=config.nms_per_level,
            )
            for logits, deltas in zip(outputs.logits, outputs.deltas, strict=True)
        ]


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """`values[index]` for an index that may be negative, and values that may be empty; such rows are arbitrary."""
    if not len(values):
        return torch.full_like(index, -1)
    return values[index.clamp(min=0)]
