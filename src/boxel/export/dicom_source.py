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

# Of the class names, which no dictionary has: a private coding scheme (PS3.16, section 8.2).
SCHEME = "99BOXEL"
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID")


def need_highdicom() -> None:
    """Raises ValueError where the optional libraries are not installed."""
    if importlib.util.find_spec("highdicom") is None:
        raise ValueError("DICOM reports and segmentations need the libraries of pip install 'boxel[dicom]'")


def source_series(prediction: Prediction) -> "list[Dataset]":
    """The headers of the series that the image was read from, in the order of the image's planes.

    Raises:
        ValueError: no DICOM folder, headers without the UIDs by which they are referred to, or slices that are not
            those of the predictions.
    """
    need_highdicom()
    import pydicom

    case, geometry = prediction.case, prediction.geometry
    folder = prediction.image_files[0] if prediction.image_files else None
    if folder is None or not folder.is_dir():
        found = "none is named" if folder is None else f"{folder} is no folder"
        raise ValueError(
            f"case {case!r}: needs the DICOM series that it was predicted on, and {found}; predict on a DICOM folder, "
            "or give the folder with --images"
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
                f"{file}: {', '.join(missing)} is empty, so nothing can refer to this image; take the series as it "
                "came from the archive"
            )
        if not header.get("SpecificCharacterSet", "-"):
            del header.SpecificCharacterSet  # empty says the same and is not understood
        headers.append(header)
    positions = geometry.to_voxel(np.array([header.ImagePositionPatient for header in headers], float).reshape(-1, 3))
    expected = np.full((len(headers), len(geometry.shape)), 0.5)
    expected[:, 0] += np.arange(len(headers))
    order = np.argsort(positions[:, 0])
    if len(headers) != geometry.shape[0] or not np.allclose(positions[order], expected, atol=0.1):
        raise ValueError(
            f"{folder}: {len(headers)} slices that are not the {geometry.shape[0]} of case {case!r}; give the series "
            "that it was predicted on"
        )
    return [headers[position] for position in order]


def same_uid(*parts: Any) -> str:
    """A UID from what it identifies, so that the same export has the same one."""
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=["boxel", *map(str, parts)]))


def made_by() -> dict[str, Any]:
    """Manufacturer, model and versions for the header."""
    return {
        "manufacturer": "Boxel",
        "manufacturer_model_name": "Boxel",
        "software_versions": version("boxel"),
        "device_serial_number": "0",
    }


@contextmanager
def patient_as_it_is() -> Iterator[None]:
    """The patient's name is copied from the series; that it looks unusual is no news."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*unlikely to represent the intended person name")
        yield


def save(document: "Dataset", path: Path) -> None:
    """Write a DICOM file; it appears whole or not at all."""
    document.SpecificCharacterSet = "ISO_IR 192"  # UTF-8: class names may have any letter
    buffer = BytesIO()
    document.save_as(buffer, enforce_file_format=True)
    write_bytes(path, buffer.getvalue())
