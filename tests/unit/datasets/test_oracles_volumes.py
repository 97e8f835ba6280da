"""Real volumes and their objects as Boxel reads them equal what nibabel, pydicom, Pillow and scipy read."""

import json
import shutil
from collections import defaultdict

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.io import read_image
from boxel.types import Geometry

from .independent import (
    RAS_TO_LPS,
    assert_same_grid,
    boxes_read,
    components,
    instances,
    masks_read,
    nifti,
    pages,
    series,
    table,
    warnings_only,
)

pytestmark = pytest.mark.data
EVERY = 20  # nodules


def assert_same_volume(image, path):
    voxels, affine = nifti(path)
    np.testing.assert_array_equal(image.array[0], voxels.astype(np.float32))
    assert_same_grid(image.geometry, affine)
    return affine


def organs(data):
    names = json.loads((data / "ct" / "class_names.json").read_text())["ct"]
    return {int(value): name for value, name in names.items()}


@pytest.mark.parametrize("name", ["ct_torso_3mm", "ct_abdomen_3mm_small"])
def test_ct_has_the_voxels_and_affine_of_nibabel_and_the_components_of_scipy(data, name):
    dataset = open_dataset(data / "ct", warnings_only)
    names = organs(data)
    assert dataset.classes == tuple(names.values())
    loaded = read_case(dataset[name], dataset)
    affine = assert_same_volume(loaded.image, data / "ct" / name / "ct.nii.gz")
    label_map, same = nifti(data / "ct" / name / "seg.nii.gz")
    np.testing.assert_allclose(same, affine, atol=1e-4)
    assert masks_read(loaded, dataset.classes) == sorted(components(label_map, names))


def test_ct_of_dicom_has_the_voxels_of_pydicom_and_labels_where_their_affine_puts_them(data):
    """The label map is stored with other axes than the series; each voxel belongs where its affine says."""
    dataset = open_dataset(data / "ct", warnings_only)
    names = organs(data)
    loaded = read_case(dataset["ct_dicom_512"], dataset)
    voxels, affine = series(data / "ct" / "ct_dicom_512" / "dicom")
    np.testing.assert_array_equal(loaded.image.array[0], voxels)
    assert_same_grid(loaded.image.geometry, affine)
    stored, own = nifti(data / "ct" / "ct_dicom_512" / "seg.nii.gz")
    label_map = np.zeros_like(voxels, np.int32)
    places = np.argwhere(stored)
    indices = apply_affine(np.linalg.inv(affine) @ own, places[:, ::-1])[:, ::-1]
    assert np.abs(indices - indices.round()).max() < 0.05
    label_map[tuple(indices.round().astype(int).T)] = stored[stored > 0]
    assert masks_read(loaded, dataset.classes) == sorted(components(label_map, names))


def test_hippocampus_has_the_voxels_and_affine_of_nibabel_and_the_components_of_scipy(data):
    folder = data / "hippocampus"
    dataset = open_dataset(folder, warnings_only, options=["classes=anterior,posterior"])
    assert {case.id for case in dataset.cases} == {f.name.split(".")[0] for f in (folder / "imagesTr").glob("h*")}
    for case in dataset.cases[::3]:
        loaded = read_case(case, dataset)
        affine = assert_same_volume(loaded.image, folder / "imagesTr" / f"{case.id}.nii.gz")
        label_map, same = nifti(folder / "labelsTr" / f"{case.id}.nii.gz")
        np.testing.assert_allclose(same, affine, atol=1e-4)
        expected = sorted(components(label_map, {1: "anterior", 2: "posterior"}))
        assert masks_read(loaded, dataset.classes) == expected


def test_lidc_nodules_have_the_voxels_and_affine_of_nibabel_and_the_boxes_of_their_table(data):
    folder = data / "lidc_nodules"
    options = ["class_column=Diagnosis_value", "classes=benign,malignant", "modality=CT", "values=instances"]
    dataset = open_dataset(folder, warnings_only, options=options)
    rows = {row["file"].removesuffix(".nii.gz"): row for row in table(folder / "meta.csv")}
    assert {case.id: case.group for case in dataset.cases} == {name: row["patient_id"] for name, row in rows.items()}
    for case in dataset.cases[::EVERY]:
        loaded, row = read_case(case, dataset), rows[case.id]
        affine = assert_same_volume(loaded.image, folder / "image" / f"{case.id}.nii.gz")
        label_map, same = nifti(folder / "nodule_mask" / f"{case.id}.nii.gz")
        np.testing.assert_allclose(same, affine, atol=1e-4)
        name = ("benign", "malignant")[int(row["Diagnosis_value"])]
        assert masks_read(loaded, dataset.classes) == sorted(instances(label_map, name))
        corners = (tuple(float(row[f"b{axis}{end}"]) for axis in "zyx") for end in "01")
        assert boxes_read(loaded, dataset.classes) == [(name, *corners)]
        # The table has the centre of the nodule, in LUNA16's coordinates.
        centre = loaded.image.geometry.to_world(np.argwhere(loaded.label_map) + 0.5).mean(axis=0)
        distance = np.linalg.norm(centre - [float(row[f"coord{axis}"]) for axis in "XYZ"])
        assert distance == pytest.approx(float(row["centroid_err_mm"]), abs=0.01)


def test_nuclei3d_have_the_voxels_of_pillow_and_the_boxes_of_scipy(data):
    folder = data / "nuclei3d"
    dataset = open_dataset(folder, warnings_only, options=["classes=nucleus"])
    files = {"stardist_3d": ("stardist/img3d.tif", "stardist/mask3d.tif")}
    for stage in (8, 16):
        stem = f"mouse_embryo_qcanet/{stage}_cell_stage"
        files[stem.replace("/", "_")] = (f"{stem}_raw.tif", f"{stem}_instances.tif")
    assert {case.id for case in dataset.cases} == set(files)
    for case in dataset.cases:
        loaded = read_case(case, dataset)
        image, label_map = (pages(folder / name) for name in files[case.id])
        np.testing.assert_array_equal(loaded.image.array[0], image)
        np.testing.assert_array_equal(loaded.label_map, label_map)
        assert masks_read(loaded, dataset.classes) == sorted(instances(label_map, "nucleus"))


@pytest.fixture(scope="module")
def luna(data):
    """LUNA16's nodules and irrelevant findings: series, centre and diameter (LPS mm)."""
    folder = data / "lidc_luna_tables" / "luna16"
    found = []
    for name in ("annotations", "annotations_excluded"):
        objects = defaultdict(list)
        for row in table(folder / f"{name}.csv"):
            x, y, z, diameter = (float(row[key]) for key in ("coordX", "coordY", "coordZ", "diameter_mm"))
            objects[row["seriesuid"]].append((x, y, z, diameter if diameter > 0 else 10.0))
        found.append(dict(objects))
    return folder, *found


def test_luna_tables_are_balls_in_mm(luna):
    folder, nodules, excluded = luna
    dataset = open_dataset(folder.parent, warnings_only)
    assert sorted(case.id for case in dataset.cases) == sorted((folder / "seriesuids.csv").read_text().split())
    # A grid whose first voxel has its centre at -2000 mm.
    plain = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    geometry = Geometry((4000,) * 3, (1.0,) * 3, (-2000.0,) * 3, plain)
    counts = [0, 0]
    for case in dataset.cases:
        read = case.annotate.read(geometry)[1].boxes, case.annotate.ignored(geometry).boxes
        for kind, (boxes, expected) in enumerate(zip(read, (nodules, excluded), strict=True)):
            balls = np.array(expected.get(case.id, [])).reshape(-1, 4)
            centre, radius = balls[:, 2::-1] + 2000.5, balls[:, 3:] / 2
            np.testing.assert_allclose(boxes, np.stack([centre - radius, centre + radius], axis=1), atol=1e-3)
            counts[kind] += len(boxes)
    assert counts == [1186, 35192]  # README


def test_balls_of_luna_lie_where_the_affine_of_nibabel_puts_them(luna, tmp_path):
    folder, nodules, excluded = luna
    shutil.copy(folder / "annotations.csv", tmp_path)
    shutil.copy(folder / "annotations_excluded.csv", tmp_path)
    spacing, shape = np.array([4.0, 5.0, 6.0]), np.array([250, 200, 180])  # x, y, z
    affines = {}
    for name in sorted(nodules)[::150]:
        affine = np.eye(4)
        affine[:3, :3] = nib.eulerangles.euler2mat(0.2, -0.1, 0.3) * spacing
        affine[:3, 3] = np.mean(nodules[name], axis=0)[:3] - affine[:3, :3] @ (shape / 2)
        nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), RAS_TO_LPS @ affine), tmp_path / f"{name}.nii.gz")
        affines[name] = affine
    dataset = open_dataset(tmp_path, warnings_only)
    assert [case.id for case in dataset.cases] == list(affines)
    for case in dataset.cases:
        loaded = read_case(case, dataset)
        for read, balls in ((loaded.instances, nodules), (loaded.ignored, excluded)):
            balls = np.array(balls.get(case.id, [])).reshape(-1, 4)
            centre = apply_affine(np.linalg.inv(affines[case.id]), balls[:, :3])[:, ::-1] + 0.5
            radius = balls[:, 3:] / 2 / spacing[::-1]
            np.testing.assert_allclose(read.boxes, np.stack([centre - radius, centre + radius], axis=1), atol=0.01)


def test_an_oblique_nifti_has_the_voxels_and_affine_of_nibabel(data):
    path = data / "dicom" / "oblique_nifti" / "CT_pitch.nii.gz"
    assert_same_volume(read_image(path), path)
