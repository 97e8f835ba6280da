"""The plain implementation that the compiled kernel of the metrics is compared with."""

from collections.abc import Sequence

import numpy as np

from boxel.evaluation.grouped_matches import FALSE_POSITIVE_RATES


def sensitivity_at(
    true_positives: np.ndarray,
    false_positives: np.ndarray,
    num_instances: np.ndarray,
    num_images: np.ndarray,
    *,
    rates: Sequence[float] = FALSE_POSITIVE_RATES,
    interpolate: bool = False,
) -> np.ndarray:
    """Sensitivity at given numbers of false positives per image; the mean over 1/8..8 is the FROC score (CPM).

    Args:
        true_positives: `(r, t)` at descending thresholds.
        false_positives: `(r, t)`.
        num_instances: `(r,)` annotated objects.
        num_images: `(r,)` all images, those without objects included.
        rates: false positives per image.
        interpolate: False: the best of the operating points that exist, the highest recall with at most `rate`
            false positives per image. True: on the line to the next point, as LUNA16's script.

    Returns:
        `(r, rates)`, nan where there is no object to be found.
    """
    pad = ((0, 0), (1, 0))
    recall = np.pad(true_positives / np.where(num_instances > 0, num_instances, np.nan)[:, None], pad)
    recall[~(num_instances > 0)] = np.nan
    errors = np.pad(false_positives / np.where(num_images > 0, num_images, np.nan)[:, None], pad)
    columns = []
    for rate in rates:
        last = (errors <= rate + 1e-12).sum(axis=1, keepdims=True) - 1
        value = np.take_along_axis(recall, last.clip(0), 1)
        if interpolate:
            following = np.minimum(last + 1, errors.shape[1] - 1)
            below, above = (np.take_along_axis(errors, index, 1) for index in (last.clip(0), following))
            rise = np.take_along_axis(recall, following, 1) - value
            share = np.divide(rate - below, above - below, out=np.zeros(below.shape), where=above > below)
            value = value + share * rise
        columns.append(value)
    return np.concatenate(columns, axis=1)
