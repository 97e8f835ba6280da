"""One prepared case on disk.

`cases/ID.b2nd` is the image, `cases/ID.labels.b2nd` the label map, `cases/ID.json` everything else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from boxel.config import Config
from boxel.inputs.problems import InputError
from boxel.inputs.signatures import Signature
from boxel.types import Geometry, Instances

VERSION = 3
Corners = tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]


class CaseFile(Config):
    """`cases/ID.json`: `CaseMeta` as plain values, and the files from which the case was prepared.

    Attributes:
        scales: per channel the value of level 0 and the step between levels (see `boxel.preparation.quantise`); empty
            if the array contains the values themselves.
        source: the signature of each source file.
        arrays: per array file its number of bytes and content hash.
        key: hash of everything else that the stored case depends on.
    """

    id: str
    group: str
    split: str
    files: tuple[str, ...]
    shape: tuple[PositiveInt, ...]
    scales: tuple[tuple[float, float], ...]
    fill: float
    original: Geometry
    labels: tuple[NonNegativeInt, ...]
    ids: tuple[NonNegativeInt, ...]
    boxes: Corners
    ignored: Corners
    has_mask: tuple[bool, ...]
    original_boxes: Corners
    original_has_mask: tuple[bool, ...]
    source: dict[str, Signature]
    arrays: dict[str, tuple[int, str]]
    key: str


@dataclass(frozen=True)
class CaseMeta:
    """A prepared case, without its arrays.

    Attributes:
        shape: voxels of the stored image, per axis.
        scales: how the stored levels become values, see `CaseFile`.
        fill: value outside the image: its minimum.
        original: geometry of the image file.
        instances: objects in stored voxels. An object whose mask is lost by resampling keeps its box.
        original_instances: the same objects, in the same order, in voxels of the image file.
        ignored: `(k, 2, d)` float32, ignored objects in stored voxels, excluded from training.
        files: the image file of each channel.
    """

    id: str
    group: str
    split: str
    shape: tuple[int, ...]
    scales: tuple[tuple[float, float], ...]
    fill: float
    original: Geometry
    instances: Instances
    original_instances: Instances
    ignored: np.ndarray
    files: tuple[str, ...]

    @classmethod
    def load(cls, path: Path) -> Self:
        file = CaseFile.load(path)

        def corners(boxes: Corners) -> np.ndarray:
            return np.array(boxes, np.float32).reshape(-1, 2, len(file.shape))

        def instances(boxes: Corners, has_mask: Sequence[bool]) -> Instances:
            return Instances(
                corners(boxes),
                np.array(file.labels, np.int64),
                np.array(file.ids, np.int64),
                np.array(has_mask, bool),
            )

        plain = ("id", "group", "split", "shape", "scales", "fill", "original", "files")
        try:
            return cls(
                **{name: getattr(file, name) for name in plain},
                instances=instances(file.boxes, file.has_mask),
                original_instances=instances(file.original_boxes, file.original_has_mask),
                ignored=corners(file.ignored),
            )
        except ValueError as error:
            raise InputError(path, f"its boxes do not fit together ({error})", "prepare again") from None


def meta_file(root: Path, case_id: str) -> Path:
    return root / "cases" / f"{case_id}.json"


def array_files(root: Path, case_id: str) -> tuple[Path, Path]:
    return root / "cases" / f"{case_id}.b2nd", root / "cases" / f"{case_id}.labels.b2nd"
