"""Free-response operating characteristic: sensitivity against false positives per image."""

import numpy as np

FALSE_POSITIVE_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def sensitivity_at(
    true_positives: np.ndarray,
    false_positives: np.ndarray,
    num_instances: float,
    num_images: float,
    rates: tuple[float, ...] = FALSE_POSITIVE_RATES,
) -> list[float] | None:
    """Sensitivity at given numbers of false positives per image; the mean over 1/8..8 is the FROC score.

    The best of the operating points that exist: the highest recall at a threshold with at most `rate` false
    positives per image. (LUNA16 interpolates linearly between points instead.)

    Args:
        true_positives: `(t,)` at descending thresholds.
        false_positives: `(t,)`.
        num_instances: annotated objects.
        num_images: all images, those without objects included.
        rates: false positives per image.

    Returns:
        One value per rate, or None where there is no object to be found.
    """
    if num_instances <= 0:
        return None
    recall = np.append(0.0, true_positives / num_instances)
    allowed = np.searchsorted(false_positives / num_images, np.asarray(rates) + 1e-12, side="right")
    return recall[allowed].tolist()
