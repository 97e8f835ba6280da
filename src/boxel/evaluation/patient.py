"""Patient level: has the patient an object of the class? The score is that of the highest detection."""

import numpy as np

from boxel.evaluation.matching import MatchTable


def patient_scores(table: MatchTable, groups: np.ndarray, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Highest detection score (0 without one) and presence of the class, per group.

    Args:
        table: matched cases; the matching itself plays no role.
        groups: `(cases,)` group index `0..g-1` of each case of the table.
        label: the class.

    Returns:
        `(g,)` float64 scores and `(g,)` bool truths.
    """
    scores = np.zeros(groups.max() + 1)
    truths = np.zeros(groups.max() + 1, dtype=bool)
    rows = table.labels == label
    np.maximum.at(scores, groups[table.detection_cases[rows]], table.scores[rows])
    truths[groups[table.object_cases[table.object_labels == label]]] = True
    return scores, truths


def auroc(scores: np.ndarray, truths: np.ndarray) -> float | None:
    """Probability that a positive scores higher than a negative, ties half; None unless there are both."""
    truths = np.asarray(truths, dtype=bool)
    num_positive, num_negative = int(truths.sum()), int((~truths).sum())
    if not num_positive or not num_negative:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # mean rank of each distinct score
    return float((ranks[inverse][truths].sum() - num_positive * (num_positive + 1) / 2) / num_positive / num_negative)
