"""LIDC-IDRI's readings as DICOM: segmentations, and structured reports of what the radiologists thought of them.

A segment is one radiologist's outline of one nodule; the segments of a nodule share their Tracking UID. A report (TID
1500) has a group per segment with its ratings, of which "Malignancy" is read: `1 out of 5 (Highly Unlikely for Cancer)`
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
from boxel.datasets.dicom_objects import pydicom_module, segments
from boxel.datasets.label_maps import Mask, overlay
from boxel.datasets.problems import InputError
from boxel.datasets.reader_studies import Reading
from boxel.types import Geometry, Instances

__all__ = ["LidcSegments"]

AGAIN = "copy it again"


class Fusion(Protocol):
    """How readings become an object: the options of the layout."""

    @property
    def classes(self) -> str: ...

    def fused(
        self, readings: Sequence[Reading], masks: Sequence[Mask], geometry: Geometry
    ) -> list[tuple[int, Mask]]: ...


@dataclass(frozen=True)
class LidcSegments(Annotator):
    """The nodules of one series, fused.

    Attributes:
        paths: SEG files.
        reports: SR files; those about other segments are passed over.
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
        found = []
        for seen in readings.values():  # each by another radiologist
            chosen = [Reading(rater, (), malignancy) for rater, (malignancy, _) in enumerate(seen)]
            found += self.options.fused(chosen, [mask for _, mask in seen], geometry)
        return overlay(found, geometry.shape)

    def _malignancy(self, rated: dict[tuple[str, int], float], key: tuple[str, int], path: Path) -> float:
        if self.options.classes == "malignancy" and key not in rated:
            fix = "add the structured reports (SR), or choose --option classes=nodule"
            raise InputError(path, f"no report says how malignant segment {key[1]} is", fix)
        return rated.get(key, 0.0)


def _open(path: Path) -> Any:
    try:
        return pydicom_module().dcmread(path)
    except Exception as error:  # damaged files raise nearly anything
        raise InputError(path, f"cannot be read ({error})"[:300], AGAIN) from None


def _nodule(segment: Any, path: Path) -> str:
    """What the readings of one nodule have in common."""
    known = segment.get("TrackingUID") or segment.get("TrackingID") or segment.get("SegmentDescription")
    if not known:
        raise InputError(path, f"segment {segment.SegmentNumber} does not say which nodule it is (Tracking UID)", AGAIN)
    return re.sub(r" - Annotation .*", "", str(known))


def _ratings(path: Path) -> Iterator[tuple[tuple[str, int], float]]:
    """The malignancy of each segment that a report is about."""
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
                said = re.match(r"([1-5]) out of 5", _meaning(item, "ConceptCodeSequence"))
                rating = float(said[1]) if said else rating
        if about is not None and rating is not None:
            yield about, rating


def _groups(item: Any) -> Iterator[Sequence[Any]]:
    """The items of every container below one."""
    inner = item.get("ContentSequence", ())
    if inner:
        yield inner
    for part in inner:
        yield from _groups(part)


def _meaning(item: Any, name: str) -> str:
    codes = item.get(name, ())
    return str(codes[0].get("CodeMeaning", "")) if codes else ""
