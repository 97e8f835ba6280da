"""The formats that predictions are written in and read from, registered under a name.

A writer takes a folder and the predictions of a data set and returns the files it wrote. A reader takes what its
writer wrote (or another tool did) and returns the detections of each case and the class names, as
`boxel_json.read_folder` does; it may need the class list and, where the format knows no voxel grid, the geometries.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from boxel.config import did_you_mean
from boxel.plugins import Registry
from boxel.types import Detections, Geometry

Predictions = tuple[dict[str, Detections], tuple[str, ...]]
"""The detections of each case, and the class names."""


@dataclass(frozen=True)
class Prediction:
    """The detections of one case.

    Attributes:
        case: its name.
        detections: in the voxels of the original image.
        classes: class names, indexed by the labels.
        image_files: what the image was read from: files, or the folder of a DICOM series.
    """

    case: str
    detections: Detections
    classes: tuple[str, ...]
    image_files: tuple[Path, ...] = ()

    @property
    def geometry(self) -> Geometry:
        """Of the image.

        Raises:
            ValueError: it is not known.
        """
        if self.detections.geometry is None:
            raise ValueError(
                f"case {self.case!r}: the predictions do not say where the image lies in the world, which this format "
                "needs; give the images with --images"
            )
        return self.detections.geometry

    @property
    def ranking(self) -> Iterator[tuple[int, np.ndarray, float, str]]:
        """Position, box `(2, d)` float64, score and class name of each detection, by falling score."""
        found = self.detections
        for row in np.argsort(-np.asarray(found.scores), kind="stable").tolist():
            yield (
                row,
                np.asarray(found.boxes[row], np.float64),
                float(found.scores[row]),
                self.classes[int(found.labels[row])],
            )


class Format(NamedTuple):
    """How predictions are written and read."""

    write: Callable[[Path, Sequence[Prediction]], list[Path]]
    read: Callable[[Path, Sequence[str], Mapping[str, Geometry]], Predictions] | None


_formats: Registry[Format] = Registry("export format")


def register_export(
    name: str,
    write: Callable[[Path, Sequence[Prediction]], list[Path]],
    read: Callable[[Path, Sequence[str], Mapping[str, Geometry]], Predictions] | None = None,
) -> None:
    """Add a format for `boxel predict --to NAME` and `boxel convert --to NAME`.

    Args:
        name: of the format.
        write: gets the folder to write into and the predictions; returns the files written.
        read: gets what was written, the class names (empty: those found in the file) and the geometry of each
            case (where the format needs them); None if nothing can be read back.
    """
    _formats[name] = Format(write, read)


def get_format(name: str) -> Format:
    """The format of that name.

    Raises:
        ValueError: unknown; names the likely one.
    """
    if name not in _formats:
        raise ValueError(f"unknown format {name!r}{did_you_mean(name, _formats)}")
    return _formats[name]


def list_formats() -> dict[str, Format]:
    """Every format by its name."""
    return dict(_formats)


def case_file(out: Path, case: str, suffix: str) -> Path:
    """`out/CASE + suffix`.

    Raises:
        ValueError: a case name that would lead out of the folder.
    """
    if case in ("", ".", "..") or case != Path(case).name:
        raise ValueError(f"case {case!r}: cannot be the name of a file in {out}; rename the case")
    return Path(out) / f"{case}{suffix}"


def collect(
    path: Path,
    cases: Mapping[str, Sequence[tuple[np.ndarray, float, str]]],
    classes: Sequence[str],
    geometries: Mapping[str, Geometry | None],
    ndim: int = 3,
) -> Predictions:
    """Detections of each case from its `(box, score, class name)` entries.

    Args:
        path: where they were read from, for messages.
        cases: the entries of each case, none for a case without detections.
        classes: class names in the order of the labels; empty: those of the entries, in order of appearance.
        geometries: of each case, where known.
        ndim: axes of an empty set where no geometry tells.

    Raises:
        ValueError: a class that is not in `classes`, an inverted or infinite box, a score outside 0..1.
    """
    names = list(classes) or list(dict.fromkeys(name for entries in cases.values() for *_, name in entries))
    found = {}
    for case, entries in cases.items():
        for box, score, name in entries:
            if name not in names:
                raise ValueError(f"{path}: case {case!r} has a detection of class {name!r}{did_you_mean(name, names)}")
            if not (np.isfinite(box).all() and (box[0] <= box[1]).all()):
                raise ValueError(f"{path}: case {case!r}: every box must be finite with lower <= upper")
            if not 0 <= score <= 1:
                raise ValueError(f"{path}: case {case!r}: score {score} is outside 0..1")
        geometry = geometries.get(case)
        rank = entries[0][0].shape[-1] if entries else len(geometry.shape) if geometry else ndim
        found[case] = Detections(
            np.array([box for box, *_ in entries], np.float32).reshape(-1, 2, rank),
            np.array([score for _, score, _ in entries], np.float32),
            np.array([names.index(name) for *_, name in entries], np.int64),
            geometry,
        )
    return found, tuple(names)


def row_of(box: Any, convention: str) -> list[float]:
    """A box `(2, d)` as a row of another tool's convention, see `boxel.ops.convert`."""
    from boxel.ops import convert

    return [round(float(value), 4) for value in convert(box[None], "boxel", convention)[0]]


def box_of(row: Any, convention: str) -> np.ndarray:
    """The box `(2, d)` that another tool wrote as a row of numbers."""
    from boxel.ops import convert

    values: Any = np.array([row], np.float64)
    return np.asarray(convert(values, convention, "boxel"))[0]
