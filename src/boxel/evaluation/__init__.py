"""How good are the detections? Matched once; every metric derives from the matches."""

from boxel.evaluation import metrics
from boxel.evaluation.average_precision import average_precision
from boxel.evaluation.case_segmentation import CaseSegmentation, segmentation_scores
from boxel.evaluation.compare import compare
from boxel.evaluation.config import IOU_THRESHOLDS, EvaluateConfig
from boxel.evaluation.criteria import Criterion
from boxel.evaluation.evaluate import Curve, Evaluation, evaluate
from boxel.evaluation.matching import MatchTable, Overlaps
from boxel.evaluation.overlaps import find_overlaps, match_cases
from boxel.evaluation.panoptic import panoptic_quality
from boxel.evaluation.registry import WeightedMatches, register_metric
from boxel.evaluation.segmentation import SegmentationEvaluation, evaluate_segmentation
from boxel.evaluation.summary import summary
from boxel.evaluation.write import case_rows, object_rows, write_evaluation

__all__ = [
    "IOU_THRESHOLDS",
    "CaseSegmentation",
    "Criterion",
    "Curve",
    "EvaluateConfig",
    "Evaluation",
    "MatchTable",
    "Overlaps",
    "SegmentationEvaluation",
    "WeightedMatches",
    "average_precision",
    "case_rows",
    "compare",
    "evaluate",
    "evaluate_segmentation",
    "find_overlaps",
    "match_cases",
    "metrics",
    "object_rows",
    "panoptic_quality",
    "register_metric",
    "segmentation_scores",
    "summary",
    "write_evaluation",
]
