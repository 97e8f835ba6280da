"""What the experimenter chooses about consolidation."""

from typing import Literal

from pydantic import Field

from boxel.config import Config
from boxel.ranges import ZeroToOne


class ConsolidateConfig(Config):
    """How raw detections become detections.

    Attributes:
        method: `wbc`, weighted box clustering: boxes and scores are averaged over views and tiles, so several
            views help; `wbf`, weighted box fusion: the same idea without knowledge of tiles, meant for one box per
            view; `nms`: the best box replaces those it overlaps; `weighted_nms`: the best score is kept and the
            corners are averaged; `soft_nms`: boxes that overlap a better one are kept, with their score multiplied
            by 1 - IoU.
        iou_threshold: boxes of one class with a larger IoU are the same object. The toolkit's 1e-5 joins all boxes
            that touch. 0.4 keeps crowded neighbours apart, while views of one object overlap by more: on validation
            images of crowded nuclei AP@0.50 is 0.864 at 0.2, 0.878 at 0.4, 0.889 at 0.5, and the same at all three
            where objects are sparse (docs/results).
        one_vote_per_view: for `wbc`, only the best box of each view and tile contributes to a cluster. `false`: all
            of them contribute, as in equation (2) of the paper (Jaeger et al., arXiv 1811.08661).
        min_score: detections with a lower score are dropped (0.01 in the toolkit).
        max_detections: the number of detections kept per image, best first; `null` takes the plan's, which follows from
            the training cases (`plan.max_detections`), and keeps all where there is no plan.
        merge_slices_iou: for slice-wise models, the in-plane IoU above which boxes of adjacent slices are one
            object (the toolkit's 0.1); `null` keeps the boxes of single slices.
    """

    method: Literal["wbc", "nms", "weighted_nms", "soft_nms", "wbf"] = "wbc"
    iou_threshold: ZeroToOne = 0.4
    one_vote_per_view: bool = True
    min_score: ZeroToOne = 0.01
    max_detections: int | None = Field(None, ge=1)
    merge_slices_iou: ZeroToOne | None = 0.1
