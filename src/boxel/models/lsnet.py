"""L-SNet: a network locates an object, a second one segments it in a region of one size; both learn together.

How it works: the first stage gives boxes. The region around each is resampled to the size of the input (recalibration),
the second stage segments it, and the result is pasted back. The resampling is differentiable in the box, so that the
loss of the segmentation also trains the first stage, with its gradient attenuated.

Reference: L-SNet, 2020 ("localise, recalibrate, segment"); docs/concepts/lsnet.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor

from boxel.caps import leaves_out
from boxel.models.built import BuiltModel
from boxel.models.first_stage import FirstStageConfig
from boxel.models.grid import Numbers, numbers_of
from boxel.models.l_net import LNetConfig
from boxel.models.semantic_net import SemanticConfig, SemanticNet, SemanticNetConfig
from boxel.ops import clip, paste_regions, sample_regions, scale_gradient
from boxel.types import Batch, Detections, Task

LEAST_EXTENT = 4.0  # voxels of a region, before its margin


class LSNetConfig(SemanticConfig, name="lsnet"):
    """L-SNet: L-Net locates objects, S-Net segments them in recalibrated regions.

    Attributes:
        first: the network that locates.
        second: the network that segments.
        region: `recalibrate` samples regions linearly at the predicted coordinates, with a gradient to them; `crop`
            cuts whole voxels, without one.
        margin: voxels that a region extends beyond its box, on each side.
        gradient: factor of the gradient from the second stage to the first (gamma); 0 cuts it. Without effect in a
            `crop`.
        warmup_truth: steps in which the second stage learns from boxes of the ground truth, moved at random, since
            those of an untrained first stage are arbitrary. The paper has none.
        max_regions: most regions of an image, or tile, that are segmented.
        mask_cells: cells per axis of the instance masks, which lie on a grid over each object's box.
    """

    first: FirstStageConfig = LNetConfig()
    second: SemanticNetConfig = SemanticNetConfig()
    region: Literal["recalibrate", "crop"] = "recalibrate"
    margin: NonNegativeFloat = 7.5
    gradient: NonNegativeFloat = 0.1
    warmup_truth: NonNegativeInt = 0
    max_regions: PositiveInt = 10
    mask_cells: PositiveInt = 28

    @property
    def fills_boxes(self) -> bool:
        return self.second.boxes_without_mask == "fill"

    def build(self, task: Task) -> "LSNet":
        return LSNet(**numbers_of(task), config=self)


class LSNetOutputs(NamedTuple):
    """The outputs of the first stage, the images, and, in the phase `segment`, one box `(b, 2, d)` per image.

    Attributes:
        kept: what `detect` or `segment` computed of these outputs, for the other; empty before. It is of one model with
            one configuration: after a change of either, infer again.
    """

    first: Any
    images: Tensor
    proposed: Tensor | None
    kept: dict[str, Any]


class LSNet(BuiltModel):
    """L-SNet, and coarse-to-fine segmentation.

    Losses of the phase `localise`: those of the first stage; of `segment`: `segmentation`.

    In each step the first stage is trained, then the second on a region that the new first stage proposes. Both phases
    share one optimiser: with one of its own, Adam would divide the factor `gradient` away.

    Example:
        >>> import torch
        >>> from boxel.models import LSNet
        >>> model = LSNet(ndim=2, in_channels=1, num_classes=1).eval()
        >>> outputs = model.infer(torch.rand(1, 1, 64, 64))
        >>> model.segment(outputs).shape
        torch.Size([1, 2, 64, 64])
    """

    config_class: ClassVar[type[LSNetConfig]] = LSNetConfig
    phases: ClassVar[tuple[str, ...]] = ("localise", "segment")
    steps: Tensor

    def add_parts(self, numbers: Numbers, in_channels: int, config: LSNetConfig) -> None:
        self.config = config
        self.first = config.first.build(numbers, in_channels)
        self.second = SemanticNet(numbers, in_channels, config.second)
        self.region_size = numbers.grid.patch_size  # the input that the second stage is trained on
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))  # of the second stage, for its warm-up

    # Always all that `segment` needs: the argument is there for the interface of all models.
    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> LSNetOutputs:
        first = self.first(images)
        return LSNetOutputs(first, images, self.first.propose(first) if phase == "segment" else None, {})

    def loss(self, outputs: LSNetOutputs, batch: Batch) -> dict[str, Tensor]:
        if outputs.proposed is None:
            return self.first.loss(outputs.first, batch)
        shape = batch.images.shape[2:]
        proposed = scale_gradient(outputs.proposed, self.config.gradient)
        regions = self._region(self._warm_up(proposed, batch), shape)
        index = torch.arange(len(regions), device=regions.device)
        logits = self.second(sample_regions(batch.images, regions, index, shape))
        target = sample_labels(self.second.target(batch), regions, self.num_classes or 0)
        return {"segmentation": self.second.loss(logits, target)}

    def _warm_up(self, proposed: Float[Tensor, "b 2 d"], batch: Batch) -> Float[Tensor, "b 2 d"]:
        """The proposed boxes; while warming up, an object of each image that has one, moved and resized at random."""
        warm = self.config.warmup_truth and int(self.steps) < self.config.warmup_truth
        if torch.is_grad_enabled():
            self.steps += 1
        if not warm:
            return proposed
        boxes = proposed.detach().clone()
        for image, one in enumerate(batch.instances):
            if len(one):
                box = one.boxes[int(torch.randint(len(one), ()))]
                boxes[image] = box + 0.1 * torch.randn(box.shape).to(box) * (box[1] - box[0])
        return boxes

    def _region(self, boxes: Float[Tensor, "n 2 d"], shape: Sequence[int]) -> Float[Tensor, "n 2 d"]:
        """The regions around boxes."""
        centre = boxes.mean(1)
        half = ((boxes[:, 1] - boxes[:, 0]) / 2).clamp(min=LEAST_EXTENT / 2) + self.config.margin
        if self.config.region == "recalibrate":
            return torch.stack([centre - half, centre + half], 1)
        lower, upper = (centre - half).detach().floor(), (centre + half).detach().ceil()
        size = lower.new_tensor(shape)
        lower = torch.minimum(lower.clamp(min=0), size - 1)
        return torch.stack([lower, torch.minimum(torch.maximum(upper, lower + 1), size)], 1)

    def detect(self, outputs: LSNetOutputs, *, masks: bool = False) -> list[Detections[Tensor]]:
        return self._segmented(outputs)[0] if masks else self._located(outputs)

    def segment(self, outputs: LSNetOutputs) -> Tensor:
        return self._segmented(outputs)[1]

    @torch.no_grad()
    def segment_boxes(
        self, images: Float[Tensor, "b c *s"], boxes: Sequence[Float[Tensor, "_ 2 d"]]
    ) -> Float[Tensor, "b k *s"]:
        """Where regions overlap, the one with the higher probability of foreground counts."""
        result = self._background(images)
        for image, own, probabilities in zip(images, boxes, result, strict=True):
            for region, maps in self._segment_regions(image, own):
                _paste(probabilities, maps, region)
        return result

    @torch.no_grad()
    def _located(self, outputs: LSNetOutputs) -> list[Detections[Tensor]]:
        if "located" not in outputs.kept:
            most = self.config.max_regions
            located = self.first.locate(outputs.first, outputs.images.shape[2:])
            outputs.kept["located"] = [
                replace(one[:most], capped=one.capped or leaves_out(one.scores, most)) for one in located
            ]
        return outputs.kept["located"]

    @torch.no_grad()
    def _segmented(self, outputs: LSNetOutputs) -> tuple[list[Detections[Tensor]], Float[Tensor, "b k *s"]]:
        """Detections with masks, and the segmentation, as of `segment_boxes`: each region is segmented once for both.

        A mask holds the probability of its class on a grid over the box.
        """
        if "segmented" not in outputs.kept:
            result, found = self._background(outputs.images), []
            for image, own, probabilities in zip(outputs.images, self._located(outputs), result, strict=True):
                cells = (self.config.mask_cells,) * (image.ndim - 1)
                masks = own.boxes.new_zeros((len(own), *cells))
                pairs = zip(own.boxes, own.labels, self._segment_regions(image, own.boxes), strict=True)
                for row, (box, label, (region, maps)) in enumerate(pairs):
                    within = (box - region[0]) / (region[1] - region[0]) * box.new_tensor(maps.shape[1:])
                    masks[row] = sample_regions(maps[None, None, 1 + label], within[None], label.new_zeros(1), cells)[
                        0, 0
                    ]
                    _paste(probabilities, maps, region)
                found.append(replace(own, masks=masks))
            outputs.kept["segmented"] = found, result
        return outputs.kept["segmented"]

    def _background(self, images: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        result = images.new_zeros((len(images), 1 + (self.num_classes or 0), *images.shape[2:]), dtype=torch.float32)
        result[:, 0] = 1
        return result

    def _segment_regions(
        self, image: Float[Tensor, "c *s"], boxes: Float[Tensor, "n 2 d"]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The region `(2, d)` around each box and the class probabilities `(k, *r)` in it, one at a time."""
        first = torch.zeros(1, dtype=torch.int64, device=image.device)
        for region in self._region(boxes, image.shape[1:]):
            seen = sample_regions(image[None], region[None], first, self.region_size or tuple(image.shape[1:]))
            yield region, self.second.probabilities(self.second(seen))[0]


def _paste(probabilities: Float[Tensor, "k *s"], maps: Float[Tensor, "k *r"], region: Float[Tensor, "2 d"]) -> None:
    """Write what is seen in a region into the image where it has more foreground than before."""
    lower, upper = clip(region[None], probabilities.shape[1:])[0]
    window = tuple(map(slice, lower.floor().int().tolist(), upper.ceil().int().tolist()))
    before = probabilities[(slice(None), *window)]
    if not before.numel():  # the region lies beyond the image
        return
    foreground = paste_regions(maps[None, 1:], (region - lower.floor())[None], before.shape[1:])[0]
    after = torch.cat([1 - foreground.sum(0, keepdim=True), foreground])
    before.copy_(torch.where(after[0] < before[0], after, before))


@torch.no_grad()
def sample_labels(
    labels: Int[Tensor, "b *s"], regions: Float[Tensor, "b 2 d"], num_classes: int
) -> Int[Tensor, "b *s"]:
    """The content of one region per label map, of the same size: values of a half or more after linear resampling.

    Args:
        labels: 0 for background, 1 + k for class k, -1 for voxels that do not count.
    """
    values = torch.tensor([-1, *range(1, num_classes + 1)], device=labels.device)
    maps = (labels[:, None] == values.reshape(1, -1, *[1] * (labels.ndim - 1))).to(regions)
    index = torch.arange(len(labels), device=labels.device)
    share, winner = sample_regions(maps, regions, index, labels.shape[1:]).max(1)
    return torch.where(share >= 0.5, values[winner], 0)
