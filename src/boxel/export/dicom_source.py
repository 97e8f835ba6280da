"""The DICOM image that predictions were made on: what reports, segmentations and structure sets refer to."""

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boxel.export.painting import region_of
from boxel.export.prediction import Prediction
from boxel.files import write_bytes
from boxel.inputs.folders import listing
from boxel.io.dicom_frames import frames_of
from boxel.io.dicom_stack import Slice
from boxel.types import Geometry
from boxel.wording import counted

if TYPE_CHECKING:
    from pydicom import Dataset

# A private coding scheme for the class names, which no dictionary has (PS3.16, section 8.2).
SCHEME = "99BOXEL"
# The person, by whom an archive files objects, and whether this is a pseudonym. What else is said of a patient, a
# visit, a trial, a physician or an institution (PS3.15, table E.1-1) stays with the images: all of these groups, and
# these attributes of others.
PERSON = ("PatientName", "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "PatientBirthDate",
          "PatientSex", "PatientIdentityRemoved", "DeidentificationMethod",
          "DeidentificationMethodCodeSequence")  # fmt: skip
LEFT_GROUPS = (0x0010, 0x0012, 0x0032, 0x0038)
LEFT = (
    "AdmittingDiagnosesCodeSequence", "AdmittingDiagnosesDescription", "ConsultingPhysicianIdentificationSequence",
    "ConsultingPhysicianName", "DeviceSerialNumber", "InstitutionAddress", "InstitutionName",
    "InstitutionalDepartmentName", "NameOfPhysiciansReadingStudy", "PhysiciansOfRecord",
    "PhysiciansOfRecordIdentificationSequence", "PhysiciansReadingStudyIdentificationSequence",
    "ReferringPhysicianIdentificationSequence", "StationName", "StudyDescription",
)  # fmt: skip
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def need_highdicom() -> None:
    """Raise ValueError if the optional libraries are not installed."""
    if importlib.util.find_spec("highdicom") is None:
        raise ValueError("DICOM reports and segmentations need the libraries of pip install 'boxel[dicom]'")


@dataclass(frozen=True)
class Source:
    """The DICOM image of a case.

    Attributes:
        headers: of its files: one per plane in the order of the image's planes, or that of one file with all of them.
        planes: the slice or frame at each plane of the image; one for a 2D image.
    """

    headers: "list[Dataset]"
    planes: list[Slice]

    @property
    def series(self) -> str:
        return str(self.headers[0].SeriesInstanceUID)

    @property
    def is_multi_frame(self) -> bool:
        return (
            int(self.headers[0].get("NumberOfFrames") or 1) > 1
            or "PerFrameFunctionalGroupsSequence" in (self.headers[0])
        )

    def at(self, plane: int) -> "tuple[Dataset, int | None]":
        """The header of the file with a plane of the image, and the number of the frame if it is a multi-frame file."""
        entry = self.planes[plane]
        one_each = len(self.headers) == len(self.planes)
        header = self.headers[plane] if one_each else next(h for h in self.headers if h.SOPInstanceUID == entry.uid)
        return header, entry.frame if self.is_multi_frame else None

    def in_file_order(self, pixels: np.ndarray) -> np.ndarray:
        """Planes `(planes, rows, columns)` as the frames of the file, empty where the image does not use a frame."""
        if not self.is_multi_frame:
            return pixels
        frames = np.zeros((int(self.headers[0].get("NumberOfFrames") or 1), *pixels.shape[1:]), pixels.dtype)
        frames[[plane.frame - 1 for plane in self.planes]] = pixels
        return frames


def source_of(prediction: Prediction) -> Source:
    """The DICOM image that was predicted, without its voxels.

    Raises:
        ValueError: no DICOM image, headers without the UIDs that a reference needs, or slices that are not those of
            the predictions.
    """
    need_highdicom()
    import pydicom

    case, geometry = prediction.case, prediction.geometry
    place = prediction.image_files[0] if prediction.image_files else None
    if place is None or not (place.is_dir() or (place.is_file() and pydicom.misc.is_dicom(place))):
        problem = "none is named" if place is None else f"{place} is no DICOM file or folder"
        raise ValueError(
            f"case {case!r}: needs the DICOM series that it was predicted on, but {problem}; predict on a DICOM "
            "folder, or name the folder with --images"
        )
    series: dict[str, list[tuple[Dataset, list[Slice]]]] = {}
    for file in listing(place) if place.is_dir() else [place]:
        if not file.is_file() or not pydicom.misc.is_dicom(file):
            continue
        header = pydicom.dcmread(file, stop_before_pixels=True)
        if "Rows" not in header or header.get("Modality") == "SEG":
            continue
        frames = frames_of(header, file)
        needed = (*UIDS, "FrameOfReferenceUID") if frames[0].position is not None else UIDS
        if missing := [name for name in needed if not header.get(name)]:
            raise ValueError(
                f"{file}: {', '.join(missing)} is empty, so nothing can refer to this image; use the series as "
                "exported from the archive"
            )
        if not header.get("SpecificCharacterSet", "-"):
            del header.SpecificCharacterSet  # an empty value means the same, but highdicom refuses it
        _leave_behind(header)
        series.setdefault(str(header.SeriesInstanceUID), []).append((header, frames))
    fitting = [source for files in series.values() if (source := _fitting(files, geometry)) is not None]
    if fitting:
        return fitting[0]
    count = max((sum(len(frames) for _, frames in files) for files in series.values()), default=0)
    wanted = geometry.shape[0] if len(geometry.shape) == 3 else 1
    raise ValueError(
        f"{place}: {counted(count, 'slice is', 'slices are')} not the {wanted} of case {case!r}; "
        "name the series that it was predicted on"
    )


def _leave_behind(header: "Dataset") -> None:
    """Remove what objects made from the image would say of the person without need."""
    from pydicom.datadict import keyword_for_tag

    for tag in list(header.keys()):
        keyword = keyword_for_tag(tag)
        if keyword in LEFT or (tag.group in LEFT_GROUPS and keyword not in PERSON):
            del header[tag]


def _fitting(files: "list[tuple[Dataset, list[Slice]]]", geometry: Geometry) -> Source | None:
    """The files of a series as the source of an image of this geometry, unless they are others."""
    slices = [(header, entry) for header, frames in files for entry in frames]
    size = (int(files[0][0].Rows), int(files[0][0].Columns))
    if len(geometry.shape) == 2:
        flat = len(slices) == 1 and size == geometry.shape
        return Source([slices[0][0]], [slices[0][1]]) if flat else None
    if size != geometry.shape[1:] or any(entry.position is None for _, entry in slices):
        return None
    voxels = geometry.to_voxel(np.array([entry.position for _, entry in slices])) - 0.5
    planes = np.rint(voxels[:, 0]).astype(int)
    placed = (np.abs(voxels - np.stack([planes, 0 * planes, 0 * planes], axis=1)) <= 0.1).all(axis=1)
    chosen = {int(planes[row]): slices[row] for row in np.flatnonzero(placed)[::-1]}  # the first of copies
    several = any(len(frames) > 1 for _, frames in files)
    complete = set(range(geometry.shape[0])) <= set(chosen)
    if not complete or not (several or (placed.all() and len(chosen) == geometry.shape[0])):
        return None
    ordered = [chosen[plane] for plane in range(geometry.shape[0])]
    headers = {entry.uid: header for header, entry in ordered}
    return Source(list(headers.values()), [entry for _, entry in ordered])


def planes_of(box: np.ndarray, shape: tuple[int, ...]) -> range:
    """The planes of the image on which a box `(2, d)` is seen: plane 0 of a 2D image; none if it lies outside."""
    region = region_of(box, shape)
    if any(part.start == part.stop for part in region):
        return range(0)
    return range(region[0].start, region[0].stop) if len(shape) == 3 else range(1)


def rectangle(box: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A box on its planes, within the image: corners `(5, 2)` in order, the first also last.

    Columns and rows count from the corner of the first pixel, as DICOM counts them and as ours do.
    """
    return around(np.clip(box[:, -2:], 0, shape[-2:]))[:, ::-1]


def around(box: np.ndarray) -> np.ndarray:
    """The corners of a rectangle `(2, 2)` in order, the first also last."""
    (top, left), (bottom, right) = box
    return np.array([(top, left), (top, right), (bottom, right), (bottom, left), (top, left)])


def same_uid(*parts: Any) -> str:
    """A UID derived from what it identifies, so that the same export has the same UID."""
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=["boxel", *map(str, parts)]))


def object_uid(source: Source, box: np.ndarray, score: float, name: str) -> str:
    """The UID of a detection, the same in all files, by which programs find what belongs together."""
    return same_uid("object", source.series, box.tolist(), score, name)


def warn_of_none(case: str, kind: str, needed: str = "detection") -> None:
    """Warn that no file of this kind is written for a case."""
    warnings.warn(f"case {case!r}: no DICOM {kind} is written, which needs at least one {needed}", stacklevel=4)


def made_by() -> dict[str, Any]:
    """The manufacturer, model and versions for the header."""
    return {
        "manufacturer": "Boxel",
        "manufacturer_model_name": "Boxel",
        "software_versions": version("boxel"),
        "device_serial_number": "0",
    }


@contextmanager
def keep_patient_name() -> Iterator[None]:
    """Ignore the warning about unusual patient names: the name is copied from the series."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*unlikely to represent the intended person name")
        yield


def save(document: "Dataset", path: Path) -> None:
    """Write a DICOM file; it appears whole or not at all."""
    document.SpecificCharacterSet = "ISO_IR 192"  # UTF-8: class names may have any letter
    buffer = BytesIO()
    document.save_as(buffer, enforce_file_format=True)
    write_bytes(path, buffer.getvalue())
