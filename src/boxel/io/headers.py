"""What a header says about an image, and how its numbers, lengths and axes are understood."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boxel.io.grids import UNIT, UNKNOWN_SPACING, right_angled
from boxel.io.voxels import Part, read_voxels
from boxel.types import Geometry, Image

__all__ = ["LONGEST", "Header", "counts", "numbers", "on_grid", "read_lines"]

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf)", re.IGNORECASE)
LINES, LONGEST = 10_000, 1 << 16  # more is no header
UNITS = {  # mm per unit, by all names in use
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "\ufffdm", "micron", "micrometer", "micrometre"), 1e-3),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-6),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 10.0),
    **dict.fromkeys(("m", "meter", "metre"), 1e3),
}
UNKNOWN_UNIT = "its header gives lengths in {}, and mm are assumed; write the voxel size in mm"
BACKWARDS = (
    "its header has a negative voxel size, and its axis is taken to run backwards; write positive sizes, and the way "
    "of the axes into TransformMatrix (MetaImage) or space directions (NRRD)"
)
NO_UNIT = ("", "?", "???", "none")


@dataclass(frozen=True)
class Header:
    """A header, parsed completely.

    Attributes:
        sizes: voxels along the stored axes, the slowest first; one of them may be that of the channels.
        channel_axis: which one; None if there is one channel.
        parts: see `boxel.io.voxels.read_voxels`, like `packing`.
    """

    geometry: Geometry
    remarks: tuple[str, ...]
    dtype: np.dtype
    sizes: tuple[int, ...]
    channel_axis: int | None
    parts: tuple[Part, ...]
    packing: str

    @property
    def num_channels(self) -> int:
        return 1 if self.channel_axis is None else self.sizes[self.channel_axis]

    def read(self, path: Path) -> Image:
        """The image `(c, *s)`; raises ValueError if the voxels are not those that the header claims."""
        array = read_voxels(path, self.parts, self.packing, self.dtype, self.sizes)
        array = array[None] if self.channel_axis is None else np.moveaxis(array, self.channel_axis, 0)
        return Image(np.ascontiguousarray(array), self.geometry, self.remarks)


def read_lines(path: Path, is_last: Callable[[str], bool]) -> tuple[list[str], int]:
    """The lines of the text at the start of a file up to the last one, and their length in bytes.

    Raises:
        ValueError: there is no last line.
    """
    lines: list[str] = []
    with path.open("rb") as file:
        while len(lines) < LINES and len(line := file.readline(LONGEST)) < LONGEST:
            lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
            if is_last(lines[-1]):
                return lines, file.tell()
            if not line:
                break
    raise ValueError("its header has no end")


def numbers(field: str, text: str, count: int) -> np.ndarray:
    """Exactly `count` numbers separated by blanks, perhaps NaN or infinite.

    Raises:
        ValueError: the text of the field is something else.
    """
    words = text.split()
    if len(words) != count or not all(map(NUMBER.fullmatch, words)):
        raise ValueError(f"its header has {field} {text[:60]!r} where {count} numbers are needed")
    return np.array([float(word) for word in words])


def counts(field: str, text: str, count: int, least: int = 1) -> tuple[int, ...]:
    """Exactly `count` whole numbers of at least `least`; raises as `numbers`."""
    words = text.split()
    if len(words) != count or not all(re.fullmatch(r"-?\d{1,18}", word) and int(word) >= least for word in words):
        needed = "a whole number" if count == 1 else f"{count} whole numbers"
        raise ValueError(f"its header has {field} {text[:60]!r} where {needed} of at least {least} are needed")
    return tuple(map(int, words))


def on_grid(
    path: Path,
    shape: tuple[int, ...],
    spacing: np.ndarray | None,
    origin: Sequence[float] | np.ndarray,
    axes: np.ndarray,
    units: Iterable[str],
    fields: str,
) -> tuple[Geometry, tuple[str, ...]]:
    """The geometry of a header, and remarks.

    Args:
        shape: array order.
        spacing: per axis in array order, which may be negative; None if the header does not say it.
        axes: LPS vectors of the axes in array order, one per row.
        units: names of the unit of lengths.
        fields: those which would say the spacing.

    Raises:
        ValueError: the grid is not finite, or sheared.
    """
    if len(shape) not in (2, 3):
        raise ValueError(f"{path}: has {len(shape)} axes; save every time point or channel as a file of 2 or 3 axes")
    scale, remarks = _unit(units)
    if spacing is None:
        remarks = (UNKNOWN_SPACING.format(fields), *remarks)
        spacing = np.ones(len(shape))
    elif (spacing < 0).any():
        remarks += (BACKWARDS,)
    steps, origin = spacing * scale, np.asarray(origin) * scale
    if not all(np.isfinite(values).all() for values in (steps, origin, axes)) or (np.abs(steps) < 1e-9).any():
        raise ValueError(f"{path}: its header does not say where the voxels lie; write a valid voxel size and position")
    geometry = Geometry(shape, tuple(steps.tolist()), tuple(origin.tolist()), tuple(map(tuple, axes.T.tolist())))
    geometry, more = right_angled(path, geometry)
    return geometry, (*remarks, *more)


def _unit(names: Iterable[str]) -> tuple[float, tuple[str, ...]]:
    """The mm of one unit of length, and a remark unless that is 1."""
    known = {name.strip().lower() for name in names} - {*NO_UNIT}
    scales = {UNITS.get(name, UNITS.get(name.removesuffix("s"), 0.0)) for name in known}
    if scales <= {1.0}:
        return 1.0, ()
    (scale, *others) = scales
    if others or not scale:
        return 1.0, (UNKNOWN_UNIT.format(" and ".join(sorted(known))),)
    return scale, (UNIT.format(scale),)
