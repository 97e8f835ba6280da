"""The readings of LIDC-IDRI as DICOM: segmentations, and structured reports with the radiologists' ratings.

A segment is one radiologist's outline of one nodule; the segments of a nodule share their Tracking UID. A report (TID
1500) has a group of ratings per segment, of which "Malignancy" is read: `1 out of 5 (Highly Unlikely for Cancer)`
to `5 out of 5`. A. Fedorov et al., DICOM re-encoding of volumetrically annotated LIDC nodules, Med. Phys. 2020.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from boxel.datasets.annotations import Annotator
from boxel.datasets.dicom_objects import segments
from boxel.datasets.label_maps import Mask, overlay
from boxel.datasets.problems import InputError
from boxel.datasets.reader_studies import Reading
from boxel.io.dicom_frames import pydicom_module
from boxel.types import Geometry, Instances

__all__ = ["LidcSegments"]

AGAIN = "copy it again"


class Fusion(Protocol):
    """How readings become objects; the options of the layout implement it."""

    @property
    def classes(self) -> str: ...

    def fused(
        self, readings: Sequence[Reading], masks: Sequence[Mask], geometry: Geometry
    ) -> list[tuple[int, Mask]]: ...


@dataclass(frozen=True)
class LidcSegments(Annotator):
    """Reads the nodules of one series, fused over the radiologists.

    Attributes:
        paths: SEG files.
        reports: SR files; those about other segments have no effect.
    """

    paths: tuple[Path, ...]
    reports: tuple[Path, ...]
    options: Fusion

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.paths, *self.reports)

    def read(self, geometry: Geometry) -> tuple[np.ndarray, Instances]:
        rated = {key: value for report in self.reports for key, value in _ratings(report)}
        readings: dict[str, list[tuple[float, Mask]]] = defaultdict(list)
        for path in self.paths:
            data = _open(path)
            try:
                for segment, mask in segments(path, data, geometry):
                    if mask.any():
                        key = (str(data.SOPInstanceUID), int(segment.SegmentNumber))
                        readings[_nodule(segment, path)].append((self._malignancy(rated, key, path), Mask.crop(mask)))
            except InputError:
                raise
            except Exception as error:  # damaged files raise nearly anything
                raise InputError(path, f"cannot be read ({error})"[:300], AGAIN) from None
        nodules = []
        for seen in readings.values():  # each is by a different radiologist
            chosen = [Reading(rater, (), malignancy) for rater, (malignancy, _) in enumerate(seen)]
            nodules += self.options.fused(chosen, [mask for _, mask in seen], geometry)
        return overlay(nodules, geometry.shape)

    def _malignancy(self, rated: dict[tuple[str, int], float], key: tuple[str, int], path: Path) -> float:
        if self.options.classes == "malignancy" and key not in rated:
            fix = "add the structured reports (SR), or choose --option classes=nodule"
            raise InputError(path, f"no report rates the malignancy of segment {key[1]}", fix)
        return rated.get(key, 0.0)


def _open(path: Path) -> Any:
    try:
        return pydicom_module().dcmread(path)
    except Exception as error:  # damaged files raise nearly anything
        raise InputError(path, f"cannot be read ({error})"[:300], AGAIN) from None


def _nodule(segment: Any, path: Path) -> str:
    """The identifier that the readings of one nodule share."""
    known = segment.get("TrackingUID") or segment.get("TrackingID") or segment.get("SegmentDescription")
    if not known:
        raise InputError(path, f"segment {segment.SegmentNumber} does not name its nodule (Tracking UID)", AGAIN)
    return re.sub(r" - Annotation .*", "", str(known))


def _ratings(path: Path) -> Iterator[tuple[tuple[str, int], float]]:
    """The malignancy of each segment that a report rates."""
    try:
        groups = list(_groups(_open(path)))
    except InputError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        raise InputError(path, f"cannot be read ({error})"[:300], AGAIN) from None
    for items in groups:
        about, rating = None, None
        for item in items:
            for reference in item.get("ReferencedSOPSequence", ()):
                if "ReferencedSegmentNumber" in reference:
                    number = np.ravel(reference.ReferencedSegmentNumber)[0]
                    about = (str(reference.ReferencedSOPInstanceUID), int(number))
            if _meaning(item, "ConceptNameCodeSequence") == "Malignancy":
                rated = re.match(r"([1-5]) out of 5", _meaning(item, "ConceptCodeSequence"))
                rating = float(rated[1]) if rated else rating
        if about is not None and rating is not None:
            yield about, rating


def _groups(item: Any) -> Iterator[Sequence[Any]]:
    """The items of every container in and below `item`."""
    inner = item.get("ContentSequence", ())
    if inner:
        yield inner
    for part in inner:
        yield from _groups(part)


def _meaning(item: Any, name: str) -> str:
    codes = item.get(name, ())
    return str(codes[0].get("CodeMeaning", "")) if codes else ""
