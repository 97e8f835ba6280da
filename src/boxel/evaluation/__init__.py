"""How good are the detections? Matched once; every figure derives from the matches."""

from boxel.evaluation.average_precision import average_precision
from boxel.evaluation.compare import compare
from boxel.evaluation.criteria import Criterion
from boxel.evaluation.evaluate import IOU_THRESHOLDS, Curve, Evaluation, evaluate
from boxel.evaluation.matching import MatchTable, Overlaps
from boxel.evaluation.overlaps import find_overlaps, match_cases
from boxel.evaluation.write import case_rows, object_rows, write_evaluation

__all__ = [
    "IOU_THRESHOLDS",
    "Criterion",
    "Curve",
    "Evaluation",
    "MatchTable",
    "Overlaps",
    "average_precision",
    "case_rows",
    "compare",
    "evaluate",
    "find_overlaps",
    "match_cases",
    "object_rows",
    "write_evaluation",
]
