"""The settings of an evaluation, in one record for `boxel.evaluate`, `boxel.compare` and the command line."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from boxel.config import Config
from boxel.evaluation.average_precision import Interpolation
from boxel.evaluation.criteria import Kind
from boxel.evaluation.matching import Rule
from boxel.ranges import ZeroToOne

IOU_THRESHOLDS = (0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50)
Protocol = Literal["boxel", "coco", "luna16", "picai", "segmentation"]


class EvaluateConfig(Config):
    """How detections are matched with objects, and which metrics are computed from the matches.

    "101" is the default interpolation because COCO, the Retina U-Net paper and nnDetection report it. With few objects
    it is coarse and slightly optimistic (detecting half of the objects without a false positive gives 51/101): "area"
    is exact.

    Attributes:
        protocol: "coco", "luna16" and "picai" compute the metrics of those challenges, "segmentation" those of
            label maps instead of boxes; each fixes every other setting except `num_resamples` and `seed`.
        iou_thresholds: overlaps in (0, 1] that count as a match, or radii for a distance criterion.
        criterion: what the threshold is compared with, see `boxel.evaluation.Criterion`.
        rule: how detections are paired with objects, see `Overlaps.match`.
        interpolation: of the average precision on object level, see `average_precision`.
        size_limits: box volumes in voxels that separate small, medium, ... objects; None: thirds of the objects.
        operating_points: score thresholds at which precision, recall and F1 are also computed.
        num_resamples: bootstrap resamples of the patients for the intervals (0: no intervals); in a comparison also
            the number of permutations.
        seed: random seed of the resamples and permutations.

    Example:
        >>> import boxel
        >>> boxel.EvaluateConfig(iou_thresholds=(0.5, 0.1)).override(["rule=optimal"]).iou_thresholds
        (0.1, 0.5)
    """

    protocol: Protocol = "boxel"
    iou_thresholds: tuple[Annotated[float, Field(gt=0)], ...] = Field(IOU_THRESHOLDS, min_length=1)
    criterion: Kind = "box_iou"
    rule: Rule = "greedy"
    interpolation: Interpolation = "101"
    size_limits: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    operating_points: tuple[ZeroToOne, ...] = ()
    num_resamples: int = Field(1000, ge=0, le=1_000_000)
    seed: int = Field(0, ge=0)

    @property
    def reported(self) -> tuple[float, ...]:
        """The thresholds with every metric: all that were chosen; of the default the lowest and the highest."""
        chosen = self.iou_thresholds
        return (chosen[0], chosen[-1]) if chosen == IOU_THRESHOLDS else chosen

    @field_validator("iou_thresholds", "size_limits")
    @classmethod
    def _ascending(cls, values: Sequence[float] | None) -> tuple[float, ...] | None:
        return None if values is None else tuple(sorted(values))

    @field_validator("interpolation", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) else value  # an override reads 101 as a number

    @model_validator(mode="after")
    def _check(self) -> Self:
        free = ("protocol", "num_resamples", "seed")
        changed = [name for name, field in EvaluateConfig.model_fields.items()
                   if name not in free and getattr(self, name) != field.default]  # fmt: skip
        if self.protocol != "boxel" and changed:
            raise ValueError(
                f"protocol {self.protocol} fixes the matching and the metrics; leave out {', '.join(sorted(changed))}"
            )
        thresholds, sizes = self.iou_thresholds, self.size_limits or ()
        if len({f"{t:.2f}" for t in thresholds}) < len(thresholds):
            raise ValueError(
                f"iou_thresholds must be different numbers (two decimals count), got {', '.join(map(str, thresholds))}"
            )
        if not self.criterion.endswith("distance") and thresholds[-1] > 1:
            raise ValueError(
                f"iou_thresholds of {self.criterion} must be at most 1, got {', '.join(map(str, thresholds))}"
            )
        if len({f"{size:g}" for size in sizes}) < len(sizes):
            raise ValueError(
                f"size_limits must be different volumes (six digits count), got {', '.join(map(str, sizes))}"
            )
        return self
