"""Which voxel sizes an imaging method can have: a wrong unit or a damaged header makes others."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from boxel.types import Geometry

__all__ = ["far_from_median", "implausible_size", "per_axis", "unusual_size"]


class Limits(NamedTuple):
    """Voxel sizes and extents of images, in mm, beyond which an image is unusual or cannot be.

    Attributes:
        usual: least and greatest voxel size of ordinary images.
        possible: beyond these the header is wrong.
        extent: longest edge of an ordinary image, and of any.
    """

    usual: tuple[float, float]
    possible: tuple[float, float]
    extent: tuple[float, float]


# Scanners of people have 0.05 to 10 mm; synchrotrons 0.1 um and MR microscopes 5 um.
METHODS = {
    "CT": Limits((0.02, 15), (1e-5, 100), (2500, 10_000)),
    "MR": Limits((0.02, 25), (1e-4, 100), (2500, 10_000)),
    "microscopy": Limits((1e-7, 1), (1e-8, 100), (500, 10_000)),  # electron microscopes resolve 0.1 nm
    "this kind of image": Limits((1e-6, 50), (1e-8, 500), (5000, 100_000)),
}
NAMES = {  # words in the names of channels
    "CT": {"ct", "cbct"},
    "MR": {"mr", "mri", "t1", "t1w", "t1c", "t1ce", "t1gd", "t2", "t2w", "flair", "adc", "dwi", "hbv", "pd", "swi"},
    "microscopy": {"microscopy", "fluorescence", "confocal", "brightfield", "histology", "dapi", "hoechst", "gfp"},
}
FAR = 30  # scans of one study may have planes of 0.5 and of 10 mm; metres and micrometres are 1000-fold
FIX = "correct the voxel size in its header, in mm"


def implausible_size(geometry: Geometry, channels: Sequence[str]) -> str:
    """Why an image cannot have its voxel size or extent; empty if it can. Voxels of 1 mm may have any unit."""
    spacing = np.asarray(geometry.spacing)
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        return f"voxel size {per_axis(spacing)} mm is not positive; {FIX}"
    method, limits = _limits(channels)
    return _beyond(geometry, method, limits.possible, limits.extent[1], "is impossible for")


def unusual_size(geometry: Geometry, channels: Sequence[str]) -> str:
    """What is unusual about the voxel size or the extent of an image; empty if nothing is."""
    method, limits = _limits(channels)
    return _beyond(geometry, method, limits.usual, limits.extent[0], "is unusual for")


def far_from_median(spacing: np.ndarray) -> np.ndarray:
    """Which voxel sizes `(n, d)` differ more than 30-fold from their median along an axis: `(n,)` bool.

    None does where more than one and a tenth of them would: a data set may have two kinds of scans.
    """
    ratio = spacing / np.median(spacing, axis=0)
    far = (np.maximum(ratio, 1 / ratio) > FAR).any(axis=1)
    return np.asarray(far & (far.sum() <= max(1, len(far) // 10)) & (len(far) > 2))


def _limits(channels: Sequence[str]) -> tuple[str, Limits]:
    words = {word for channel in channels for word in re.split(r"[^a-z0-9]+", channel.lower())}
    method = next((method for method, names in NAMES.items() if names & words), "this kind of image")
    return method, METHODS[method]


def _beyond(geometry: Geometry, method: str, sizes: tuple[float, float], longest: float, what: str) -> str:
    spacing = np.asarray(geometry.spacing)
    extent = spacing * geometry.shape
    if (spacing == 1).all():  # as of pictures, which have no unit
        return ""
    if spacing.min() < sizes[0] or spacing.max() > sizes[1]:
        return f"voxel size {per_axis(spacing)} mm {what} {method} ({sizes[0]:g} to {sizes[1]:g} mm); {FIX}"
    if extent.max() > longest:
        problem = (
            f"extent {per_axis(extent)} mm (voxel size {per_axis(spacing)} mm) {what} {method} (up to {longest:g} mm)"
        )
        return f"{problem}; {FIX}"
    return ""


def per_axis(values: ArrayLike) -> str:
    """Numbers per axis as text, such as `3 x 0.7 x 0.7`."""
    return " x ".join(f"{value:.4g}" for value in np.asarray(values))
