"""Multi-frame DICOM: position, spacing and rescaling of every frame come from its functional groups.

pydicom reads the headers and voxels; GDCM, which takes the geometry of the first frames for that of all, only decodes
compressed voxels for which pydicom has no decoder.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from boxel.io.apart import apart, now_reading
from boxel.io.claims import LOSSLESS, check_claim
from boxel.io.dicom_stack import Slice, stack
from boxel.types import Image

__all__ = ["attribute_of", "choose_frames", "frames_of", "pydicom_module", "read_frames", "read_pixels"]

PLACES = ("PlanePositionSequence", "PlanePositionVolumeSequence")
TURNS = ("PlaneOrientationSequence", "PlaneOrientationVolumeSequence")
# Frames that differ in these are different images, most telling first; then any other attribute that separates them.
STACKS = ("StackID", "TemporalPositionIndex", "EffectiveEchoTime", "DiffusionBValue", "ComplexImageComponent",
          "NominalPercentageOfCardiacPhase", "ConvolutionKernel", "FrameType")  # fmt: skip


def pydicom_module() -> Any:
    """The module `pydicom`, configured not to warn about invalid header values.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise ValueError("multi-frame DICOM and annotations need pydicom; pip install 'boxel[dicom]'") from None
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    return pydicom


def read_frames(files: Sequence[Path], path: Path, upright: bool = False, chosen: Sequence[str] = ()) -> Image:
    """The volume of all frames in the files of one series, float32, rescaled frame by frame.

    Args:
        files: multi-frame files, or single frames of the same series.
        path: named in messages.
        upright: see `read_series`.
        chosen: see `choose_frames`.

    Raises:
        ValueError: the frames do not form one regular volume; names the frames, and the attribute that separates them.
    """
    slices: list[Slice] = []
    values: dict[tuple[Path, int], np.ndarray] = {}
    headers = {}
    for file in files:
        now_reading(file)
        headers[file] = pydicom_module().dcmread(file)
        slices += frames_of(headers[file], file)
    slices, remarks = _positioned(choose_frames(slices, headers, path, chosen), headers, path)
    for file, header in headers.items():
        now_reading(file)
        wanted = [entry.frame for entry in slices if entry.file == file]
        if wanted:
            values |= {(file, frame): plane for frame, plane in _rescaled(header, file, wanted)}
    image = stack(slices, lambda entry: values[entry.file, entry.frame], path, upright)
    return replace(image, remarks=(*remarks, *image.remarks))


def read_pixels(data: Any, file: Path) -> np.ndarray:
    """The stored voxels of a DICOM file that was opened; foreign decoders run in a process of their own.

    Raises:
        RuntimeError, ValueError: they are damaged, or there is no decoder.
    """
    array: np.ndarray = (
        apart(file, _pixels, file) if data.file_meta.TransferSyntaxUID.is_compressed else data.pixel_array
    )
    return array


def _pixels(file: Path) -> np.ndarray:
    data = pydicom_module().dcmread(file)
    values = int(data.Rows) * int(data.Columns) * int(data.get("NumberOfFrames") or 1) * int(data.SamplesPerPixel)
    check_claim(file, values * -(-int(data.BitsAllocated) // 8), file.stat().st_size, LOSSLESS)
    array: np.ndarray = data.pixel_array
    return array


def frames_of(header: Any, file: Path) -> list[Slice]:
    """The frames of a DICOM image in the order of its voxels; one for a file with one plane.

    Raises:
        ValueError: the header describes another number of frames than it claims.
    """
    count = int(header.get("NumberOfFrames") or 1)
    groups = header.get("PerFrameFunctionalGroupsSequence") or [{}] * count
    if len(groups) != count:
        problem = f"has {count} frames but {len(groups)} functional groups"
        raise ValueError(f"{file}: {problem}; copy or export it again")
    detector = (header.get("DetectorInformationSequence") or [{}])[0]  # nuclear medicine
    slices = []
    for frame, group in enumerate(groups, start=1):
        position = attribute_of(header, group, PLACES, ("ImagePositionPatient", "ImagePositionVolume"), detector)
        axes = attribute_of(header, group, TURNS, ("ImageOrientationPatient", "ImageOrientationVolume"), detector)
        spacing = attribute_of(header, group, ("PixelMeasuresSequence",), ("PixelSpacing", "ImagerPixelSpacing"), {})
        thickness = attribute_of(
            header, group, ("PixelMeasuresSequence",), ("SpacingBetweenSlices", "SliceThickness"), {}
        )
        rows, columns = (1.0, 1.0) if spacing is None else map(float, spacing)
        slices.append(
            Slice(
                file,
                None if position is None else np.array(position, float),
                None if axes is None else np.array(axes, float).reshape(2, 3),
                (rows, columns),
                thickness=abs(float(thickness or 1)),
                frame=frame,
                uid=str(header.get("SOPInstanceUID", "")),
            )
        )
    return slices if "PerFrameFunctionalGroupsSequence" in header else _offset(slices, header)


def attribute_of(header: Any, group: Any, sequences: Sequence[str], names: Sequence[str], other: Any) -> Any:
    """The value for one frame: its own, else the shared, else that of the whole file; None if there is none."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    inside = [(part.get(sequence) or [{}])[0] for part in (group, shared) for sequence in sequences]
    values = (place.get(name) for place in (*inside, header, other) for name in names)
    return next((value for value in values if value is not None and value != ""), None)


def _offset(slices: list[Slice], header: Any) -> list[Slice]:
    """Frames without functional groups, which share one position: shifted along the normal as the header says."""
    first = slices[0]
    offsets = header.get("GridFrameOffsetVector")  # of doses
    step = float(header.get("SpacingBetweenSlices") or 0)
    if offsets is None and step:
        offsets = np.arange(len(slices)) * step
    if len(slices) == 1 or first.position is None or first.axes is None or offsets is None:
        return [entry._replace(position=first.position if len(slices) == 1 else None) for entry in slices]
    shifts = (np.array(offsets, float) - offsets[0])[:, None] * np.cross(*first.axes)
    return [entry._replace(position=first.position + shift) for entry, shift in zip(slices, shifts, strict=True)]


def _positioned(slices: list[Slice], headers: dict[Path, Any], path: Path) -> tuple[list[Slice], tuple[str, ...]]:
    """Frames without any position lie in file order if the header says their distance; a remark says so."""
    if any(entry.position is not None for entry in slices):
        return slices, ()
    header = headers[slices[0].file]
    groups = header.get("PerFrameFunctionalGroupsSequence") or [{}]
    step = attribute_of(header, groups[0], ("PixelMeasuresSequence",), ("SpacingBetweenSlices",), {})
    if len(headers) > 1 or not step:
        raise ValueError(
            f"{path}: its {len(slices)} frames have no positions (a film?), so they are no volume; save the frames as "
            "single images, or export it with ImagePositionPatient"
        )
    axes = np.eye(3)[:2] if slices[0].axes is None else slices[0].axes
    normal, step = np.cross(*axes), abs(float(step))
    remark = f"the frames have no positions and are taken in file order, {step:g} mm apart (SpacingBetweenSlices)"
    return [entry._replace(position=k * step * normal, axes=axes) for k, entry in enumerate(slices)], (remark,)


def choose_frames(slices: list[Slice], headers: dict[Path, Any], path: Path, chosen: Sequence[str] = ()) -> list[Slice]:
    """The frames of one stack.

    Args:
        slices: frames of files with these `headers`.
        path: named in messages.
        chosen: `NAME=VALUE`, an attribute of the functional groups and the value of the frames to take.

    Raises:
        ValueError: the frames form several stacks; names the attribute, its values and how to choose one.
    """
    attributes = {
        (file, frame): values
        for file, header in headers.items()
        for frame, values in enumerate(_attributes(header), start=1)
    }
    for choice in chosen:
        name, _, value = choice.partition("=")
        known = [attributes[entry.file, entry.frame].get(name) for entry in slices]
        slices = [entry for entry, own in zip(slices, known, strict=True) if _equal(own, value)]
        if not slices:
            values = _ascending(known)
            fix = f"use one of {', '.join(values[:8])}" if values else "no frame has this attribute"
            raise ValueError(f"{path}: no frame has {choice}; {fix}")
    _check_stack(slices, [attributes[entry.file, entry.frame] for entry in slices], path)
    return slices


def _attributes(header: Any) -> list[dict[str, str]]:
    """The attributes in the functional groups of every frame, as text."""
    groups = header.get("PerFrameFunctionalGroupsSequence") or [{}] * int(header.get("NumberOfFrames") or 1)
    return [dict(_leaves(group)) for group in groups]


def _leaves(item: Any) -> Iterator[tuple[str, str]]:
    for element in item or ():
        if element.VR == "SQ":
            for part in element.value:
                yield from _leaves(part)
        elif element.keyword:
            several = element.VM > 1
            yield element.keyword, "\\".join(map(str, element.value)) if several else str(element.value)


def _equal(known: str | None, wanted: str) -> bool:
    try:
        return known is not None and (known == wanted or float(known) == float(wanted))
    except ValueError:
        return False


def _ascending(values: Iterable[str | None]) -> list[str]:
    """The different values, numbers by size."""
    distinct = sorted({value for value in values if value is not None})
    try:
        return sorted(distinct, key=float)
    except ValueError:
        return distinct


def _check_stack(slices: list[Slice], attributes: list[dict[str, str]], path: Path) -> None:
    """Raise ValueError if frames belong to several stacks, or lie at one position and differ in what they show."""
    places = [
        () if entry.position is None or entry.axes is None
        else tuple(np.round([*entry.position, *entry.axes.ravel()], 3).tolist())
        for entry in slices
    ]  # fmt: skip
    most = max(Counter(places).values()) if all(places) else 1
    others = sorted(set().union(*attributes)) if most > 1 else []
    for name in dict.fromkeys([*STACKS, *others] if most > 1 else ["StackID"]):
        values = [each.get(name, "none") for each in attributes]
        distinct = _ascending(values)
        separated = max(Counter(zip(values, places, strict=True)).values()) == 1
        if len(distinct) > 1 and (name == "StackID" or (separated and len(distinct) <= most)):
            either = f"{', '.join(distinct[:8])}{' ...' if distinct[8:] else ''}"
            raise ValueError(
                f"{path}: its frames form {len(distinct)} images that differ in {name} ({either}); choose one with "
                f"--option frames={name}={distinct[0]}, or export each as a series of its own"
            )


def _rescaled(header: Any, file: Path, wanted: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Frame numbers with their voxels in real-world values; MONOCHROME1 is inverted."""
    stored = _stored(header, file)
    groups = header.get("PerFrameFunctionalGroupsSequence") or [{}] * len(stored)
    for frame in wanted:
        plane = stored[frame - 1].astype(np.float64)
        if header.get("PhotometricInterpretation") == "MONOCHROME1":
            signed = int(header.get("PixelRepresentation", 0))
            plane = (-1 if signed else 2 ** int(header.BitsStored) - 1) - plane  # lowest plus highest stored value
        slope, intercept = (
            attribute_of(header, groups[frame - 1], ("PixelValueTransformationSequence",), (name,), {})
            for name in ("RescaleSlope", "RescaleIntercept")
        )
        yield (
            frame,
            (plane * float(1 if slope is None else slope) + float(0 if intercept is None else intercept)).astype(
                np.float32
            ),
        )


def _stored(header: Any, file: Path) -> np.ndarray:
    """The voxels `(frames, rows, columns)` as they are stored."""
    if int(header.get("SamplesPerPixel", 1)) != 1:
        raise ValueError(f"{file}: colour frames are no volume; save them as single pictures")
    try:
        array = header.pixel_array
    except Exception:  # no decoder for this compression, or damaged
        array = _by_gdcm(header)
    return np.asarray(array).reshape(-1, header.Rows, header.Columns)


def _by_gdcm(header: Any) -> np.ndarray:
    """Decode with GDCM a copy without the functional groups, which it would apply wrongly."""
    import SimpleITK as sitk

    pydicom = pydicom_module()
    plain = pydicom.Dataset()
    plain.file_meta = header.file_meta
    for element in header.group_dataset(0x0028):
        if not element.keyword.startswith("Rescale"):
            plain.add(element)
    plain.PhotometricInterpretation = "MONOCHROME2"
    plain.SOPClassUID, plain.SOPInstanceUID = pydicom.uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage, "1.2.3"
    plain["PixelData"] = header["PixelData"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "frames.dcm")
        plain.save_as(file, enforce_file_format=True)
        array: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(file), imageIO="GDCMImageIO"))
    return array
