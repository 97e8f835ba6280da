"""Which images `predict` takes, and what it calls them."""

import json

import numpy as np
import pytest
from PIL import Image as Picture

from boxel.api.channel_files import RunImages
from boxel.api.prediction_inputs import find_images, images_of
from boxel.api.run import RunSplit
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.io import write_image
from boxel.io.channels import fit_image
from boxel.types import Geometry, Image
from tests.unit.builders import make_task

GREY, COLOUR = RunImages(("grey",), 2), RunImages(("red", "green", "blue"), 2)
CT, TWO = RunImages(("CT",), 3), RunImages(("T1", "T2"), 3)


def picture(path, value=0, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full((8, 9, 3), value, np.uint8) + np.arange(3, dtype=np.uint8)
    Picture.fromarray(array if channels == 3 else array[..., 0]).save(path)
    return path


def volume(path, value=0.0, channels=1):
    write_image(path, Image(np.full((channels, 4, 5, 6), value, np.float32), Geometry.plain((4, 5, 6))))
    return path


def names(images):
    return {case: sorted(path.name for path in one.channels) for case, one in images.cases.items()}


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
@pytest.mark.parametrize("first", [0, 1, 7])
def test_numbered_pictures_are_not_channels(tmp_path, channels, first):
    numbers = range(first, first + 3)
    for number in numbers:
        picture(tmp_path / f"IMG_{number:04d}.png", number, channels)
    images = find_images([tmp_path], COLOUR if channels == 3 else GREY)
    assert names(images) == {f"IMG_{n:04d}": [f"IMG_{n:04d}.png"] for n in numbers}
    for number in numbers:
        array = images.read(f"IMG_{number:04d}").array
        assert array[:, 0, 0].tolist() == [number + i for i in range(channels)]


def test_grey_pictures_of_a_colour_run_have_three_equal_channels(tmp_path):
    for number in range(3):
        picture(tmp_path / f"IMG_{number:04d}.png", number)
    images = find_images([tmp_path], COLOUR)
    assert len(images.cases) == 3
    assert images.read("IMG_0002").array[:, 0, 0].tolist() == [2, 2, 2]


def test_colours_in_files_of_their_own_are_one_case_where_the_run_has_such_files(tmp_path):
    for number in range(3):
        picture(tmp_path / f"a_{number:04d}.png", 10 * number)
    images = find_images([tmp_path], RunImages(COLOUR.channels, 2, numbered=True))
    assert images.read("a").array[:, 0, 0].tolist() == [0, 10, 20]


@pytest.mark.parametrize(
    ("files", "run", "expected"),
    [
        (["scan_0011", "scan_0012"], CT, {"scan_0011", "scan_0012"}),
        (["scan_0011_0000", "scan_0012_0000"], CT, {"scan_0011", "scan_0012"}),
        (["scan_0000", "scan_0001"], CT, {"scan_0000", "scan_0001"}),
        (["scan_0000"], CT, {"scan"}),
        (["scan_0000"], RunImages(("CT",), 3, numbered=True), {"scan"}),
        (["scan_0000"], RunImages(("CT",), 3, numbered=False), {"scan_0000"}),
        (["a_0000", "b_0000"], RunImages(("CT",), 3, numbered=False), {"a", "b"}),
        (["a_0000", "b_0001"], CT, {"a_0000", "b_0001"}),
        (["a_0000", "a_0001", "b_0000", "b_0001"], TWO, {"a", "b"}),
        (["a b.c", "Ä_ü", "v1.2_0003"], CT, {"a b.c", "Ä_ü", "v1.2_0003"}),
    ],
)
@pytest.mark.parametrize("by_name", [False, True], ids=["folder", "files"])
def test_names_are_those_that_an_evaluation_expects(tmp_path, files, run, expected, by_name):
    paths = [volume(tmp_path / f"{name}.nii.gz") for name in files]
    assert set(find_images(paths if by_name else [tmp_path], run).cases) == expected


@pytest.mark.parametrize("label", ["scan_0000", "scan"])
@pytest.mark.parametrize("numbered", [None, True, False])
def test_label_maps_beside_the_images_say_what_a_case_is_called(tmp_path, label, numbered):
    for folder, name in (("imagesTs", "scan_0000"), ("labelsTs", label)):
        (tmp_path / folder).mkdir()
        volume(tmp_path / folder / f"{name}.nii.gz")
    assert list(find_images([tmp_path / "imagesTs"], RunImages(("CT",), 3, numbered)).cases) == [label]


def test_one_file_can_hold_all_channels(tmp_path):
    for number in range(2):
        volume(tmp_path / f"a_{number:04d}.mha", number, channels=2)
    images = find_images([tmp_path], TWO)
    assert names(images) == {"a_0000": ["a_0000.mha"], "a_0001": ["a_0001.mha"]}
    assert (images.read("a_0001").array == 1).all()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a_0000", "a_0001", "b_0000"], r"b_0000.*case 'b' has no channel 1 \(T2\); add the file b_0001"),
        (["a_0001"], r"case 'a' has no channel 0 \(T1\); add the file a_0000"),
        (["a_0000", "a_0001", "a_0002"], r"a_0002.*'a' has 3 files, the run takes 2 channels \(T1, T2\)"),
    ],
)
def test_a_case_without_all_its_channels_is_an_error(tmp_path, files, message):
    for name in files:
        volume(tmp_path / f"{name}.nii.gz")
    with pytest.raises(ValueError, match=message):
        find_images([tmp_path], TWO)


def test_an_image_with_other_channels_or_axes_names_its_file(tmp_path):
    images = find_images([volume(tmp_path / "a.nii.gz")], TWO)
    with pytest.raises(ValueError, match=r"a\.nii\.gz: has 1 channel, the detector takes 2: T1, T2; give each"):
        images.read("a")
    images = find_images([picture(tmp_path / "b.png")], CT)
    with pytest.raises(ValueError, match=r"b\.png: has 2 axes .* takes images of 3"):
        images.read("b")
    images = find_images([picture(tmp_path / "c.png", channels=3)], GREY)
    with pytest.raises(ValueError, match=r"c\.png: has 3 channels.*save a grey image"):
        images.read("c")


def test_a_colour_picture_of_grey_is_grey(tmp_path):
    image = Image(np.full((3, 4, 4), 9, np.float32), Geometry.plain((4, 4)))
    assert fit_image(image, ("grey",), 2, tmp_path / "a.png").array.shape == (1, 4, 4)


def test_files_of_operating_systems_are_ignored_and_other_files_are_named(tmp_path):
    picture(tmp_path / "a.png")
    for name in ("._a.png", "Thumbs.db", ".DS_Store", "desktop.ini", "notes.txt"):
        (tmp_path / name).write_bytes(b"\0\5\26\7")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "._a.png").touch()
    images = find_images([tmp_path], GREY)
    assert list(images.cases) == ["a"]
    assert str(images) == "1 image; 1 left out (not images: notes.txt)"


def test_two_images_of_one_name_keep_their_suffix(tmp_path):
    picture(tmp_path / "a.png", 1)
    picture(tmp_path / "a.bmp", 2)
    images = find_images([tmp_path], GREY)
    assert {case: images.read(case).array.flat[0] for case in images.cases} == {"a_png": 1, "a_bmp": 2}


def test_folders_are_searched_and_kept_in_names_where_stems_repeat(tmp_path):
    for value, name in enumerate(("p1/001.png", "p2/001.png", "p2/deep/er/002.png", "003.png")):
        picture(tmp_path / name, value)
    (tmp_path / "p3").mkdir()
    (tmp_path / "p1" / "link").symlink_to(tmp_path)  # a circle
    picture(tmp_path / "p2" / "masks" / "001.png")
    images = find_images([tmp_path], GREY)
    values = {case: images.read(case).array.flat[0] for case in images.cases}
    assert values == {"p1_001": 0, "p2_001": 1, "002": 2, "003": 3}
    assert str(images) == "4 images in 4 folders; 1 left out (label maps: p2/masks/)"
    several = find_images([tmp_path / "p1", tmp_path / "p2" / "001.png"], GREY, skip=tmp_path / "p1" / "link")
    assert set(several.cases) == {"p1_001", "p2_001"}


def test_results_in_the_folder_of_the_images_are_not_images(tmp_path):
    for name in ("a.png", "out/a_seg.png", "older/a_seg.png"):
        picture(tmp_path / name)
    (tmp_path / "older" / "raw").mkdir()
    (tmp_path / "older" / "raw" / "a.npz").touch()
    images = find_images([tmp_path], GREY, skip=tmp_path / "out")
    assert names(images) == {"a": ["a.png"]}
    assert images.left_out == {"predictions": ["older/"]}


def test_a_file_that_is_given_twice_is_one_case(tmp_path):
    file = picture(tmp_path / "a.png")
    assert len(find_images([file, tmp_path / "." / "a.png", tmp_path], GREY).cases) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.png", "no such file"), ("notes.txt", "notes.txt: not an image"), ("empty", "no image to predict")],
)
def test_what_holds_no_image_is_explained(tmp_path, name, message):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        find_images([tmp_path / name], GREY)


def test_a_data_set_gives_its_cases(native, ndim):
    run = RunImages(("CT",), ndim)
    images = find_images([native], run)
    assert set(images.cases) == {"a", "b", "c", "d"}
    assert images.read("a").array.shape[0] == 1
    assert "4 cases of the data set" in str(images)
    assert set(find_images([native / "imagesTs"], run).cases) == {"d"}


def test_images_beside_those_of_a_data_set_are_said(tmp_path):
    shape = (8, 8)
    for case in ("a", "b"):
        image = Image(np.zeros((1, *shape), np.float32), Geometry.plain(shape))
        write_case(tmp_path, case, image, np.zeros(shape, np.uint8), {})
    write_dataset(tmp_path, "small", 2, ["thing"], ["grey"])
    picture(tmp_path / "imagesTs" / "c_0000.png")
    images = find_images([tmp_path], GREY)
    assert set(images.cases) == {case.id for case in open_dataset(tmp_path).cases} == {"a", "b"}
    assert images.left_out == {"not in the data set": ["imagesTs/c_0000.png"]}


def test_pictures_with_their_label_maps_in_one_folder_are_the_cases_of_the_data_set(tmp_path):
    for name in ("a_raw.png", "a_instances.png", "b_raw.png", "b_instances.png", "c.png"):
        picture(tmp_path / name)
    assert names(find_images([tmp_path], GREY)) == {"a": ["a_raw.png"], "b": ["b_raw.png"], "c": ["c.png"]}


def test_pictures_beside_a_damaged_annotation_are_predicted(tmp_path, caplog):
    picture(tmp_path / "a.png")
    (tmp_path / "coco.json").write_text('{"images": [{"id": 1}], "annotations": [], "categories": []}')
    assert list(find_images([tmp_path], GREY).cases) == ["a"]
    assert "coco.json" in caplog.text
    assert "predicted without their annotations" in caplog.text


@pytest.mark.parametrize(
    ("file", "numbered"),
    [("c1_0000.nii.gz", True), ("c1.nii.gz", False), ("scan_0001.png", False), ("gone", None)],
)
def test_a_run_knows_from_its_prepared_cases_whether_files_are_numbered(tmp_path, file, numbered):
    case = "scan_0001" if "scan" in file else "c1"
    (tmp_path / "cases").mkdir()
    if file != "gone":
        (tmp_path / "cases" / f"{case}.json").write_text(f'{{"files": ["/data/{file}"]}}')
    split = RunSplit(train=(case,), val=(), work=str(tmp_path), fold=0)
    task = make_task(2)
    assert RunImages.of(task, split) == RunImages(task.channels, 2, numbered)


@pytest.mark.parametrize("link", ["a_link", "z_link"])
def test_images_that_a_data_set_uses_by_a_link_are_not_said_to_be_left_out(tmp_path, link):
    root, store = tmp_path / "set", tmp_path / "store"
    picture(store / "a.png", 7)
    values = {"images": [{"id": 1, "file_name": "images/a.png"}], "annotations": [], "categories": []}
    root.mkdir()
    (root / "annotations.json").write_text(json.dumps(values))
    (root / "images").symlink_to(store)
    (root / link).symlink_to(store)
    images = images_of(open_dataset(root), RunImages(("grey",), 2))
    assert list(images.cases) == ["a"]
    assert (images.read("a").array == 7).all()
    assert images.left_out == {}


@pytest.mark.parametrize("listed", [False, True], ids=["folder", "files"])
def test_a_label_map_beside_its_image_is_not_predicted_which_is_said(tmp_path, listed):
    names_of_files = ("p/1/a", "p/1/a_label", "p/1/b_0000", "p/1/b-seg", "p/2/c_label", "q/d")
    files = [picture(tmp_path / f"{name}.png") for name in names_of_files]
    images = find_images(files if listed else [tmp_path], GREY)
    predicted = sorted(path for paths in names(images).values() for path in paths)
    assert predicted == ["a.png", "b_0000.png", "c_label.png", "d.png"]
    (left_out,) = images.left_out.values()
    assert list(images.left_out) == ["label maps"]
    assert sorted(name.rpartition("/")[2] for name in left_out) == ["a_label.png", "b-seg.png"]


@pytest.mark.parametrize("word", ["ROI", "lesion", "tumor", "contour", "gt", "ground_truth"])
@pytest.mark.parametrize(
    ("files", "predicted"),
    [
        (("a", "a_WORD", "b_WORD"), ["a", "b_WORD"]),
        (("a_ct", "a-WORD", "c"), ["a_ct", "c"]),
        (("a", "a_WORD_mask", "WORD_mask_a", "WORD_mask_b"), ["WORD_mask_b", "a"]),
        (("img001", "WORD001", "WORD002"), ["WORD002", "img001"]),
        (("p/x/images/a", "p/x/WORD/a", "p/x/WORD/b", "q/WORD/a"), ["p/x/WORD/b", "p/x/images/a", "q/WORD/a"]),
        (("WORD_free/a", "a"), ["WORD_free/a", "a"]),
    ],
)
def test_only_a_label_map_whose_image_is_there_is_left_out_which_is_said(tmp_path, word, files, predicted):
    files = [file.replace("WORD", word) for file in files]
    for file in files:
        picture(tmp_path / f"{file}.png")
    images = find_images([tmp_path], GREY)
    cases = {str(path.relative_to(tmp_path)) for case in images.cases.values() for path in case.channels}
    expected = {f"{file.replace('WORD', word)}.png" for file in predicted}
    assert cases == expected
    assert set(images.left_out.get("label maps", ())) == {f"{file}.png" for file in files} - expected


def test_a_folder_that_is_called_like_label_maps_is_predicted_if_it_is_given_itself(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"lesion/{name}.png")
        picture(tmp_path / f"images/{name}.png")
    assert len(find_images([tmp_path / "lesion"], GREY).cases) == 2
