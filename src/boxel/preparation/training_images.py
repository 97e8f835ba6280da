"""What the training images of a run are like (`RUN/training_images.json`), and in what another image differs.

Limits lie well outside the training images: they point at images of another kind, not at unusual ones.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, PositiveFloat

from boxel.config import Config
from boxel.datasets.formats.dicom_files import PROJECTIONS
from boxel.io import read_kind
from boxel.preparation.fingerprint import Fingerprint
from boxel.slabs import Voxels
from boxel.types import Geometry, Image, Normalisation

FILE = "training_images.json"
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
PLANES = 32  # of which the quantiles are computed
SPACING, SIZE = 1.5, 3.0  # times beyond the range of the training images
INTENSITY = 0.25  # beyond it, of the range between the extreme quantiles of the training images
RARE = 0.01  # share of the training images with values that are not taken for usual
AXES = ("RL", "AP", "IS")  # the ends of the axes of the world, LPS
# Modalities by the names that channels have.
MODALITIES = {
    "CT": "CT", "MRI": "MR", "T1": "MR", "T1W": "MR", "T2": "MR", "T2W": "MR", "FLAIR": "MR", "ADC": "MR",
    "DWI": "MR", "PET": "PT", "MR": "MR", "PT": "PT", "US": "US", **dict(zip(PROJECTIONS, PROJECTIONS, strict=True)),
}  # fmt: skip

Range = tuple[float, float]
PositiveRange = tuple[PositiveFloat, PositiveFloat]
Ranges = Annotated[tuple[Range, ...], Field(min_length=len(QUANTILES), max_length=len(QUANTILES))]


def describe(image: Image[Voxels], file: Path, uid: str | None = None) -> dict[str, Any]:
    """What is compared, as fields of a `CaseRecord`.

    Args:
        image: as it is stored.
        file: its file, or the folder of a DICOM series.
        uid: of the series, where the folder has several.
    """
    modality, body_part = read_kind(file, uid)
    return {
        "shape": image.geometry.shape,
        "spacing": image.geometry.spacing,
        "orientation": _orientation(image.geometry),
        "modality": modality,
        "body_part": body_part,
        "intensities": _intensities(image.array),
    }


class TrainingImages(Config):
    """The training images; what is not known is empty, and not compared.

    Attributes:
        modalities: DICOM's, of their headers and of the names of the channels.
        body_parts: BodyPartExamined of their DICOM headers.
        orientations: the end of the world's axes that each array axis points to, such as `SPL`.
        spacing: least and largest per axis.
        shape: least and largest per axis.
        intensities: per channel, the range of each of the `QUANTILES` of an image, but for rare images.
        relative: of each channel, whether these are relative to the image's own median and range, as the network sees
            each image normalised by itself; empty: of none.
    """

    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    orientations: tuple[str, ...] = ()
    spacing: tuple[PositiveRange, ...] = ()
    shape: tuple[PositiveRange, ...] = ()
    intensities: tuple[Ranges, ...] = ()
    relative: tuple[bool, ...] = ()

    @classmethod
    def of(cls, fingerprint: Fingerprint, normalisation: Sequence[Normalisation] = ()) -> Self:
        """Those of the cases that were measured, for a network that sees them normalised like this."""
        relative = tuple(rule.kind == "z_score" for rule in normalisation)
        cases = fingerprint.cases
        known = {name: {value for case in cases if (value := getattr(case, name))}
                 for name in ("modality", "body_part", "orientation")}  # fmt: skip
        named = {MODALITIES[name.upper()] for name in fingerprint.channels if name.upper() in MODALITIES}
        measured = [_as_seen(case.intensities, relative) for case in cases if case.intensities]
        return cls(
            modalities=sorted(known["modality"] or named),
            body_parts=sorted(known["body_part"]) if all(case.body_part for case in cases) else (),
            orientations=sorted(known["orientation"]),
            spacing=_ranges([case.spacing for case in cases]),
            shape=_ranges([case.shape for case in cases]),
            intensities=[_ranges(quantiles, RARE) for quantiles in zip(*measured, strict=True)],
            relative=relative,
        )

    def other_modality(self, image: Mapping[str, Any]) -> str:
        """The modality of an image where it is known and none of those of the training images; else empty."""
        modality: str = image["modality"]
        return modality if self.modalities and modality not in self.modalities else ""

    def differences(self, image: Mapping[str, Any]) -> list[str]:
        """In what an image, as from `describe`, differs from the training images."""
        found = []
        if other := self.other_modality(image):
            found.append(f"modality {other}, not {' or '.join(self.modalities)}")
        if self.body_parts and image["body_part"] and image["body_part"] not in self.body_parts:
            found.append(f"body part {image['body_part']}, not {' or '.join(self.body_parts)}")
        if self.orientations and image["orientation"] not in self.orientations:
            found.append(f"axes towards {image['orientation']}, not {' or '.join(self.orientations)}")
        for what, values, ranges, factor in (
            ("spacing", image["spacing"], self.spacing, SPACING), ("size", image["shape"], self.shape, SIZE),
        ):  # fmt: skip
            if any(not low / factor <= v <= high * factor for v, (low, high) in zip(values, ranges, strict=False)):
                ends = dict.fromkeys(_by(end) for end in zip(*ranges, strict=True))  # one where all are alike
                found.append(f"{what} {_by(values)}, not {' to '.join(ends)}")
        seen = _as_seen(image["intensities"], self.relative)
        for number, (values, ranges) in enumerate(zip(seen, self.intensities, strict=False)):
            margin = INTENSITY * (max(high for _, high in ranges) - min(low for low, _ in ranges))
            for share, value, (low, high) in zip(QUANTILES, values, ranges, strict=True):
                if not low - margin <= value <= high + margin:
                    channel = f" of channel {number}" if len(self.intensities) > 1 else ""
                    below, *limits = (
                        np.format_float_positional(v, 4, fractional=False, trim="-") for v in (value, low, high)
                    )
                    if self.relative and self.relative[number]:
                        below += " of their range from the median"
                    found.append(f"{100 * share:g} % of the values{channel} below {below}, not {' to '.join(limits)}")
                    break
        return found


def _by(values: Any) -> str:
    return " x ".join(f"{value:.3g}" for value in values)


def _ranges(rows: Sequence[Sequence[float]], rare: float = 0.0) -> tuple[Range, ...]:
    """The range of each column, without the share `rare` of the rows at either end."""
    if not rows or len({len(row) for row in rows}) > 1:
        return ()
    low, high = np.quantile(rows, [rare, 1 - rare], axis=0, method="nearest").tolist()
    return tuple(zip(low, high, strict=True))


def _as_seen(intensities: Sequence[Sequence[float]], relative: Sequence[bool]) -> list[tuple[float, ...]]:
    """The quantiles of each channel, of some relative to the median and the range between the extreme ones."""
    flags = relative or [False] * len(intensities)
    return [tuple(own) if not flag else tuple((np.asarray(own) - own[len(own) // 2]) / max(own[-1] - own[0], 1e-9))
            for own, flag in zip(intensities, flags, strict=True)]  # fmt: skip


def _orientation(geometry: Geometry) -> str:
    """The end that each array axis points to, such as `SPL`."""
    columns = np.asarray(geometry.direction).T
    largest = np.abs(columns).argmax(axis=1)
    return "".join(AXES[axis][int(column[axis] > 0)] for column, axis in zip(columns, largest.tolist(), strict=True))


def _intensities(voxels: Voxels) -> tuple[tuple[float, ...], ...]:
    """The quantiles of each channel, of evenly spaced planes."""
    size = voxels.shape[1]
    planes = np.unique(np.linspace(0, size - 1, min(size, PLANES)).round().astype(int)).tolist()
    if isinstance(voxels, np.ndarray):
        sample = voxels[:, planes]
    else:  # on disk
        sample = np.concatenate([np.asarray(voxels[(slice(None), slice(k, k + 1))]) for k in planes], axis=1)
    values = np.quantile(sample.reshape(len(sample), -1).astype(np.float32), QUANTILES, axis=1)
    return tuple(map(tuple, np.round(values.T.astype(float), 4).tolist()))
