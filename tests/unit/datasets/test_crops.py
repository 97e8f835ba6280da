"""Crops of one scan: an object that another crop was made for is found wherever it is seen."""

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.crops import Place, read_crops, shown_besides
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.mosaic import make_mosaic
from boxel.io import write_image, write_label_map
from boxel.types import Geometry, Image, silent
from tests.unit.datasets.test_mosaic import settings, write_crops

SPACING = (2.0, 1.0, 1.0)
SIZE = np.array([6, 44, 44])


def place_in_scan(scan, objects, corner, group="p"):
    """A crop of a scan with one of its objects, and its image."""
    here = tuple(slice(a, a + n) for a, n in zip(corner, SIZE, strict=True))
    grid = Geometry.plain(SIZE.tolist(), SPACING)
    origin = (grid.to_world(np.array([corner]) + 0.5)[0]).tolist()
    geometry = Geometry(grid.shape, grid.spacing, tuple(origin), grid.direction)
    return Place(group, geometry, np.argwhere(objects[here])), scan[here]


@pytest.fixture
def scan(rng):
    return np.rint(rng.normal(-800, 50, (6, 100, 100))).astype(np.int16)


@pytest.fixture
def two_objects(scan):
    """Masks of two balls, 18 voxels apart."""
    _, y, x = np.indices(scan.shape)
    first, second = ((y - row) ** 2 + (x - 30) ** 2 <= 25 for row in (30, 48))
    return first, second


CORNERS = {"a": (0, 8, 8), "b": (0, 26, 8)}


def read_places(scan, objects, corners=CORNERS, group="p"):
    pairs = [place_in_scan(scan, mask, corner, group) for mask, corner in zip(objects, corners.values(), strict=True)]
    return {name: pair[0] for name, pair in zip(corners, pairs, strict=True)}, dict(
        zip(corners, (pair[1] for pair in pairs), strict=True)
    )


def test_an_object_seen_in_another_crop_of_its_scan_is_found(scan, two_objects):
    places, images = read_places(scan, two_objects)
    assert shown_besides(places, images.__getitem__) == {"a": "b", "b": "a"}


def test_crops_of_other_patients_and_of_other_scans_do_not_show_it(scan, two_objects, rng):
    places, images = read_places(scan, two_objects)
    others = {"a": places["a"], "b": places["b"]._replace(group="q")}
    assert shown_besides(others, images.__getitem__) == {}
    noise = {**images, "b": rng.normal(-800, 50, SIZE)}
    assert shown_besides(places, noise.__getitem__) == {}, "they only have the same place"


def test_an_object_beyond_a_crop_is_not_found_and_no_image_is_read(scan, two_objects):
    first = two_objects[0]
    far = np.roll(first, 50, axis=1)
    places, _ = read_places(scan, (first, far), {"a": (0, 8, 8), "b": (0, 56, 8)})
    assert shown_besides(places, lambda name: pytest.fail(f"{name} was read")) == {}


def test_such_crops_are_left_out_of_a_mosaic(tmp_path, scan, two_objects):
    rows = ["file,patient_id"]
    for name, mask in zip(CORNERS, two_objects, strict=True):
        place, image = place_in_scan(scan, mask, CORNERS[name])
        label_map = np.zeros(SIZE, np.uint8)
        label_map[tuple(place.voxels.T)] = 1
        write_image(tmp_path / "images" / f"{name}.nii.gz", Image(image[None], place.geometry))
        write_label_map(tmp_path / "labels" / f"{name}.nii.gz", label_map, place.geometry)
        rows.append(f"{name}.nii.gz,p")
    (tmp_path / "meta.csv").write_text("\n".join(rows) + "\n")
    source = open_dataset(tmp_path, options=("values=instances",))
    assert all(len(read_case(case, source).instances) == 1 for case in source.cases)
    crops, left_out = read_crops(source, (6, 80, 80), SPACING, silent)
    assert crops == []
    assert left_out == {"a": "shows the object of b too", "b": "shows the object of a too"}


def test_too_few_patients_are_explained_by_the_crops_that_are_left_out(tmp_path):
    crops = write_crops(tmp_path / "crops")
    for number in range(12):
        if number > 1:
            write_label_map(crops / "labels" / f"c{number:02d}.nii.gz", np.zeros((5, 44, 44), np.uint8),
                            Geometry.plain((5, 44, 44), SPACING))  # fmt: skip
    with pytest.raises(ValueError, match=r"mosaic.json: 2 groups .* too few.*; c02 is left out: 0 objects"):
        make_mosaic(tmp_path / "mosaic", settings())
