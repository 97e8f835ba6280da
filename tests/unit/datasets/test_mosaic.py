"""Mosaics: what a canvas shows comes from its crops unchanged, folds share no patient, settings are checked."""

import csv
import json

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.mosaic import Mosaic, make_mosaic
from boxel.datasets.label_maps import tight_boxes
from boxel.datasets.split import dataset_splits
from boxel.io import write_image, write_label_map
from boxel.pseudonyms import pseudonyms
from boxel.testing import check_reader
from boxel.types import Geometry, Image

SPACING = (2.0, 1.0, 1.0)
CANVAS = (12, 80, 80)
OPTIONS = ("values=instances", "class_column=rating", "class_from=3", "classes=benign,malignant", "modality=CT")


def write_crops(root, count=12, shape=(5, 44, 44), radius=5, patients=1):
    """Bright balls of distinct values, each in noise of distinct mean; the ball touches both first and last plane."""
    rng = np.random.default_rng(1)
    rows = ["file,patient_id,rating"]
    for number in range(count):
        z, y, x = np.indices(shape)
        mask = (y - shape[1] // 2) ** 2 + (x - shape[2] // 2) ** 2 <= (radius - (z == 0)) ** 2
        values = rng.normal(-800, 20, shape) + (700 + 10 * number) * mask
        grid = Geometry.plain(shape, SPACING)
        write_image(root / "images" / f"c{number:02d}.nii.gz", Image(np.rint(values)[None].astype(np.int16), grid))
        write_label_map(root / "labels" / f"c{number:02d}.nii.gz", mask.astype(np.uint8), grid)
        rows.append(f"c{number:02d}.nii.gz,p{number // patients},{1 + 2 * (number % 2)}")
    (root / "meta.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def crops(tmp_path):
    return write_crops(tmp_path / "crops")


def settings(**changes):
    values = {"source": "../crops", "options": OPTIONS, "canvas": CANVAS, "spacing": SPACING, "canvases": 3,
              "folds": 3, "patients": 2, "lesions": 2, "tiles": 3}  # fmt: skip
    return Mosaic(**{**values, **changes})


def mosaic(folder, **changes):
    return open_dataset(make_mosaic(folder, settings(**changes)))


def images_of(dataset):
    return {case.id: read_case(case, dataset).image.array[0] for case in dataset.cases}


def sources(folder):
    with (folder / "canvases" / "objects.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_folder_with_mosaic_json_opens_as_a_data_set(tmp_path, crops):
    settings().save(tmp_path / "mosaic" / "mosaic.json")
    check_reader("mosaic", tmp_path / "mosaic")
    dataset = open_dataset(tmp_path / "mosaic")
    assert (dataset.format, dataset.ndim, dataset.channels) == ("mosaic", 3, ("CT",))
    assert (dataset.classes, len(dataset.cases)) == (("benign", "malignant"), 9)
    loaded = read_case(dataset.cases[0], dataset)
    assert (loaded.image.geometry.shape, loaded.image.geometry.spacing) == (CANVAS, SPACING)


def test_a_voxel_that_looks_like_a_lesion_is_annotated(tmp_path, crops):
    dataset = mosaic(tmp_path / "mosaic", canvas=(12, 120, 120), patients=1, lesions=3, tiles=8)
    bright = 0
    for case in dataset.cases:
        loaded = read_case(case, dataset)
        looks = loaded.image.array[0] > -450  # rims are about -800, lesions -100
        assert not (looks & (loaded.label_map == 0)).any()
        bright += looks.sum()
    assert bright


def test_every_object_is_the_voxels_of_its_crop_with_its_class_and_its_tight_box(tmp_path, crops):
    dataset, source = mosaic(tmp_path / "mosaic"), open_dataset(crops, options=OPTIONS)
    rows = sources(tmp_path / "mosaic")
    assert 9 <= len(rows) <= 18
    for row in rows:
        canvas, crop = read_case(dataset[row["canvas"]], dataset), read_case(source[row["case"]], source)
        number, mask = int(row["object"]), crop.label_map > 0
        lower, upper = crop.instances.boxes[0].astype(int)
        start = np.array([int(row[axis]) for axis in ("plane", "row", "column")])
        inside = tuple(slice(a, a + n) for a, n in zip(start, upper - lower, strict=True))
        own = tuple(map(slice, lower, upper))
        np.testing.assert_array_equal(canvas.label_map[inside] == number, mask[own])
        np.testing.assert_array_equal(canvas.image.array[0][inside][mask[own]], crop.image.array[0][own][mask[own]])
        position = canvas.instances.ids.tolist().index(number)
        assert canvas.instances.labels[position] == crop.instances.labels[0]
        assert canvas.instances.boxes[position].tolist() == [start.tolist(), (start + upper - lower).tolist()]


def test_a_canvas_is_of_one_team_and_no_patient_is_in_two_parts(tmp_path, crops):
    dataset = mosaic(tmp_path / "mosaic", canvases=4)
    groups = {case.id: set(case.group.split("+")) for case in dataset.cases}
    names = pseudonyms({f"p{k}" for k in range(99)}, tmp_path / "mosaic" / "canvases", "")
    for row in sources(tmp_path / "mosaic"):
        assert names[f"p{int(row['case'][1:])}"] in groups[row["canvas"]]
    teams = {frozenset(group) for group in groups.values()}
    assert sum(map(len, teams)) == len(set().union(*teams)) == 12  # disjoint teams, all patients
    splits = dataset_splits(dataset)
    assert len(splits) == 3
    for split in splits:
        parts = [set().union(*(groups[name] for name in ids)) for _, ids in split]
        assert sum(map(len, parts)) == len(set().union(*parts)) == 12
    tested = [name for split in splits for name in split.test]
    assert sorted(tested) == sorted(groups)


def test_a_larger_mosaic_begins_with_the_canvases_of_a_smaller_one_and_the_seed_changes_them(tmp_path, crops):
    small, large = (images_of(mosaic(tmp_path / str(n), canvases=n)) for n in (2, 4))
    assert len(large) == 12
    for name, image in small.items():
        np.testing.assert_array_equal(image, large[name])
    other = images_of(mosaic(tmp_path / "other", canvases=2, seed=1))
    assert all((other[name] != image).any() for name, image in small.items())
    assert len({image.tobytes() for image in large.values()}) == 12


def test_an_interrupted_mosaic_is_resumed(tmp_path, crops):
    def stop(what, done, total):
        if (what, done) == ("compose", 5):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_mosaic(tmp_path / "a", settings(), progress=stop)
    first = next((tmp_path / "a" / "canvases" / "imagesTr").iterdir())
    before = first.stat().st_mtime_ns
    resumed, whole = images_of(mosaic(tmp_path / "a")), images_of(mosaic(tmp_path / "b"))
    assert resumed.keys() == whole.keys()
    assert all((resumed[name] == whole[name]).all() for name in whole)
    assert first.stat().st_mtime_ns == before


def test_the_control_has_the_annotations_of_the_mosaic_but_no_lesion(tmp_path, crops):
    plain, control = mosaic(tmp_path / "plain"), mosaic(tmp_path / "control", control="seam")
    for case in plain.cases:
        a, b = read_case(case, plain), read_case(control[case.id], control)
        np.testing.assert_array_equal(a.label_map, b.label_map)
        assert a.instances.labels.tolist() == b.instances.labels.tolist()
        assert a.image.array[0][a.label_map > 0].min() > -300
        assert b.image.array.max() < -650  # nothing but rims, which are noise around -800 HU


def test_tissue_keeps_its_mean_and_noise_across_seams(tmp_path, crops):
    dataset = mosaic(tmp_path / "mosaic", control="seam")
    for image in images_of(dataset).values():
        assert image.mean() == pytest.approx(-800, abs=3)
        assert image.std() == pytest.approx(20, abs=1.5)  # half of it is lost where noise is blended linearly


def test_every_crop_of_a_team_is_shown_before_one_is_repeated(tmp_path, crops):
    mosaic(tmp_path / "mosaic", canvases=8, lesions=1)
    shown = [row["case"] for row in sources(tmp_path / "mosaic")]
    assert {shown.count(case) for case in set(shown)} == {2}  # 24 canvases of one lesion each, 12 crops
    assert len(set(shown)) == 12


def test_other_settings_are_refused_and_complete_canvases_need_no_crops(tmp_path, crops):
    mosaic(tmp_path / "mosaic")
    crops.rename(tmp_path / "moved")
    assert len(open_dataset(tmp_path / "mosaic").cases) == 9
    with pytest.raises(ValueError, match=r"mosaic\.json: describes another mosaic"):
        make_mosaic(tmp_path / "mosaic", settings(seed=1))
    settings(seed=1).save(tmp_path / "mosaic" / "mosaic.json")
    with pytest.raises(ValueError, match=r"canvases: holds canvases with seed 0 instead of 1; remove it"):
        open_dataset(tmp_path / "mosaic")


def test_what_others_put_into_the_folder_of_canvases_is_kept(tmp_path, crops):
    settings().save(tmp_path / "mosaic" / "mosaic.json")
    (tmp_path / "mosaic" / "canvases").mkdir()
    (tmp_path / "mosaic" / "canvases" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"canvases: was not written by Boxel"):
        open_dataset(tmp_path / "mosaic")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"mosaic\.json: not valid JSON"),
        ('{"source": "../crops"', r"mosaic\.json: not valid JSON"),
        ("[]", r"mosaic\.json"),
        ("{}", r"mosaic\.json: source: Field required"),
        ('{"source": "../crops", "canvasses": 3}', r"unknown key 'canvasses'; did you mean 'canvases'"),
        ('{"source": "../crops", "control": "seams"}', r"control: Input should be 'none' or 'seam'"),
        ('{"source": "../crops", "spacing": [1, 1]}', r"mosaic\.json: spacing"),
        ('{"source": "../crops", "canvas": [8, 8, 8]}', r"canvas.*greater than or equal to 32"),
        ('{"source": "../other"}', r"\"source\" is '\.\./other', which is not a folder of crops"),
        ('{"source": "."}', r"\"source\" is '\.', which is not a folder of crops"),
        ('{"source": "../crops", "folds": 13, "options": ["values=instances"]}', r"12 patients for 13 parts"),
    ],
)
def test_a_damaged_or_wrong_mosaic_json_is_explained(tmp_path, crops, text, message):
    (tmp_path / "mosaic").mkdir()
    (tmp_path / "mosaic" / "mosaic.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        open_dataset(tmp_path / "mosaic")
    assert [path.name for path in (tmp_path / "mosaic").iterdir()] == ["mosaic.json"]


@pytest.mark.parametrize(
    ("shape", "radius", "message"),
    [
        ((5, 16, 16), 5, r"no crop can be used \(its rim of 2 voxels is too narrow, a seam needs 4\)"),
        ((13, 44, 44), 5, r"no crop can be used \(an object of \[13, 11, 11\] voxels does not fit"),
        ((5, 99, 99), 35, r"no crop can be used \(an object of \[5, 71, 71\] voxels does not fit"),
        ((5, 20, 20), 5, r"part 0 has no crop that can be used \(the rims of a team hold no square of 10 voxels"),
    ],
)
def test_crops_without_room_for_a_seam_are_explained(tmp_path, shape, radius, message):
    write_crops(tmp_path / "crops", 6, shape, radius)
    with pytest.raises(ValueError, match=message):
        mosaic(tmp_path / "mosaic")


def test_crops_that_cannot_be_used_are_reported_whenever_the_mosaic_opens(tmp_path, crops):
    grid = Geometry.plain((5, 44, 44), SPACING)
    two = np.zeros(grid.shape, np.uint8)
    two[:, 15:18, 15:18], two[:, 25:28, 25:28] = 1, 2
    write_label_map(crops / "labels" / "c03.nii.gz", two, grid)
    make_mosaic(tmp_path / "mosaic", settings())
    reports = []
    open_dataset(tmp_path / "mosaic", reports.append)
    (warning,) = [str(report) for report in reports if report.severity == "warning"]
    assert "the mosaic leaves out 1 crop: c03 (2 objects, 2 with a mask, instead of one)" in warning
    assert all(row["case"] != "c03" for row in sources(tmp_path / "mosaic"))


def test_patients_whose_rims_cannot_fill_a_canvas_are_left_out_and_reported(tmp_path, crops):
    grid = Geometry.plain((5, 20, 20), SPACING)
    ball = np.zeros(grid.shape, np.uint8)
    ball[:, 5:15, 5:15] = 1  # rims of 5 voxels
    write_image(crops / "images" / "c03.nii.gz", Image(np.zeros((1, 5, 20, 20), np.int16), grid))
    write_label_map(crops / "labels" / "c03.nii.gz", ball, grid)
    made = make_mosaic(tmp_path / "mosaic", settings(patients=1, canvases=12))
    reports = []
    open_dataset(made, reports.append)
    (warning,) = [str(report) for report in reports if report.severity == "warning"]
    assert "c03 (the rims of a team hold no square of 10 voxels" in warning
    assert {row["case"] for row in sources(made)} == {f"c{number:02d}" for number in range(12) if number != 3}


def test_narrow_rims_are_mirrored_into_the_seam(tmp_path):
    write_crops(tmp_path / "crops", 12, (5, 44, 23), 6)  # a rim of 5 voxels beside the object, of 16 above
    dataset, source = mosaic(tmp_path / "mosaic"), open_dataset(tmp_path / "crops", options=OPTIONS)
    for row in sources(tmp_path / "mosaic"):
        canvas, crop = read_case(dataset[row["canvas"]], dataset), read_case(source[row["case"]], source)
        own = canvas.image.array[0][canvas.label_map == int(row["object"])]
        np.testing.assert_array_equal(np.sort(own), np.sort(crop.image.array[0][crop.label_map > 0]))


def test_crops_of_another_spacing_are_resampled(tmp_path, crops):
    dataset = mosaic(tmp_path / "mosaic", spacing=(1.0, 1.0, 1.0), canvas=(20, 80, 80))
    sizes = {tuple(np.diff(read_case(case, dataset).instances.boxes, axis=1)[0, 0]) for case in dataset.cases}
    assert sizes == {(10.0, 11.0, 11.0)}  # 5 planes of 2 mm, a diameter of 11 mm


def test_sources_with_folds_of_their_own_or_in_2d_are_refused(tmp_path, crops):
    (crops / "splits.json").write_text(json.dumps([{"train": ["c00"], "val": ["c01"]}]))
    with pytest.raises(ValueError, match=r"prescribes folds or test cases"):
        mosaic(tmp_path / "mosaic")
    for folder in ("images", "labels"):
        picture = Image(np.ones((1, 8, 10), np.uint8), Geometry.plain((8, 10)))
        write_image(tmp_path / "flat" / folder / "a.png", picture)
    with pytest.raises(ValueError, match=r"have 2 axes and 1 channels; a mosaic needs volumes"):
        mosaic(tmp_path / "other", source="../flat", options=("values=instances",))


@pytest.mark.data
def test_real_nodules_make_a_mosaic(tmp_path, data):
    options = ("values=instances", "class_column=Malignancy_value", "class_from=3", "modality=CT")
    real, some = data / "lidc_nodules", tmp_path / "crops"
    for folder in ("image", "nodule_mask"):
        (some / folder).mkdir(parents=True)
        for file in sorted((real / folder).iterdir())[:40]:
            (some / folder / file.name).symlink_to(file)
    with (real / "meta.csv").open() as file:
        (some / "meta.csv").write_text("".join(next(file) for _ in range(41)))
    made = make_mosaic(tmp_path / "mosaic", Mosaic(source="../crops", options=options, canvases=2))
    dataset = open_dataset(made)
    assert len(dataset.cases) == 8
    for case in dataset.cases:
        loaded = read_case(case, dataset)
        assert loaded.image.geometry.shape == (32, 160, 160)
        assert 1 <= len(loaded.instances) <= 4
        np.testing.assert_array_equal(tight_boxes(loaded.label_map)[1], loaded.instances.boxes)
        assert loaded.image.array.min() >= -1500  # blending noise makes no values that CT does not have
