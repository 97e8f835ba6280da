"""Read and write image files.

Arrays have channels first, then the axes in numpy's order (plane, row, column); the geometry is ITK's, in LPS
millimetres. PNG, TIFF, JPEG and BMP store no geometry and get unit spacing, or that of the JSON file which nnU-Net
writes beside a TIFF. The world of 2D files is 2D.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from boxel.files import writing
from boxel.inputs.folders import refuse_special
from boxel.io import dicom, itk, pictures, png, tiff
from boxel.io.apart import apart
from boxel.io.decoding import ahead_of, decode
from boxel.io.dicom import is_dicom
from boxel.io.dicom_stack import Slice
from boxel.io.grids import grid_fix, place, reorient, same_grid
from boxel.io.itk import resample, resample_planes
from boxel.io.slicer import is_segmentation, merge_layers
from boxel.slabs import Slabs, Voxels
from boxel.types import Geometry, Image

__all__ = [
    "SUFFIXES", "grid_fix", "has_geometry", "is_dicom", "is_segmentation", "list_series", "open_image", "place",
    "read_geometry", "read_grid", "read_image", "read_kind", "read_label_map", "read_layout", "read_series", "reorient",
    "resample", "resample_planes", "same_grid", "split_suffix", "write_image", "write_label_map",
]  # fmt: skip

SUFFIXES = itk.SUFFIXES + pictures.SUFFIXES
ENDINGS = {last: [one for one in SUFFIXES if one.endswith(last)] for last in {Path(f"a{s}").suffix for s in SUFFIXES}}
LOSSY_SUFFIXES = (".jpg", ".jpeg")
LARGE = 2**26  # bytes of voxels of a TIFF that is not read as a whole


def split_suffix(path: Path) -> tuple[str, str]:
    """File name without its image suffix, and that suffix in lower case; `""` if Boxel does not read it."""
    name = path.name
    lower = name.lower()  # readers ask for every file of a data set, several times
    for suffix in ENDINGS.get(lower[lower.rfind(".") :], ()):
        if lower.endswith(suffix):
            return name[: -len(suffix)], suffix
    return name, ""


def has_geometry(path: Path) -> bool:
    """Whether this kind of file stores where its voxels lie in the world."""
    return split_suffix(path)[1] in itk.SUFFIXES or _is_series(path)


def read_image(path: Path, *, upright: bool = True) -> Image:
    """Read an image file, a DICOM file or a DICOM folder: `array (c, *s)` in the number type of the file.

    Colour becomes three channels, transparency is dropped, and the pages of a TIFF become planes.

    Args:
        path: the file or folder.
        upright: turn a picture as its header (EXIF) says, as viewers and most annotation tools do.

    Raises:
        ValueError: the file is missing, empty, unreadable, damaged or of an unknown kind.
    """
    return _read(Path(path), colours=True, upright=upright)


def open_image(path: Path, *, least: int = LARGE) -> Image[Voxels]:
    """Like `read_image`, but a large TIFF in strips or tiles, or uncompressed, stays on disk.

    Its voxels are read when they are asked for, a few rows or pages at a time.

    Args:
        path: the file or folder.
        least: bytes of voxels of a large TIFF.

    Raises:
        ValueError: as `read_image`; also when voxels are asked for.
    """
    path = Path(path)
    if split_suffix(path)[1] not in pictures.TIFF_SUFFIXES or path.is_dir():
        return read_image(path)
    with _naming(path):
        _check_readable(path)
        if not (known := apart(path, pictures.layout, path, least)):
            return read_image(path)
        voxels = Slabs(known.shape, known.dtype, lambda first, last: _read_planes(path, first, last), known.block)
        shape = known.shape[1:]
        return Image(voxels, Geometry.plain(shape, pictures.spacing_beside(path, len(shape))), known.remarks)


def _read_planes(path: Path, first: int, last: int) -> np.ndarray:
    with _naming(path):
        return apart(path, tiff.read_planes, path, first, last)


def read_geometry(path: Path) -> Geometry:
    """The geometry of an image; reads only the header if the format has one.

    Raises:
        ValueError: as `read_image`.
    """
    path = Path(path)
    if _is_series(path) or not has_geometry(path):
        return open_image(path, least=0).geometry
    _check_readable(path)
    with _naming(path):
        return itk.read_grid(path)[1]


def read_layout(path: Path) -> tuple[int, tuple[int, ...]]:
    """Number of channels and shape `(*s)` of an image as `read_image` returns it; only from its header if possible.

    Raises:
        ValueError: as `read_image`.
    """
    path = Path(path)
    if _is_series(path) or split_suffix(path)[1] in pictures.TIFF_SUFFIXES:
        count, *shape = open_image(path, least=0).array.shape
        return count, tuple(shape)
    with _naming(path):
        _check_readable(path)
        if has_geometry(path):
            count, geometry = itk.read_grid(path)
            return count, geometry.shape
        # What opens these is written in Python, so that damage to them ends no process.
        common = pictures.is_common(path)
        return pictures.read_layout(path) if common else apart(path, pictures.read_layout, path)


def read_grid(path: Path) -> tuple[int, Geometry] | None:
    """Number of channels and geometry of an image as `read_image` returns it; None if its header does not say all.

    Raises:
        ValueError: as `read_image`, but for voxels that are damaged.
    """
    suffix = split_suffix(path)[1]
    if suffix == ".png":
        shape = png.shape_of(path)
        return (shape[0], Geometry.plain(shape[1:])) if shape else None
    if suffix not in itk.SUFFIXES or path.is_dir():
        return None
    with _naming(path):
        _check_readable(path)
        return itk.read_grid(path)


def read_label_map(path: Path) -> Image:
    """Read a label map: `array (*s)` int32, 0 is background. Whole numbers stored as floats are accepted.

    The layers of a segmentation of 3D Slicer are merged if its segments do not overlap.

    Raises:
        ValueError: as `read_image`, and if values are not whole numbers, are negative, lie in several channels, or are
            stored in a lossy format.
    """
    path = Path(path)
    if split_suffix(path)[1] in LOSSY_SUFFIXES:
        raise ValueError(f"{path}: JPEG changes label values; save label maps as .png, .tif or .nii.gz")
    image = _read(path, colours=False, upright=True)
    array = merge_layers(path, image.array) if is_segmentation(path) else image.array
    if len(array) != 1:
        raise ValueError(f"{path}: a label map with {len(array)} channels; save integers, not colours")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{path}: this label map has values that are NaN or infinite; set them to 0, the background")
    if array.dtype.kind == "f" and not (array == np.floor(array)).all():
        raise ValueError(f"{path}: this label map has values that are not whole numbers; save it without interpolation")
    if array.min() < 0 or array.max() > np.iinfo(np.int32).max:
        raise ValueError(f"{path}: label values from {array.min()} to {array.max()}; renumber them from 0")
    return Image(array[0].astype(np.int32), image.geometry)


def write_image(path: Path, image: Image, *, compress: bool = True) -> None:
    """Write `image` in the format of the suffix. The file is complete or does not appear.

    Raises:
        ValueError: the suffix is unknown, the format cannot store the geometry or number type of the image, or the file
            cannot be written.
    """
    path = Path(path)
    suffix = split_suffix(path)[1]
    if suffix == ".mhd" or suffix in LOSSY_SUFFIXES or not suffix:
        raise ValueError(f"{path}: cannot write this kind of file; use .nii.gz, .mha, .nrrd, .tif or .png")
    array = image.array.astype(np.uint8) if image.array.dtype == bool else image.array
    if suffix in itk.SUFFIXES:
        _replace(path, lambda temporary: itk.write(temporary, Image(array, image.geometry), compress))
        return
    if image.geometry != Geometry.plain(array.shape[1:]):
        raise ValueError(f"{path}: {suffix} cannot store spacing and position; use .nii.gz, .mha or .nrrd")
    _replace(path, lambda temporary: pictures.write(temporary, array, compress))


def write_label_map(path: Path, array: np.ndarray, geometry: Geometry) -> None:
    """Write the integers `array (*s)` compressed, in the smallest unsigned type that holds them."""
    dtype = np.min_scalar_type(int(array.max(initial=0)))
    write_image(path, Image(array.astype(dtype)[None], geometry))


def _read(path: Path, colours: bool, upright: bool) -> Image:
    """See `boxel.io.decoding.decode`."""
    if upright and (known := ahead_of(path, colours)):
        return known
    with _naming(path):
        if path.is_dir():
            return read_series(path)
        _check_readable(path)
        if split_suffix(path)[1] in itk.SUFFIXES:
            return itk.read(path)
        return apart(path, decode, path, colours, upright)


def list_series(folder: Path) -> dict[str, list[Slice]]:
    """The image files of a folder by SeriesInstanceUID (empty if a file has none), in order of file names.

    Raises:
        ValueError: a file ends or stalls what reads it.
    """
    return apart(folder, dicom.list_series, folder)


def read_kind(path: Path, uid: str | None = None) -> tuple[str, str]:
    """Modality and BodyPartExamined of a DICOM file, or of the series `uid` in a folder; empty where not known."""
    return apart(path, dicom.read_kind, path, uid) if _is_series(path) else ("", "")


def read_series(folder: Path, uid: str | None = None, *, upright: bool = False, frames: Sequence[str] = ()) -> Image:
    """Read one DICOM series; `Image.remarks` says whether a tilted gantry was corrected.

    Args:
        folder: contains its files, in any order and under any names; other files are skipped. Or one file, which is
            then the image.
        uid: its SeriesInstanceUID, if the folder contains several series.
        upright: a tilted gantry is an error, because the annotations count voxels of the original slices.
        frames: which frames of multi-frame files, where they form several images, such as `StackID=1`.

    Raises:
        ValueError: there is no such series, or a slice is missing, duplicated or misplaced; names the position.
    """
    return apart(folder, dicom.read_series, folder, uid, upright=upright, frames=frames)


def _is_series(path: Path) -> bool:
    """Whether this is the folder of a DICOM series, or a DICOM file."""
    return path.is_dir() or (not split_suffix(path)[1] and is_dicom(path))


def _check_readable(path: Path) -> None:
    refuse_special(path)
    if not split_suffix(path)[1] and not is_dicom(path):
        raise ValueError(f"{path}: not an image format that Boxel reads; use one of {' '.join(SUFFIXES)} or DICOM")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; check the path") from None
    except PermissionError:
        raise ValueError(f"{path}: no permission to read it; change its mode (chmod) or owner") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); check the disk") from None
    if empty:
        raise ValueError(f"{path}: the file is empty (0 bytes); copy or export it again")


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Every error names the file."""
    try:
        yield
    except Exception as error:  # decoders raise almost anything on damaged files
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: cannot be read as an image ({_reason(error)}); copy or export it again")


def _reason(error: Exception) -> str:
    """The informative line of a message of ITK, pillow or the system."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    informative = [line for line in lines if not line.endswith("No such file or directory")] or lines
    return re.sub(r".*ERROR: (\w+\(0x\w+\): )?", "", informative[-1])[:200] if informative else type(error).__name__


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file that appears whole or not at all."""
    try:
        with writing(path, split_suffix(path)[1]) as temporary:
            write(temporary)
    except (OSError, RuntimeError, TypeError) as error:
        hint = "check free space, permissions and number type"
        raise ValueError(f"{path}: cannot be written ({_reason(error)}); {hint}") from None
