"""Which file an annotation means: exact before approximate, and never one of several."""

import unicodedata

import pytest

from boxel.datasets.lookup import Lookup
from boxel.datasets.names import as_id, case_ids, split_word
from boxel.datasets.problems import InputError


@pytest.fixture
def make(tmp_path):
    """Create files below a folder, and look names up there."""

    def lookup(*files, reports=None, **options):
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        found = Lookup(tmp_path, ([] if reports is None else reports).append, **options)
        return lambda name: str(found.find(name, tmp_path / "a.json").relative_to(tmp_path))

    return lookup


@pytest.mark.parametrize(
    ("files", "name", "right"),
    [
        (["images/a.png", "masks/a.png"], "a.png", "images/a.png"),
        (["a.png", "deep/er/a.png"], "a.png", "a.png"),
        (["x/images/a.png"], "images/a.png", "x/images/a.png"),
        (["images/a.png"], r"images\a.png", "images/a.png"),
        (["images/a.png", "masks/a.png"], r"D:\data\images\a.png", "images/a.png"),
        (["scans/a.png", "masks/a.png"], "/home/me/scans/a.png", "scans/a.png"),
        (["a.png", "a.jpg"], "a.jpg", "a.jpg"),
        (["x/a.png", "x/a.jpg"], "a.jpg", "x/a.jpg"),
        (["x/A.PNG"], "a.png", "x/A.PNG"),
        (["x/a.PNG", "x/A.png"], "A.png", "x/A.png"),
        (["images/1.2.3.nii.gz"], "1.2.3", "images/1.2.3.nii.gz"),
        (["x/._a.png", "y/a.png", ".hidden/a.png", "__MACOSX/a.png"], "a.png", "y/a.png"),
        (["images/p1/a.png", "images/p2/a.png"], "p2/a.png", "images/p2/a.png"),
        (["x/" + unicodedata.normalize("NFD", "ä.png")], "ä.png", "x/" + unicodedata.normalize("NFD", "ä.png")),
        (["images/0.png"], "train/0.png", "images/0.png"),
        (["scans/a.png", "annotation_masks/a.png"], "a.png", "scans/a.png"),
        (["masks/a.png"], "masks/a.png", "masks/a.png"),
        (["masks/p/a.png"], r"C:\masks\p\a.png", "masks/p/a.png"),
        (["a.png", "x/a.png"], r"..\Export\a.png", "a.png"),
        (["images/a.png", "x/a.png"], "../../Export/a.png", "images/a.png"),
    ],
)
def test_a_name_means_one_file(make, files, name, right):
    assert make(*files)(name) == right


@pytest.mark.parametrize(
    ("files", "name", "says"),
    [
        (["scans/a.png", "again/a.png"], "a.png", r"may be any of again/a.png, scans/a.png; .*--option images=FOLDER"),
        (["masks/p/a.png", "images/p/b.png"], "p/a.png", "'p/a.png' does not exist"),
        (["masks/p/a.png", "images/b.png"], "p/a.png", "'p/a.png' does not exist"),
        (["SegmentationObject/a.png"], "a.png", "'a.png' does not exist"),
        (["other/p/a.png", "images/p/b.png"], "p/a.png", "'p/a.png' does not exist"),
        (["x/a.png", "x/a.jpg"], "a", "may be any of x/a.jpg, x/a.png"),
        (["p1/001.png"], "p2/001.png", "'p2/001.png' does not exist"),
        (["001.png", "p2/002.png"], "../p2/001.png", "'../p2/001.png' does not exist"),
        (["train/0.png"], "val/0.png", "'val/0.png' does not exist"),
        (["a.txt"], "a", "'a' does not exist"),
        ([], "  ", "is not a file name"),
    ],
)
def test_a_name_that_fits_no_file_or_several_is_an_error(make, files, name, says):
    with pytest.raises(InputError, match=says):
        make(*files)(name)


def test_the_part_of_the_annotation_says_in_which_folder_its_images_lie(tmp_path):
    for name in ("train/0.png", "val2017/0.png", "images/val/1.png", "train/2.png", "3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    lookup = Lookup(tmp_path, [].append)
    annotation = tmp_path / "annotations" / "instances_val.json"
    for name, right in (("0.png", "val2017/0.png"), ("1.png", "images/val/1.png"), ("3.png", "3.png")):
        assert lookup.find(name, annotation) == tmp_path / right
    with pytest.raises(InputError, match=r"'2.png' does not exist"):
        lookup.find("2.png", annotation)
    assert lookup.find("2.png", tmp_path / "annotations.json") == tmp_path / "train" / "2.png"


def test_two_names_do_not_share_an_approximate_file(make):
    find = make("images/0.png")
    find("train/0.png")
    with pytest.raises(InputError, match=r"'val/0.png' does not exist; the nearest, .*0.png, belongs to 'train/0.png'"):
        find("val/0.png")
    assert find("train/0.png") == "images/0.png"  # one row per object


def test_an_image_that_was_taken_for_another_is_noticed_when_its_own_name_comes(make):
    find = make("x/a.tif")
    find("x/a.bmp")
    with pytest.raises(InputError, match=r"'x/a.bmp' does not exist; the nearest, .*a.tif, belongs to 'x/a.tif'"):
        find("x/a.tif")


def test_the_folder_of_the_images_can_be_chosen(make):
    assert make("scans/a.png", "masks/a.png", images="scans")("a.png") == "scans/a.png"
    with pytest.raises(InputError, match=r"no such folder; .*--option images=FOLDER"):
        make(images="gone")


def test_another_suffix_is_used_and_reported(make):
    reports = []
    assert make("x/a.png", reports=reports)("a.jpg") == "x/a.png"
    assert [report.problem for report in reports] == ["image 'a.jpg' does not exist; a.png is used instead"]


def test_links_are_followed_once(make, tmp_path):
    find = make("store/deep/a.png")
    (tmp_path / "data set").mkdir()
    (tmp_path / "data set" / "linked").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "loop").symlink_to(tmp_path)
    assert find("deep/a.png").endswith("deep/a.png")
    inner = Lookup(tmp_path / "data set", [].append)
    assert inner.find("a.png", tmp_path / "data set" / "a.json") == tmp_path / "data set" / "linked" / "deep" / "a.png"


def test_images_beside_the_used_ones_that_no_annotation_names_are_reported(tmp_path):
    for name in ("images/a.png", "images/b.png", "other/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    reports = []
    lookup = Lookup(tmp_path, reports.append)
    lookup.find("a.png", tmp_path / "a.json")
    lookup.report_unused()
    assert [(r.severity, r.problem) for r in reports] == [
        ("warning", "1 image is not used without an annotation: images/b.png")
    ]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a.png", "b.png"], ["a", "b"]),
        (["p1/a.png", "p2/a.png", "p1/b.png"], ["p1_a", "p2_a", "b"]),
        (["p1/x/a.png", "p2/x/a.png"], ["p1_x_a", "p2_x_a"]),
        (["a.png", "p/a.png"], ["a", "p_a"]),
        (["a.png", "a.jpg"], ["a_png", "a_jpg"]),
        (["p1/a.png", "p1/a.jpg", "p2/a.png"], ["p1_a_png", "p1_a_jpg", "p2_a"]),
        (["1.2.3", "1.2.4"], ["1.2.3", "1.2.4"]),
    ],
)
def test_cases_are_named_after_their_files_and_where_these_repeat_after_their_folders(tmp_path, files, names):
    assert case_ids([tmp_path / file for file in files], tmp_path) == names


def test_names_that_would_be_one_are_refused(tmp_path):
    with pytest.raises(InputError, match="rename one of them"):
        case_ids([tmp_path / file for file in ("p_a.png", "a.png", "p/a.png")], tmp_path)


@pytest.mark.parametrize(
    ("value", "right"),
    [
        (1, 1),
        (1.0, 1),
        ("1", 1),
        ("1.0", 1),
        (" 2 ", 2),
        ("a", "a"),
        ("007", "007"),
        ("1.5", "1.5"),
        ("-3", -3),
        (0, 0),
        (True, None),
        (None, None),
        (1.5, None),
        (float("nan"), None),
        (float("inf"), None),
        ([], None),
        ("", None),
    ],
)
def test_one_number_has_one_identity_however_it_is_written(value, right):
    assert as_id(value) == right


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("instances_train2017", "train"),
        ("val", "val"),
        ("valid", "val"),
        ("test-set", "test"),
        ("imagesTest", "test"),
        ("latest", ""),
        ("latest_export", ""),
        ("contest", ""),
        ("interval", ""),
        ("train_test", ""),
        ("TEST", "test"),
    ],
)
def test_a_part_of_a_split_is_a_whole_word(name, part):
    assert split_word(name) == part
