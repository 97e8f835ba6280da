"""A metric of your own in one file: F2, which counts a missed object more than a false positive.

    boxel evaluate predictions data --plugin examples/my_metric.py --out evaluation

Like the metrics of Boxel it has values at every IoU threshold and of every class, 95 % intervals, and a test in
`boxel compare`. Training can select checkpoints by it: `boxel train ... --plugin examples/my_metric.py --set
train.select_by=F2@0.50`.
"""

import numpy as np

import boxel
from boxel.evaluation import WeightedMatches

SCORE = 0.5


def f2(matches: WeightedMatches) -> np.ndarray:
    """F2 of the detections that score at least 0.5."""
    confident = matches.table.scores >= SCORE
    true_positives = matches.sum_detections(matches.table.true_positives & confident)
    false_positives = matches.sum_detections(matches.table.false_positives & confident)
    false_negatives = matches.num_objects - true_positives
    return 5 * true_positives / (5 * true_positives + 4 * false_negatives + false_positives)


boxel.register_metric("F2", f2, higher_is_better=True)
