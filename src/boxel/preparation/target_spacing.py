"""The spacing that images are resampled to, and the cases that may decide it."""

import numpy as np

from boxel.datasets.quality.plausible import far_from_median
from boxel.preparation.fingerprint import CaseRecord, Fingerprint
from boxel.preparation.patch_and_strides import by
from boxel.preparation.preprocess import SpacingUnit

# An axis this much coarser than the finest counts as coarse.
ANISOTROPY = 3.0


def atypical(fingerprint: Fingerprint, unit: SpacingUnit) -> list[CaseRecord]:
    """The cases whose voxel size is far from that of the others, so that it may be wrong: they decide no plan."""
    if unit == "voxel":
        return []
    far = far_from_median(np.array([case.spacing for case in fingerprint.cases]))
    return [case for case, is_far in zip(fingerprint.cases, far.tolist(), strict=True) if is_far]


def typical(fingerprint: Fingerprint, unit: SpacingUnit) -> Fingerprint:
    """The fingerprint without its atypical cases."""
    left_out = {case.id for case in atypical(fingerprint, unit)}
    if not left_out:
        return fingerprint
    return fingerprint.model_copy(update={"cases": tuple(c for c in fingerprint.cases if c.id not in left_out)})


def target_spacing(
    fingerprint: Fingerprint, given: tuple[float, ...] | None, unit: SpacingUnit, why: dict[str, str]
) -> tuple[float, ...]:
    """The spacing that images are resampled to: the `given` one, or the median; `why` receives the reason."""
    if given:
        why["spacing"] = f"Set to {by(given)} {'mm' if unit == 'mm' else 'voxels of each image'}."
        return given
    if unit == "voxel":
        why["spacing"] = "1 voxel: every image keeps its grid."
        return (1.0,) * fingerprint.ndim
    spacings = np.array([case.spacing for case in fingerprint.cases])
    target = np.median(spacings, axis=0)
    why["spacing"] = f"{by(target)} mm, the median of {len(spacings)} training cases."
    coarse = int(target.argmax())
    finest = np.delete(target, coarse).min() if len(target) > 1 else target[0]
    if target[coarse] >= ANISOTROPY * finest:
        # As in nnU-Net: planes added along a coarse axis cost little, planes dropped lose small objects.
        target[coarse] = max(np.percentile(spacings[:, coarse], 10), finest)
        why["spacing"] = (
            f"{by(target)} mm, the median of {len(spacings)} training cases, except that axis {coarse}, at least "
            f"{ANISOTROPY:g} times as coarse as the finest, uses its 10th percentile to keep planes."
        )
    return tuple(target.round(6).tolist())


def in_mm(fingerprint: Fingerprint, spacing: tuple[float, ...], unit: SpacingUnit) -> tuple[float, ...]:
    """The target spacing in mm, of the median image where it is in voxels."""
    if unit == "mm":
        return spacing
    median = np.median([case.spacing for case in fingerprint.cases], axis=0)
    return tuple((median * spacing).tolist())
