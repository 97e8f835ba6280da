"""How well one segmentation agrees with the ground truth: overlaps from voxel counts, and distances of surfaces."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

OVERLAPS = ("DSC", "IoU", "precision", "recall")
DISTANCES = ("HD95", "mean_surface_distance")
THIRDS = ("slices_small", "slices_medium", "slices_large")  # of the slices with an object, by its area


@dataclass(frozen=True)
class CaseSegmentation:
    """What the metrics of a case need: `k` classes, `n` slices of the last two axes (a 2D image is one).

    Attributes:
        counts: `(k, n, 3)` true positive, false positive and false negative voxels.
        distances: `(k, 2)` HD95 and mean surface distance in mm; nan where they are not defined.
        spacing: voxel size in mm.
        num_objects: `(k,)` annotated objects.
        segments: `(k, 4)` how its objects match, see `boxel.evaluation.panoptic.match_segments`.
    """

    counts: np.ndarray
    distances: np.ndarray
    spacing: tuple[float, ...]
    num_objects: np.ndarray
    segments: np.ndarray

    @property
    def annotated(self) -> np.ndarray:
        """`(k, n)` voxels of the ground truth."""
        total: np.ndarray = self.counts[..., 0] + self.counts[..., 2]
        return total

    @property
    def predicted(self) -> np.ndarray:
        """`(k, n)` voxels of the prediction."""
        total: np.ndarray = self.counts[..., 0] + self.counts[..., 1]
        return total


def segmentation_scores(
    predicted: np.ndarray, expected: np.ndarray, spacing: Sequence[float] | None = None
) -> dict[str, float]:
    """Compare two binary masks of two or more axes.

    `DSC` is the Dice similarity coefficient. Surface voxels are those of a mask with a face on the outside, which
    includes the border of the image. Each has a distance to the nearest surface voxel of the other mask, from centre
    to centre: `HD95` is the larger of the two directed 95th percentiles, `mean_surface_distance` the mean over the
    surface voxels of both (Heimann et al. 2009, IEEE TMI 28, 1251).

    Args:
        predicted: `(*s)` bool.
        expected: `(*s)` bool, the ground truth.
        spacing: voxel size per axis in mm; None: 1.

    Returns:
        "DSC", "IoU", "precision", "recall" and, in mm, "HD95" and "mean_surface_distance". Without any voxel in either
        mask all are nan. With voxels in one mask only, overlaps are 0 and distances nan.

    Raises:
        ValueError: the masks differ in shape, or the spacing has another rank.

    Example:
        >>> import numpy as np
        >>> from boxel.evaluation import segmentation_scores
        >>> expected = np.array([[0, 1, 1, 1, 0]], bool)
        >>> segmentation_scores(np.roll(expected, 1), expected, spacing=[1.0, 2.0])["IoU"]
        0.5
    """
    predicted, expected = np.asarray(predicted, bool), np.asarray(expected, bool)
    spacing = (1.0,) * predicted.ndim if spacing is None else tuple(spacing)
    case = score_case(predicted.view(np.uint8), expected.view(np.uint8), 1, spacing)
    overlaps = {name: float(value[0]) for name, value in overlap_scores(case.counts.sum(axis=1)).items()}
    return overlaps | dict(zip(DISTANCES, case.distances[0].tolist(), strict=True))


def score_case(
    predicted: np.ndarray,
    expected: np.ndarray,
    num_classes: int,
    spacing: Sequence[float],
    num_objects: np.ndarray | None = None,
    segments: np.ndarray | None = None,
) -> CaseSegmentation:
    """Compare two label maps `(*s)` in which `1 + k` is class k and 0 the background.

    Raises:
        ValueError: the maps differ in shape, or the spacing has another rank.
    """
    if predicted.shape != expected.shape or len(spacing) != predicted.ndim:
        raise ValueError(
            f"the prediction has shape {predicted.shape}, the ground truth {expected.shape}, and the spacing "
            f"{len(spacing)} axes; give all on one voxel grid"
        )
    counts = np.zeros((num_classes, *predicted.shape[:-2], 3), np.int64)
    distances = np.full((num_classes, 2), np.nan)
    everything = bounding_box((predicted > 0) | (expected > 0))
    predicted, expected = predicted[everything], expected[everything]
    for k in range(num_classes):
        mine, true = predicted == k + 1, expected == k + 1
        region = bounding_box(mine | true)
        parts = (mine & true, mine & ~true, true & ~mine)
        counts[k][everything[:-2]] = np.stack([part.sum(axis=(-2, -1)) for part in parts], axis=-1)
        distances[k] = _surface_distances(mine[region], true[region], spacing)
    counts = counts.reshape(num_classes, -1, 3)
    objects = np.zeros(num_classes, np.int64) if num_objects is None else num_objects
    matched = np.zeros((num_classes, 4)) if segments is None else segments
    return CaseSegmentation(counts, distances, tuple(spacing), objects, matched)


def overlap_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """`(...)` DSC, IoU, precision and recall of voxel counts `(..., 3)`.

    They are nan where there is no voxel at all, and 0 where all voxels are in one mask.
    """
    shared, extra, lost = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    divisors = {"DSC": shared + (extra + lost) / 2, "IoU": shared + extra + lost,
                "precision": shared + extra, "recall": shared + lost}  # fmt: skip
    defined = shared + extra + lost > 0
    return {
        name: np.where(defined, shared / np.where(divisor > 0, divisor, 1), np.nan)
        for name, divisor in divisors.items()
    }


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds every voxel of the mask; one without extent if there is none."""
    box = []
    for axis in range(mask.ndim):
        inside = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0))
    return tuple(box)


def _surface_distances(mine: np.ndarray, true: np.ndarray, spacing: Sequence[float]) -> tuple[float, float]:
    """HD95 and mean surface distance; nan if a mask is empty."""
    from scipy import ndimage

    if not (mine.any() and true.any()):
        return np.nan, np.nan
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (mine, true)]
    directed = [
        ndimage.distance_transform_edt(~other, sampling=spacing)[surface]
        for surface, other in (surfaces, surfaces[::-1])
    ]
    furthest = max(float(np.percentile(values, 95)) for values in directed)
    return furthest, float(np.concatenate(directed).mean())
