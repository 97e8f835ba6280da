"""The dense detection part of one-stage models: anchors, matching, losses, decoding.

Reference: Jaeger et al., Retina U-Net, 2018, section 3.1 and its code; focal loss: Lin et al. 2017; ATSS: Zhang et
al. 2020.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from boxel.config import Choice, Config
from boxel.nn.blocks import Norm
from boxel.nn.heads import DenseHead
from boxel.nn.losses import class_cross_entropy, class_scores, focal_loss, mine_hard_negatives
from boxel.ops import anchor_grid, clip, decode, encode, match, nms, paired_overlap
from boxel.types import Detections, Instances, Task


class MatcherConfig(Choice):
    """Which anchors an object trains."""


class ATSSConfig(MatcherConfig, name="atss"):
    """Adaptive selection: per level the `candidates` nearest anchors; those above mean + std of their overlaps."""

    candidates: int = 9


class IoUMatcherConfig(MatcherConfig, name="iou"):
    """Fixed thresholds; each object's best anchor is positive in any case, the rest between them is ignored."""

    positive: float = 0.5
    negative: float = 0.1


class ClassLossConfig(Choice):
    """How anchors are classified."""


class FocalConfig(ClassLossConfig, name="focal"):
    """All anchors, easy ones weighed down; divided by the number of positives."""

    alpha: float = 0.75
    gamma: float = 2.0
    weight: float = 1.0


class MiningConfig(ClassLossConfig, name="mining"):
    """Cross-entropy on positives and as many hard negatives, averaged apart, each counting half.

    `max_positives` per image (None: all); negatives are drawn at random from the `pool_factor` times as many hardest.
    """

    max_positives: int | None = None
    pool_factor: int = 20
    min_negatives: int = 1
    weight: float = 1.0


class BoxLossConfig(Choice):
    """How positives are regressed."""


class SmoothL1Config(BoxLossConfig, name="smooth_l1"):
    """Smooth L1 between encoded offsets, mean over positives and coordinates."""

    beta: float = 1.0
    weight: float = 1.0


class OverlapLossConfig(BoxLossConfig, name="overlap"):
    """1 - GIoU (or DIoU, CIoU, IoU) between decoded boxes."""

    kind: Literal["iou", "giou", "diou", "ciou"] = "giou"
    weight: float = 2.0


class DenseConfig(Config):
    """The one-stage detection head and its training targets."""

    filters: int = 64
    num_convs: int = 2
    norm: Norm = "group"
    softmax: bool = False
    matcher: MatcherConfig = ATSSConfig()
    class_loss: ClassLossConfig = FocalConfig()
    box_loss: BoxLossConfig = OverlapLossConfig()
    centre_std: float = 0.1
    size_std: float = 0.2
    centred_anchors: bool = True
    candidates: int = 1000
    min_score: float = 0.02
    nms_threshold: float = 0.5


class DenseOutputs(NamedTuple):
    """`logits (b, n, o)`, `deltas (b, n, 2, d)`, `anchors (n, 2, d)`, how many of these each level has, the `shape`."""

    logits: Tensor
    deltas: Tensor
    anchors: Tensor
    level_sizes: list[int]
    shape: tuple[int, ...]


class DenseDetection(nn.Module):
    """Class and box towers over the pyramid, with what turns their outputs into losses or detections."""

    std: Tensor

    def __init__(self, task: Task, channels: int, config: DenseConfig) -> None:
        super().__init__()
        self.config = config
        self.num_classes = len(task.classes)
        self.strides = [[float(cells) for cells in stride] for stride in task.level_strides]
        self.sizes = task.anchors
        self.max_detections = task.max_detections
        self.anchors_per_cell = len(task.anchors[0])
        if any(len(sizes) != self.anchors_per_cell for sizes in task.anchors):
            raise ValueError(f"every level needs the same number of anchors, got {[len(s) for s in task.anchors]}")

        def tower(outputs: int, prior: float | None = None) -> DenseHead:
            return DenseHead(
                task.ndim,
                channels,
                filters=config.filters,
                num_convs=config.num_convs,
                norm=config.norm,
                num_anchors=self.anchors_per_cell,
                outputs=outputs,
                prior=prior,
            )

        self.classify = tower(self.num_classes + config.softmax, None if config.softmax else 0.01)
        self.regress = tower(2 * task.ndim)
        std = torch.tensor([[config.centre_std] * task.ndim, [config.size_std] * task.ndim])
        self.register_buffer("std", std, persistent=False)
        self._anchor_cache: dict[tuple[object, ...], tuple[Tensor, list[int]]] = {}

    def forward(self, pyramid: list[Tensor], shape: Sequence[int]) -> DenseOutputs:
        deltas = self.regress(pyramid).float()
        anchors, level_sizes = self._anchors([tuple(level.shape[2:]) for level in pyramid], deltas.device)
        deltas = deltas.unflatten(-1, self.std.shape)
        return DenseOutputs(self.classify(pyramid), deltas, anchors, level_sizes, tuple(shape))

    def _anchors(self, cells: list[tuple[int, ...]], device: torch.device) -> tuple[Tensor, list[int]]:
        key = (*cells, device)
        if key not in self._anchor_cache:
            levels = [
                anchor_grid(shape, stride, torch.tensor(sizes), centred=self.config.centred_anchors).to(device)
                for shape, stride, sizes in zip(cells, self.strides, self.sizes, strict=True)
            ]
            if len(self._anchor_cache) > 16:
                self._anchor_cache.clear()
            self._anchor_cache[key] = torch.cat(levels), [len(level) for level in levels]
        return self._anchor_cache[key]

    def match(self, outputs: DenseOutputs, instances: Sequence[Instances]) -> Int[Tensor, "b n"]:
        """For each image and anchor the index of its object, -1 for background, -2 for neither."""
        matcher, boxes = self.config.matcher, [found.boxes for found in instances]
        rule: Any = matcher.type_name
        places = {"level_sizes": outputs.level_sizes, "anchors_per_cell": self.anchors_per_cell}
        return match(outputs.anchors, boxes, rule=rule, **places, **dict(matcher))  # type: ignore[arg-type]

    def loss(self, outputs: DenseOutputs, instances: Sequence[Instances]) -> dict[str, Tensor]:
        """Terms `class` and `box`."""
        matches = self.match(outputs, instances)
        labels = torch.stack(
            [
                torch.where(index >= 0, _gather(found.labels, index), index)
                for index, found in zip(matches, instances, strict=True)
            ]
        )
        return {
            "class": self._class_loss(outputs.logits, labels),
            "box": self._box_loss(outputs, matches, instances),
        }

    def _class_loss(self, logits: Float[Tensor, "b n o"], labels: Int[Tensor, "b n"]) -> Tensor:
        config, softmax = self.config.class_loss, self.config.softmax
        if isinstance(config, FocalConfig):
            used = labels >= -1
            rows = focal_loss(logits[used], labels[used], softmax=softmax, alpha=config.alpha, gamma=config.gamma)
            return config.weight * rows.sum() / (labels >= 0).sum().clamp(min=1)
        if not isinstance(config, MiningConfig):
            raise TypeError(f"no class loss for {config!r}")
        images = [self._mined_loss(*pair, config) for pair in zip(logits, labels, strict=True)]
        return config.weight * torch.stack(images).mean()

    def _mined_loss(self, logits: Tensor, labels: Tensor, config: MiningConfig) -> Tensor:
        softmax = self.config.softmax
        positives = (labels >= 0).nonzero()[:, 0]
        if config.max_positives is not None and len(positives) > config.max_positives:
            positives = positives[torch.randperm(len(positives), device=positives.device)[: config.max_positives]]
        negatives = (labels == -1).nonzero()[:, 0]
        hardness = class_scores(logits[negatives].detach(), softmax=softmax).amax(-1)
        num = max(config.min_negatives, len(positives))
        negatives = negatives[mine_hard_negatives(hardness, num, config.pool_factor)]
        halves = [
            class_cross_entropy(logits[rows], labels[rows], softmax=softmax).mean()
            for rows in (positives, negatives)
            if len(rows)
        ]
        return torch.stack(halves).sum() / 2 if halves else logits.sum() * 0.0

    def _box_loss(self, outputs: DenseOutputs, matches: Tensor, instances: Sequence[Instances]) -> Tensor:
        config = self.config.box_loss
        positives = [(index >= 0).nonzero()[:, 0] for index in matches]
        deltas = torch.cat([d[rows] for d, rows in zip(outputs.deltas, positives, strict=True)])
        if not len(deltas):
            return outputs.deltas.sum() * 0.0
        anchors = torch.cat([outputs.anchors[rows] for rows in positives])
        boxes = torch.cat(
            [found.boxes[index[rows]] for found, index, rows in zip(instances, matches, positives, strict=True)]
        )
        if isinstance(config, SmoothL1Config):
            target = encode(boxes, anchors, self.std)
            return config.weight * F.smooth_l1_loss(deltas, target, beta=config.beta)
        if isinstance(config, OverlapLossConfig):
            overlap = paired_overlap(decode(deltas, anchors, self.std), boxes, kind=config.kind)
            return config.weight * (1 - overlap).mean()
        raise TypeError(f"no box loss for {config!r}")

    @torch.no_grad()
    def detect(self, outputs: DenseOutputs) -> list[Detections]:
        """The best `candidates` (anchor, class) pairs of each image, decoded, clipped and suppressed per class."""
        found = []
        for logits, deltas in zip(outputs.logits, outputs.deltas, strict=True):
            scores = class_scores(logits, softmax=self.config.softmax).flatten()
            scores, index = scores.topk(min(self.config.candidates, len(scores)))
            index, scores = index[scores >= self.config.min_score], scores[scores >= self.config.min_score]
            row = index // self.num_classes
            boxes = clip(decode(deltas[row], outputs.anchors[row], self.std), outputs.shape)
            real = (boxes[:, 1] > boxes[:, 0]).all(-1)
            boxes, scores, labels = boxes[real], scores[real], (index % self.num_classes)[real]
            keep = nms(boxes, scores, self.config.nms_threshold, labels=labels, max_detections=self.max_detections)
            found.append(Detections(boxes[keep], scores[keep], labels[keep]))
        return found


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """`values[index]` where index may be negative and values empty; such rows are arbitrary."""
    if not len(values):
        return torch.full_like(index, -1)
    return values[index.clamp(min=0)]
