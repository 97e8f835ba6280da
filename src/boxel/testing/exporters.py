"""A check for export formats: what is written is read back."""

import locale
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from boxel.export import DatasetInfo, Format, Prediction, get_format
from boxel.io import read_geometry, write_image
from boxel.types import Detections, Geometry, Image

SHAPE = (10, 24, 30)
CLASSES = ("Läsion", "结节", "lymph node")
# Per case: position in mm is exact to a tenth of a voxel where a format states none.
BOXES = (
    [[1.25, 2.5, 3.375], [3.75, 9.125, 8.5]],
    [[5.5, 12.25, 14.0], [6.75, 22.5, 16.375]],
    [[7.875, 1.0, 20.25], [9.125, 4.5, 29.125]],
)
CASES = {"Fall 7.ä": (0, 1, 2), "case_seg_boxes": (1, 0), "nothing": ()}
UNFIT_CASES = ("../up", "a/b", "..", "")


def check_exporter(name: str | Format) -> None:
    """Check that an export format reads back what it wrote, for each number of axes that it supports.

    The predictions have several cases, one of them without detections, classes with names outside ASCII, and boxes
    with fractions of a voxel on an oblique grid; in 3D the images are DICOM series. Boxes, scores and classes must be
    read back, boxes within the format's tolerance; a case may only be left out with a warning that names it. The
    format must detect its files, and must refuse or survive case names that are no file names. A format that is only
    written must write files into the folder it is given, and no others.

    Args:
        name: a registered name, or the format itself.

    Raises:
        AssertionError: says what was lost.
        ValueError: the format is unknown, or is only read.

    Example:
        >>> from boxel.testing import check_exporter
        >>> check_exporter("csv")
    """
    form = get_format(name) if isinstance(name, str) else name
    _ = form.writer
    for ndim in form.ndims:
        with tempfile.TemporaryDirectory() as folder:
            _check_round_trip(form, ndim, Path(folder))
            _check_case_names(form, ndim, Path(folder))


def _check_round_trip(form: Format, ndim: int, folder: Path) -> None:
    predictions = list(_predictions(ndim, folder / "images"))
    out = folder / "out"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        written = form.writer(out, predictions)
    said = " ".join(str(warning.message) for warning in caught)
    _require(bool(written), form, ndim, "wrote no file")
    strays = sorted(set(written) ^ {path for path in out.rglob("*") if path.is_file()})
    _require(not strays, form, ndim, f"{', '.join(map(str, strays))}: must be written, listed and lie in {out}")
    if form.detect is not None:
        _require(form.detect(out), form, ndim, "does not detect the folder that it wrote")
        _require(not form.detect(folder / "images"), form, ndim, "detects a folder of images")
    if form.read is None:
        return
    geometries = {p.case: p.geometry for p in predictions}
    for classes in (CLASSES, ()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = {p.case: p for p in form.read(out, DatasetInfo(classes, geometries))}
        for expected in predictions:
            where = f"case {expected.case!r}"
            if expected.case not in read:
                _require(repr(expected.case) in said, form, ndim, f"{where} is lost without a warning")
                continue
            problem = _difference(read[expected.case], expected, form)
            _require(not problem, form, ndim, f"{where}: {problem}")
        unknown = sorted(read.keys() - geometries.keys())
        _require(not unknown, form, ndim, f"read cases that were not written: {unknown}")
        in_order = all(prediction.classes == CLASSES for prediction in read.values())
        _require(in_order or not classes, form, ndim, "does not keep the order of the classes that it is given")


def _difference(read: Prediction, expected: Prediction, form: Format) -> str:
    """What differs, or nothing."""
    got, wanted = (prediction.detections for prediction in (read, expected))
    if got.boxes.shape != wanted.boxes.shape:
        return f"boxes have shape {got.boxes.shape}, not {wanted.boxes.shape}"
    got, wanted = got[np.argsort(-got.scores)], wanted[np.argsort(-wanted.scores)]
    if not np.allclose(got.scores, wanted.scores, rtol=0, atol=1e-5):
        return f"scores are {got.scores}, not {wanted.scores}"
    names, right = ([prediction.classes[label] for label in rows.labels]
                    for prediction, rows in ((read, got), (expected, wanted)))  # fmt: skip
    if names != right:
        return f"classes are {names}, not {right}"
    boxes = _flattened(wanted.boxes) if form.flat else wanted.boxes
    shift = np.abs(got.boxes - boxes).max(initial=0)
    if shift > form.tolerance:
        return f"boxes move by {shift:.3g} voxels, more than the format's tolerance of {form.tolerance:g}"
    if got.geometry is not None and wanted.geometry is not None:
        points = np.array([np.zeros(len(wanted.geometry.shape)), wanted.geometry.shape])
        away = np.abs(got.geometry.to_world(points) - wanted.geometry.to_world(points)).max()
        if got.geometry.shape != wanted.geometry.shape or away > 1e-2:
            return f"the geometry is {got.geometry}, not {wanted.geometry}"
    return ""


def _flattened(boxes: np.ndarray) -> np.ndarray:
    """Boxes with one voxel around their centre along all axes but the last two."""
    flat, leading = boxes.copy(), boxes.shape[-1] - 2
    flat[..., :leading] = boxes[..., :leading].mean(axis=1, keepdims=True) + np.array([[-0.5], [0.5]])
    return flat


def _check_case_names(form: Format, ndim: int, folder: Path) -> None:
    prediction = next(_predictions(ndim, folder / "source"))
    geometries = dict.fromkeys(UNFIT_CASES, prediction.geometry)
    before = set(folder.rglob("*"))
    for case in UNFIT_CASES:
        out = folder / "unfit"
        try:
            form.writer(out, [replace(prediction, case=case)])
        except ValueError:
            pass
        else:
            read = form.read(out, DatasetInfo(CLASSES, geometries)) if form.read is not None else []
            kept = form.read is None or [p.case for p in read] == [case]
            _require(kept, form, ndim, f"case name {case!r} is neither refused nor kept")
        outside = sorted(path for path in set(folder.rglob("*")) - before if not path.is_relative_to(out))
        _require(not outside, form, ndim, f"case name {case!r} leads out of the folder: {outside}")


def _predictions(ndim: int, folder: Path) -> Iterator[Prediction]:
    rng = np.random.default_rng(0)
    scores = rng.permutation([0.921875, 0.5, 0.0625]).astype(np.float32)
    for case, labels in CASES.items():
        write = _write_series if SHAPE[-ndim:] == SHAPE else _write_picture
        image = write(folder / case)
        boxes = np.array(BOXES, np.float32)[: len(labels), :, -ndim:]
        detections: Detections = Detections(
            boxes, scores[: len(labels)], np.array(labels, np.int64), read_geometry(image)
        )
        yield Prediction(case, detections, CLASSES, (image,))


def _write_picture(path: Path) -> Path:
    path = path.with_name(f"{path.name}.nii.gz")
    direction = ((-0.28, 0.96), (0.96, 0.28))
    geometry = Geometry(SHAPE[-2:], (0.75, 1.5), (-50.0, 20.0), direction)
    write_image(path, Image(np.zeros((1, *geometry.shape), np.float32), geometry))
    return path


def _write_series(folder: Path) -> Path:
    """An oblique CT series."""
    import SimpleITK as sitk

    folder.mkdir(parents=True)
    row, column = np.array([0.8, 0.6, 0.0]), np.array([-0.36, 0.48, 0.8])
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    root = f"2.25.{zlib.crc32(folder.name.encode())}"
    before = locale.setlocale(locale.LC_ALL)
    for number in range(SHAPE[0]):
        picture = sitk.Image(SHAPE[2], SHAPE[1], sitk.sitkInt16)
        picture.SetSpacing((1.5, 0.75))
        position = np.array([-50.0, 20.0, 300.0]) + 2.5 * number * np.cross(row, column)
        for tag, value in {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{root}.{number + 1}",
            "0008|0060": "CT",
            "0010|0010": "A^B",
            "0010|0020": "7",
            "0018|0050": "2.5",
            "0020|000d": f"{root}.1000",
            "0020|000e": f"{root}.1001",
            "0020|0052": f"{root}.1002",
            "0020|0013": str(number + 1),
            "0020|0032": _joined(position),
            "0020|0037": _joined([*row, *column]),
        }.items():
            picture.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{number:02}.dcm"))
        writer.Execute(picture)
    locale.setlocale(locale.LC_ALL, before)  # GDCM sets the whole process to "C" when it writes tags
    return folder


def _joined(values: Sequence[float] | np.ndarray) -> str:
    return "\\".join(f"{value:.6f}" for value in values)


def _require(condition: bool, form: Format, ndim: int, what: str) -> None:
    if not condition:
        raise AssertionError(f"format {form.name!r}, {ndim}D: {what}")
