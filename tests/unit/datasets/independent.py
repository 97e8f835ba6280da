"""What real data sets hold according to libraries that Boxel does not read them with, and how to compare the two."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, voxel_sizes
from PIL import Image as Picture
from pycocotools import mask as coco
from scipy import ndimage

# (class, lower corner, upper corner), and the number of voxels where the object has a mask.
Row = tuple[str, tuple[float, ...], tuple[float, ...]]
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def warnings_only(problem) -> None:
    """Accept what a reader reports unless it is an error; files of other sets in the folder are none of its own."""
    assert problem.severity != "error" or "possible label maps are not read" in problem.problem


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels in array order, and the affine from indices x, y, z to LPS mm."""
    image = nib.load(path)
    return np.asarray(image.dataobj).T, RAS_TO_LPS @ image.affine


def series(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rescaled voxels of the DICOM files in a folder, and the affine from indices x, y, z to LPS mm; by pydicom.

    Planes are in order of position along the normal.
    """
    pydicom = pytest.importorskip("pydicom")
    planes = [pydicom.dcmread(file) for file in folder.glob("*.dcm")]
    along_row, along_column = np.reshape([float(x) for x in planes[0].ImageOrientationPatient], (2, 3))
    normal = np.cross(along_row, along_column)
    planes.sort(key=lambda plane: normal @ np.array(plane.ImagePositionPatient, float))
    first, last = (np.array(plane.ImagePositionPatient, float) for plane in (planes[0], planes[-1]))
    step = (last - first) / (len(planes) - 1) if planes[1:] else normal * float(planes[0].SliceThickness)
    down, across = map(float, planes[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3] = np.stack([along_row * across, along_column * down, step, first], axis=1)
    return np.stack([pydicom.pixels.apply_modality_lut(plane.pixel_array, plane) for plane in planes]), affine


def pages(path: Path) -> np.ndarray:
    """The pages of a TIFF, read by Pillow."""
    with Picture.open(path) as picture:
        planes = []
        for page in range(picture.n_frames):
            picture.seek(page)
            planes.append(np.array(picture))
    return np.stack(planes)


def instances(label_map: np.ndarray, name: str) -> Iterator[tuple[Row, int]]:
    """Every value of a label map as an object: by pycocotools in 2D, by scipy in 3D."""
    for number in (int(value) for value in np.unique(label_map) if value):
        if label_map.ndim == 2:
            encoded = coco.encode(np.asfortranarray(label_map == number, np.uint8))
            x, y, width, height = coco.toBbox(encoded).tolist()
            yield (name, (y, x), (y + height, x + width)), int(coco.area(encoded))
        else:
            mask = (label_map == number).astype(np.uint8)
            yield _row(name, ndimage.find_objects(mask)[0]), int(mask.sum())


def components(label_map: np.ndarray, names: Mapping[int, str]) -> Iterator[tuple[Row, int]]:
    """Every connected component of each value as an object; voxels that share a corner are connected."""
    for value, around in enumerate(ndimage.find_objects(label_map.astype(np.int32)), start=1):
        if around:  # there is such a value
            parts, _ = ndimage.label(label_map[around] == value, np.ones((3,) * label_map.ndim))
            sizes = np.bincount(parts.ravel())
            for number, region in enumerate(ndimage.find_objects(parts), start=1):
                yield _row(names[value], region, around), int(sizes[number])


def _row(name: str, region: tuple[slice, ...], around: tuple[slice, ...] = (slice(0),) * 3) -> Row:
    """A region inside a larger one."""
    first = [part.start or 0 for part in around]
    lower, upper = ([float(getattr(part, end)) for part in region] for end in ("start", "stop"))
    return name, tuple(np.add(first, lower).tolist()), tuple(np.add(first, upper).tolist())


def boxes_read(loaded, classes) -> list[Row]:
    """The objects of a case as Boxel returns them."""
    rows = zip(loaded.instances.labels.tolist(), loaded.instances.boxes.tolist(), strict=True)
    return sorted((classes[label], tuple(lower), tuple(upper)) for label, (lower, upper) in rows)


def masks_read(loaded, classes) -> list[tuple[Row, int]]:
    """The objects of a case as Boxel returns them, each with its number of voxels in the label map."""
    objects = zip(*(getattr(loaded.instances, name).tolist() for name in ("labels", "boxes", "ids")), strict=True)
    sizes = np.bincount(loaded.label_map.ravel())
    return sorted(((classes[label], *map(tuple, box)), int(sizes[number])) for label, box, number in objects)


def assert_same_boxes(read: list[Row], expected: list[Row], tolerance: float = 1e-3) -> None:
    assert [name for name, *_ in read] == [name for name, *_ in expected]
    if expected:
        np.testing.assert_allclose([row[1:] for row in read], [row[1:] for row in expected], rtol=0, atol=tolerance)


def assert_same_grid(geometry, affine: np.ndarray) -> None:
    """Compare with an affine from indices x, y, z to LPS mm, up to 0.005 voxels: headers round directions."""
    np.testing.assert_allclose(geometry.spacing, voxel_sizes(affine)[::-1], rtol=1e-5)
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], geometry.shape], float)
    voxels = geometry.to_voxel(apply_affine(affine, corners[:, ::-1]))
    np.testing.assert_allclose(voxels, corners + 0.5, rtol=0, atol=0.005)
