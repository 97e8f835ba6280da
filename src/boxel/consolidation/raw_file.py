"""Raw predictions as files: every box of every view of one image, with what turns them into detections.

`PREDICTIONS/raw/CASE.npz` holds the columns of `RawDetections` as numpy arrays, and beside them one JSON text under the
name `record`. Nothing is pickled. The files of many cases are in subfolders (`boxel.output_folder`).
"""

import zipfile
import zlib
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, PositiveInt

from boxel.config import Config
from boxel.consolidation.config import ConsolidateConfig
from boxel.consolidation.merging import consolidate
from boxel.consolidation.views import RecordedViews
from boxel.files import write_bytes
from boxel.inputs.json_values import parse_json
from boxel.inputs.problems import InputError
from boxel.inputs.texts import read_head
from boxel.operating_points import OperatingPoints
from boxel.output_folder import list_files
from boxel.types import Detections, Geometry, RawDetections

VERSION = 4  # 1: without `views`; 2: without scales in them; 3: without operating points

_COLUMNS = {"boxes": "f", "scores": "f", "labels": "i", "views": "i", "tiles": "i", "weights": "f", "coverage": "f"}


@dataclass(frozen=True)
class RawPrediction:
    """Every box of every view of one image, before consolidation.

    Attributes:
        case: name of the image.
        raw: boxes in the voxels of the prepared image.
        shape: voxels per axis of the prepared image.
        geometry: of the original image, in whose voxels detections are reported.
        classes: class names, indexed by the labels.
        config: the settings of the run that predicted.
        image_files: what the image was read from.
        extra: anything else worth keeping with the result; JSON-ready.
        views: the mirrored views, scales and checkpoints that `raw.views` counts; None if they were not recorded.
        operating_points: of the run, with its calibration; None if it has none.
        warnings: what whoever reads the detections must know.
    """

    case: str
    raw: RawDetections
    shape: tuple[int, ...]
    geometry: Geometry
    classes: tuple[str, ...]
    config: ConsolidateConfig
    image_files: tuple[Path, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    views: RecordedViews | None = None
    operating_points: OperatingPoints | None = None
    warnings: tuple[str, ...] = ()

    def select(self, *, views: int | str | None = None, checkpoints: int | None = None) -> "RawPrediction":
        """The boxes of some views only: what would have been predicted with these alone.

        `raw.capped` still refers to all views.

        Args:
            views: the first so many mirrored views of each scale, or `"identity"`, `"plane"` or `"all"`; None keeps
                all.
            checkpoints: the best so many checkpoints of each run; None keeps all.

        Raises:
            ValueError: these views were not recorded.
        """
        if views is None and checkpoints is None:
            return self
        if self.views is None:
            raise ValueError(
                f"case {self.case!r}: the raw prediction does not say which view and checkpoint each box is from (an "
                "earlier Boxel wrote it); predict again into a new folder"
            )
        chosen, numbers = self.views.choose(views, checkpoints, len(self.shape) - self.raw.slice_axes)
        renumbered = np.full(self.raw.num_views, -1)
        renumbered[numbers] = np.arange(len(numbers))
        kept = renumbered[self.raw.views] >= 0
        raw = replace(self.raw[kept], views=renumbered[self.raw.views[kept]], num_views=len(numbers))
        return replace(self, raw=raw, views=chosen)

    def consolidate(self, config: ConsolidateConfig | None = None) -> Detections:
        """Detections in the voxels of the original image, with calibrated scores if the run has a calibration.

        Without `config`, by the settings of the run.
        """
        detections = consolidate(self.raw, config or self.config, geometry=self.geometry, shape=self.shape)
        return self.operating_points.calibrated(detections) if self.operating_points else detections


class _Record(Config):
    """The JSON text in a raw file."""

    format: Literal["boxel-raw"]
    version: int = Field(ge=1, le=VERSION)
    case: str
    classes: tuple[str, ...]
    images: tuple[str, ...]
    shape: tuple[PositiveInt, ...]
    geometry: Geometry
    num_views: int = Field(ge=1)
    slice_axes: int = Field(ge=0)
    views: RecordedViews | None = None
    capped: bool = False
    consolidate: ConsolidateConfig
    extra: dict[str, Any]
    operating_points: OperatingPoints | None = None
    warnings: tuple[str, ...] = ()


def write_raw(path: Path | str, prediction: RawPrediction) -> None:
    """Write a raw prediction as compressed numpy arrays; the file appears whole or not at all."""
    raw, views = prediction.raw, prediction.views
    more = [name for name in ("operating_points", "warnings") if getattr(prediction, name)]
    record = _Record(
        format="boxel-raw",
        version=VERSION if more else 2 if views is None or views.scales == (1.0,) else 3,
        case=prediction.case,
        classes=prediction.classes,
        images=tuple(map(str, prediction.image_files)),
        shape=prediction.shape,
        geometry=prediction.geometry,
        num_views=raw.num_views,
        slice_axes=raw.slice_axes,
        views=views,
        capped=raw.capped,
        consolidate=prediction.config,
        extra=prediction.extra,
        operating_points=prediction.operating_points,
        warnings=prediction.warnings,
    )
    columns = {name: np.asarray(getattr(raw, name)) for name in _COLUMNS}
    if raw.masks is not None:
        columns["masks"] = np.asarray(raw.masks)
    buffer = BytesIO()
    without = {"operating_points", "warnings"} - set(more)  # an earlier Boxel reads a file that has none
    text = record.model_dump_json(serialize_as_any=True, exclude=without)
    np.savez_compressed(buffer, record=np.array(text), **columns)  # type: ignore[arg-type]
    write_bytes(Path(path), buffer.getvalue())


def read_raw(path: Path | str) -> dict[str, RawPrediction]:
    """The raw predictions of each case, from one file, or from all files in the folder that `boxel predict` wrote.

    Raises:
        ValueError: no raw prediction there, or a file that is damaged or of another version; names the file.
    """
    predictions = map(read_raw_file, raw_files(path))
    return {prediction.case: prediction for prediction in predictions}


def raw_files(path: Path | str) -> list[Path]:
    """The raw files in a folder that `boxel predict` wrote, or in its folder `raw`; or the file itself.

    Raises:
        ValueError: nothing there, or not the raw file of each prediction beside it; names the folder or file.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; give the folder that `boxel predict` wrote")
    if path.is_file():
        return [path]
    folder = path / "raw" if (path / "raw").is_dir() else path
    files = list_files(folder, ".npz")
    if not files:
        raise ValueError(f"{path}: no raw predictions (raw/*.npz); give the folder that `boxel predict` wrote")
    cases = {file.stem for file in files}
    for other in list_files(folder.parent, ".json") if folder.name == "raw" else ():
        if other.stem not in cases and _is_prediction(other):
            raise ValueError(
                f"{folder / other.stem}.npz: missing, although {other.name} was predicted; predict this case again, or "
                f"remove {other}"
            )
    return files


def _is_prediction(path: Path) -> bool:
    return b'"boxel-detections"' in read_head(path, 1024)


def read_raw_file(path: Path) -> RawPrediction:
    """The raw prediction in one file.

    Raises:
        ValueError: not a raw prediction, damaged, or of another version; names the file.
    """
    arrays = _read_arrays(path)
    if "record" not in arrays:
        raise ValueError(
            f"{path}: does not say which image it belongs to (an early Boxel wrote it); predict again into a new folder"
        )
    try:
        values = parse_json(str(arrays.pop("record")), path)
    except InputError as error:
        raise InputError(path, f"damaged, its record is {error.problem}", "predict this case again") from None
    if isinstance(values, dict) and isinstance(version := values.get("version"), int) and version > VERSION:
        raise ValueError(f"{path}: version {version}, but this Boxel reads up to {VERSION}; update Boxel")
    record = _Record.from_dict(values, str(path))
    ndim = len(record.shape)
    masks = arrays.pop("masks", None)
    kinds = {name: array.dtype.kind for name, array in arrays.items()}
    fits = len(record.geometry.shape) == ndim and (masks is None or (masks.dtype.kind, masks.ndim) == ("f", 1 + ndim))
    if kinds != _COLUMNS or not fits or arrays["boxes"].shape[1:] != (2, ndim):
        raise ValueError(f"{path}: damaged, its arrays do not fit together; predict this case again")
    try:
        raw = RawDetections(
            **arrays, num_views=record.num_views, slice_axes=record.slice_axes, masks=masks, capped=record.capped
        )
    except ValueError as error:
        raise ValueError(f"{path}: damaged, {error}; predict this case again") from None
    numbers = (raw.boxes, raw.scores, raw.weights, raw.coverage)
    if not all(np.isfinite(column).all() for column in numbers) or ((raw.scores < 0) | (raw.scores > 1)).any():
        raise ValueError(f"{path}: damaged, its boxes must be finite and its scores in 0..1; predict this case again")
    if ((raw.labels < 0) | (raw.labels >= len(record.classes))).any():
        raise ValueError(f"{path}: damaged, a label is not one of {len(record.classes)} classes; predict again")
    views = record.views
    number = raw.num_views if views is None else views.number
    if number != raw.num_views or ((raw.views < 0) | (raw.views >= number)).any():
        raise ValueError(f"{path}: damaged, its views are not {raw.num_views}; predict this case again")
    files, points = tuple(map(Path, record.images)), record.operating_points
    return RawPrediction(
        record.case, raw, record.shape, record.geometry, record.classes, record.consolidate, files, record.extra, views,
        points, record.warnings,
    )  # fmt: skip


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return dict(file)
    except (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: not a raw prediction, or damaged ({error}); predict this case again") from None
