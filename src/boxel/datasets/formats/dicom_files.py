"""Scan folders of DICOM files for images and annotations: SEG, RTSTRUCT and SR."""

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boxel.datasets.annotations import Opener
from boxel.datasets.problems import InputError, Report
from boxel.inputs.folders import walk
from boxel.io import read_series
from boxel.io.dicom_damage import is_dicom, is_multi_frame
from boxel.io.dicom_frames import pydicom_module
from boxel.types import Image

__all__ = [
    "ANNOTATIONS",
    "PROJECTIONS",
    "VOLUMES",
    "DicomSeries",
    "SeriesOpener",
    "dicom_folders",
    "find_dicom",
    "has_dicom",
]

TAGS = (
    "SOPClassUID",
    "Modality",
    "SeriesInstanceUID",
    "PatientID",
    "StudyInstanceUID",
    "ImageType",
    "FrameOfReferenceUID",
    "SOPInstanceUID",
    "ImagePositionPatient",
    "NumberOfFrames",
    "SamplesPerPixel",
    "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
    "CurrentRequestedProcedureEvidenceSequence",
    "PertinentOtherEvidenceSequence",
)
VOLUMES = ("CT", "MR", "PT", "NM", "US")
ANNOTATIONS = ("SEG", "RTSTRUCT", "SR")
PROJECTIONS = ("DX", "MG", "CR", "IO", "PX", "XA", "RF")
OTHER = (".xml", ".json", ".csv", ".md", ".txt", ".gz", ".zip", ".png", ".jpg", ".nrrd", ".nii", ".html")


@dataclass(frozen=True)
class DicomSeries:
    """One series, one 2D image, or one annotation object: its folder, files and the header of the first.

    Attributes:
        instances: the file of each SOPInstanceUID.
    """

    folder: Path
    uid: str
    files: tuple[Path, ...]
    header: Any
    instances: Mapping[str, Path] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The modality."""
        return str(self.header.get("Modality", "") or "")

    @property
    def patient(self) -> str:
        return str(self.header.get("PatientID", "") or "")

    @property
    def study(self) -> str:
        return str(self.header.get("StudyInstanceUID", "") or "")

    @property
    def is_localizer(self) -> bool:
        """Whether it is an overview that was made to plan the scan, and not to find anything in it."""
        return any(word in str(self.header.get("ImageType", "")).upper() for word in ("LOCALIZER", "SCOUT"))

    @property
    def is_flat(self) -> bool:
        """Whether every file is a 2D image: a projection or an ultrasound picture, without position and frames."""
        header = self.header
        if int(header.get("NumberOfFrames") or 1) > 1 or is_multi_frame(self.files[0]):
            return False
        return self.kind in PROJECTIONS or (
            self.kind not in ("CT", "MR", "PT") and "ImagePositionPatient" not in header
        )

    @property
    def references(self) -> set[str]:
        """SeriesInstanceUIDs of the images that an annotation refers to, and SOPInstanceUIDs of single images."""
        names = ("ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence",
                 "CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")  # fmt: skip
        return {uid for name in names for item in self.header.get(name, ()) for uid in _references(item)}

    @property
    def frames_of_reference(self) -> set[str]:
        """FrameOfReferenceUIDs of the file and of what it refers to; coordinates in mm belong to one of them."""
        items = (self.header, *self.header.get("ReferencedFrameOfReferenceSequence", ()))
        return {str(item.FrameOfReferenceUID) for item in items if item.get("FrameOfReferenceUID")}


@dataclass(frozen=True)
class SeriesOpener(Opener):
    """Opens one series of a folder by its SeriesInstanceUID.

    Attributes:
        upright: a tilted gantry is an error, because the annotations count voxels of the original slices.
        frames: see `boxel.io.read_series`.
    """

    uid: str
    upright: bool = False
    frames: tuple[str, ...] = ()

    def read(self, path: Path) -> Image:
        return read_series(path, self.uid, upright=self.upright, frames=self.frames)


def _references(item: Any) -> Iterator[str]:
    for element in item:
        if element.VR == "SQ":
            yield from (uid for part in element.value for uid in _references(part))
        elif element.keyword in ("SeriesInstanceUID", "ReferencedSOPInstanceUID") and element.value:
            yield str(element.value)


def has_dicom(path: Path) -> bool:
    """Whether a DICOM file lies in or below `path`, by file names, and by the magic number of files without suffix."""
    return any(True for _ in dicom_folders(path))


def dicom_folders(path: Path) -> Iterator[Path]:
    """The folders, `path` or below, that hold DICOM files; see `has_dicom`."""
    for folder, _, names in walk(path):
        if any(name.lower().endswith(".dcm") or ("." not in name and is_dicom(folder / name)) for name in names[:50]):
            yield folder


def find_dicom(
    path: Path, report: Report, kinds: Container[str] = ("SEG", "RTSTRUCT"), modalities: Container[str] = VOLUMES
) -> tuple[list[DicomSeries], list[DicomSeries]]:
    """The images of certain modalities and the annotation objects of certain `kinds` below `path`, by folder.

    A series is one image, but each of its files is one where they have no position (radiographs, for example).
    Reports a warning for every DICOM file that cannot be read.
    """
    pydicom = pydicom_module()
    groups: dict[tuple[Path, str], list[tuple[Path, Any]]] = defaultdict(list)
    for folder, _, names in walk(path):
        for name in names:
            file = folder / name
            if name.startswith(".") or file.suffix.lower() in OTHER:
                continue
            try:
                header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS))
                kind, uid = (str(header.get(name, "") or "") for name in ("Modality", "SeriesInstanceUID"))
                series = DicomSeries(file.parent, uid, (file,), header)
                alone = kind not in modalities or series.is_flat
                series.references  # noqa: B018 - pydicom parses sequences when they are looked at
            except Exception:  # damaged headers raise nearly anything
                if is_dicom(file):
                    fix = "copy or export it again, or remove it"
                    report(InputError(file, "cannot be read as DICOM and is left out", fix, severity="warning"))
                continue
            groups[file.parent, f"{uid} {name}" if alone else uid].append((file, header))
    images, annotations = [], []
    for (place, _), entries in groups.items():
        header = entries[0][1]
        uid = str(header.get("SeriesInstanceUID", "") or "")
        instances = {str(own.SOPInstanceUID): file for file, own in entries if own.get("SOPInstanceUID")}
        series = DicomSeries(place, uid, tuple(file for file, _ in entries), header, instances)
        if series.kind in modalities:
            images.append(series)
        elif series.kind in kinds:
            annotations.append(series)
    return images, annotations
