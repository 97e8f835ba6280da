"""The DICOM series that predictions were made on: what reports and segmentations refer to."""

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boxel.config import write_bytes
from boxel.export.prediction import Prediction

if TYPE_CHECKING:
    from pydicom import Dataset

# A private coding scheme for the class names, which no dictionary has (PS3.16, section 8.2).
SCHEME = "99BOXEL"
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID")


def need_highdicom() -> None:
    """Raise ValueError if the optional libraries are not installed."""
    if importlib.util.find_spec("highdicom") is None:
        raise ValueError("DICOM reports and segmentations need the libraries of pip install 'boxel[dicom]'")


def source_series(prediction: Prediction) -> "list[Dataset]":
    """The headers of the series that the image was read from, in the order of the image's planes.

    Raises:
        ValueError: no DICOM folder, headers without the UIDs that a reference needs, or slices that are not those of
            the predictions.
    """
    need_highdicom()
    import pydicom

    case, geometry = prediction.case, prediction.geometry
    folder = prediction.image_files[0] if prediction.image_files else None
    if folder is None or not folder.is_dir():
        problem = "none is named" if folder is None else f"{folder} is no folder"
        raise ValueError(
            f"case {case!r}: needs the DICOM series that it was predicted on, but {problem}; predict on a DICOM "
            "folder, or name the folder with --images"
        )
    headers = []
    for file in sorted(folder.iterdir()):
        if not file.is_file() or not pydicom.misc.is_dicom(file):
            continue
        header = pydicom.dcmread(file, stop_before_pixels=True)
        if "ImagePositionPatient" not in header:
            continue
        if missing := [name for name in UIDS if not header.get(name)]:
            raise ValueError(
                f"{file}: {', '.join(missing)} is empty, so nothing can refer to this image; use the series as "
                "exported from the archive"
            )
        if not header.get("SpecificCharacterSet", "-"):
            del header.SpecificCharacterSet  # an empty value means the same, but highdicom refuses it
        headers.append(header)
    positions = geometry.to_voxel(np.array([header.ImagePositionPatient for header in headers], float).reshape(-1, 3))
    expected = np.full((len(headers), len(geometry.shape)), 0.5)
    expected[:, 0] += np.arange(len(headers))
    order = np.argsort(positions[:, 0])
    if len(headers) != geometry.shape[0] or not np.allclose(positions[order], expected, atol=0.1):
        raise ValueError(
            f"{folder}: {len(headers)} slices that are not the {geometry.shape[0]} of case {case!r}; name the "
            "series that it was predicted on"
        )
    return [headers[position] for position in order]


def same_uid(*parts: Any) -> str:
    """A UID derived from what it identifies, so that the same export has the same UID."""
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=["boxel", *map(str, parts)]))


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
