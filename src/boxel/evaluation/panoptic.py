"""Panoptic quality: whether each object was segmented, and how well."""

from collections.abc import Sequence

import numpy as np

PANOPTIC = ("PQ", "SQ", "RQ")
MATCHED = 0.5  # an IoU above it, so that no segment can match two


def panoptic_quality(
    predicted: np.ndarray,
    expected: np.ndarray,
    predicted_labels: Sequence[int] | np.ndarray | None = None,
    expected_labels: Sequence[int] | np.ndarray | None = None,
    *,
    classes: Sequence[str] = ("object",),
    void: np.ndarray | None = None,
) -> dict[str, float]:
    """Compare two maps of numbered segments, in which 0 is background and no segment covers another.

    A predicted segment matches the expected one of its class whose IoU with it is above 0.5. Of a class, `RQ`
    (recognition) is `TP / (TP + FP / 2 + FN / 2)`, `SQ` (segmentation) the mean IoU of the matches, 0 without any, and
    `PQ` their product.

    Args:
        predicted: `(*s)` integers, the number of the predicted segment at each voxel.
        expected: `(*s)` integers, the ground truth.
        predicted_labels: `(n,)` class of the segments 1 to n; None: all are of the first class.
        expected_labels: `(m,)` class of the segments 1 to m of the ground truth; None: all are of the first class.
        classes: class names.
        void: `(*s)` bool, voxels that are neither object nor background. They do not count in any IoU, and an unmatched
            predicted segment of which more than half lies there is no false positive.

    Returns:
        "PQ", "SQ" and "RQ", each the mean over the classes that occur, and of each class ("PQ/object"); nan where a
        class has no segment. Sum `match_segments` over images for the values of a data set.

    Raises:
        ValueError: the arrays differ in shape, are not of integers, or hold a number without a label; a label is no
            class.

    Reference: Kirillov et al., Panoptic Segmentation, CVPR 2019.

    Example:
        >>> import numpy as np
        >>> from boxel.evaluation import panoptic_quality
        >>> expected = np.array([[1, 1, 1, 1, 0, 2, 2]])
        >>> predicted = np.array([[0, 1, 1, 1, 0, 0, 0]])
        >>> panoptic_quality(predicted, expected)["PQ"]  # an IoU of 3/4, and one object of two missed
        0.5
    """
    predicted, expected = np.asarray(predicted), np.asarray(expected)
    labels = (_labels(predicted, predicted_labels), _labels(expected, expected_labels))
    counts = match_segments(predicted, expected, *labels, len(classes), void)
    quality: dict[str, float] = {}
    for name, values in panoptic_scores(counts).items():
        occurs = ~np.isnan(values)
        quality[name] = float(values[occurs].mean()) if occurs.any() else float("nan")
        quality |= {f"{name}/{one}": float(value) for one, value in zip(classes, values, strict=True)}
    return quality


def match_segments(
    predicted: np.ndarray,
    expected: np.ndarray,
    predicted_labels: np.ndarray,
    expected_labels: np.ndarray,
    num_classes: int,
    void: np.ndarray | None = None,
) -> np.ndarray:
    """`(k, 4)` of each class the sum of the IoU of the matches, true positives, false positives and false negatives.

    Args and errors: see `panoptic_quality`.
    """
    void = np.zeros(expected.shape, bool) if void is None else np.asarray(void, bool)
    if not predicted.shape == expected.shape == void.shape:
        raise ValueError(
            f"the prediction has shape {predicted.shape}, the ground truth {expected.shape}, void {void.shape}; "
            "give all on one voxel grid"
        )
    for what, segments, labels in (("predicted", predicted, predicted_labels), ("expected", expected, expected_labels)):
        _check(what, segments, labels, num_classes)
    expected = np.where(void, 0, expected)
    sizes, true_sizes = (
        np.bincount(segments.ravel(), minlength=len(labels) + 1)[1:]
        for segments, labels in ((predicted, predicted_labels), (expected, expected_labels))
    )
    hidden = np.bincount(predicted[void], minlength=len(sizes) + 1)[1:]
    shared = (predicted > 0) & (expected > 0)
    codes = (predicted[shared].astype(np.int64) - 1) * len(true_sizes) + expected[shared].astype(np.int64) - 1
    pairs, overlap = np.unique(codes, return_counts=True)
    mine, true = np.divmod(pairs, max(len(true_sizes), 1))
    iou = overlap / (sizes[mine] - hidden[mine] + true_sizes[true] - overlap)
    matched = (iou > MATCHED) & (predicted_labels[mine] == expected_labels[true])
    unmatched, missed = (sizes > 0) & (hidden <= sizes / 2), true_sizes > 0
    unmatched[mine[matched]] = missed[true[matched]] = False
    labels = expected_labels[true[matched]]
    columns = (
        np.bincount(labels, iou[matched], minlength=num_classes),
        *(np.bincount(one, minlength=num_classes)
          for one in (labels, predicted_labels[unmatched], expected_labels[missed])),
    )  # fmt: skip
    return np.stack(columns, axis=-1).astype(np.float64)


def match_components(
    predicted: np.ndarray, objects: np.ndarray, object_ids: np.ndarray, object_labels: np.ndarray, num_classes: int
) -> np.ndarray:
    """`match_segments` of a label map of classes, whose objects are the connected voxels of a class.

    Voxels are connected if they share a face, an edge or a corner.

    Args:
        predicted: `(*s)` where `1 + k` is class k.
        objects: `(*s)` numbers of the annotated objects; others are background.
        object_ids: `(m,)` these numbers.
        object_labels: `(m,)` the class of each.
        num_classes: number of classes.
    """
    import cc3d

    parts = cc3d.connected_components(predicted, connectivity=26)  # in 2D: 8
    label_of = np.zeros(int(parts.max(initial=0)), np.int64)
    label_of[parts[parts > 0] - 1] = predicted[parts > 0].astype(np.int64) - 1
    number_of = np.zeros(max(int(objects.max(initial=0)), int(object_ids.max(initial=0))) + 1, np.int64)
    number_of[object_ids] = np.arange(1, len(object_ids) + 1)
    return match_segments(parts, number_of[objects], label_of, np.asarray(object_labels), num_classes)


def panoptic_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """`(...)` PQ, SQ and RQ of sums `(..., 4)` of `match_segments`; nan where there is no segment."""
    iou, true, extra, lost = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    divisor = true + (extra + lost) / 2
    recognition = np.divide(true, divisor, out=np.full(divisor.shape, np.nan), where=divisor > 0)
    segmentation = np.where(divisor > 0, iou / np.where(true > 0, true, 1), np.nan)
    return dict(zip(PANOPTIC, (segmentation * recognition, segmentation, recognition), strict=True))


def _labels(segments: np.ndarray, labels: Sequence[int] | np.ndarray | None) -> np.ndarray:
    return np.zeros(int(segments.max(initial=0)), np.int64) if labels is None else np.asarray(labels, np.int64)


def _check(what: str, segments: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
    if segments.dtype.kind not in "iub":
        raise ValueError(f"{what} must be integers, the number of the segment at each voxel, got {segments.dtype}")
    low, high = (int(end) for end in (segments.min(initial=0), segments.max(initial=0)))
    if low < 0 or high > len(labels):
        wrong = low if low < 0 else high
        raise ValueError(f"{what} holds the number {wrong}; give numbers from 0 to {len(labels)}, one label for each")
    if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
        raise ValueError(f"{what}_labels must be from 0 to {num_classes - 1}, got {labels.min()} to {labels.max()}")
