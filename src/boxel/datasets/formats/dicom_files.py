"""Scan folders of DICOM files for image series, segmentations (SEG) and structure sets (RTSTRUCT)."""

import os
from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boxel.datasets.annotations import Opener
from boxel.datasets.dicom_objects import pydicom_module
from boxel.datasets.problems import InputError, Report
from boxel.io import read_series
from boxel.types import Image

__all__ = ["DicomSeries", "SeriesOpener", "find_dicom", "has_dicom"]

TAGS = (
    "SOPClassUID",
    "Modality",
    "SeriesInstanceUID",
    "PatientID",
    "FrameOfReferenceUID",
    "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
)
IMAGES = ("CT", "MR", "PT", "NM", "US")
OTHER = (".xml", ".json", ".csv", ".md", ".txt", ".gz", ".zip", ".png", ".jpg", ".nrrd", ".nii", ".html")


@dataclass(frozen=True)
class DicomSeries:
    """One series, or one annotation object: its folder, files and header."""

    folder: Path
    uid: str
    files: tuple[Path, ...]
    header: Any

    @property
    def kind(self) -> str:
        """The modality."""
        return str(self.header.get("Modality", "") or "")

    @property
    def patient(self) -> str:
        return str(self.header.get("PatientID", "") or "")

    @property
    def references(self) -> set[str]:
        """SeriesInstanceUIDs of the images that an annotation refers to."""
        uids = {str(item.get("SeriesInstanceUID", "")) for item in self.header.get("ReferencedSeriesSequence", ())}
        for frame in self.header.get("ReferencedFrameOfReferenceSequence", ()):
            for study in frame.get("RTReferencedStudySequence", ()):
                uids |= {str(item.get("SeriesInstanceUID", "")) for item in study.get("RTReferencedSeriesSequence", ())}
        return uids - {""}

    @property
    def frame_of_reference(self) -> str:
        frames = self.header.get("ReferencedFrameOfReferenceSequence", ())
        known = self.header.get("FrameOfReferenceUID") or (frames[0].get("FrameOfReferenceUID") if frames else "")
        return str(known or "")


@dataclass(frozen=True)
class SeriesOpener(Opener):
    """Opens one series of a folder by its SeriesInstanceUID.

    Attributes:
        upright: a tilted gantry is an error, because the annotations count voxels of the original slices.
    """

    uid: str
    upright: bool = False

    def read(self, path: Path) -> Image:
        return read_series(path, self.uid, upright=self.upright)


def has_dicom(path: Path) -> bool:
    """Whether a DICOM file lies in or below `path`, by file names, and by the magic number of files without suffix."""
    for folder, _, names in os.walk(path):
        for name in names[:50]:
            if name.lower().endswith(".dcm") or ("." not in name and _is_dicom(Path(folder, name))):
                return True
    return False


def _is_dicom(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            return content.read(132)[128:] == b"DICM"
    except OSError:
        return False


def find_dicom(
    path: Path, report: Report, kinds: Container[str] = ("SEG", "RTSTRUCT")
) -> tuple[list[DicomSeries], list[DicomSeries]]:
    """The image series and the annotation objects of certain modalities below `path`, in order of folders.

    Reports a warning for every DICOM file that cannot be read.
    """
    pydicom = pydicom_module()
    groups: dict[tuple[Path, str], list[tuple[Path, Any]]] = defaultdict(list)
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            if name.startswith(".") or file.suffix.lower() in OTHER:
                continue
            try:
                header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS))
                header.get("Modality")
            except Exception:  # damaged headers raise nearly anything
                if file.suffix.lower() == ".dcm" or _is_dicom(file):
                    fix = "copy or export it again, or remove it"
                    report(InputError(file, "cannot be read as DICOM and is left out", fix, severity="warning"))
                continue
            kind = str(header.get("Modality", ""))
            uid = str(header.get("SeriesInstanceUID", "") or "")
            key = uid if kind in IMAGES else f"{uid} {name}"  # one annotation object per file
            groups[file.parent, key].append((file, header))
    images, annotations = [], []
    for (place, _), entries in groups.items():
        header = entries[0][1]
        uid = str(header.get("SeriesInstanceUID", "") or "")
        series = DicomSeries(place, uid, tuple(file for file, _ in entries), header)
        if series.kind in IMAGES:
            images.append(series)
        elif series.kind in kinds:
            annotations.append(series)
    return images, annotations
