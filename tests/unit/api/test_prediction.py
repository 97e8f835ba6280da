"""Which cases `predict` takes, which files of an earlier call may be kept, and which must not be overwritten."""

import pytest

import boxel
from boxel.api.case_prediction import is_done
from boxel.api.chosen_cases import chosen_cases
from boxel.api.prediction import _write_formats
from boxel.api.run import RunSplit

STAMP = {"detector": "abc", "source": []}


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"', '{"extra": [1]}', '{"extra": "text"}'])
def test_a_file_that_is_no_prediction_is_named_and_kept(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"a\.json: exists but is not a prediction"):
        is_done(path, STAMP)
    assert path.read_text() == content


@pytest.mark.parametrize(
    ("content", "done"),
    [
        ('{"extra": {"detector": "abc", "source": []}}', True),
        ('{"extra": {"detector": "other", "source": []}}', False),
        ('{"extra": null}', False),
        ("{}", False),
    ],
)
def test_an_image_is_predicted_again_unless_the_stamp_is_the_same(tmp_path, content, done):
    (tmp_path / "a.json").write_text(content)
    assert is_done(tmp_path / "a.json", STAMP) is done
    assert not is_done(tmp_path / "missing.json", STAMP)


def test_only_the_chosen_cases_of_a_part_are_predicted(tmp_path):
    RunSplit(train=("a", "b", "c"), val=("d",), work="work", fold=0).save(tmp_path / "split.json")
    files = {case: [tmp_path / case] for case in "abcd"}
    assert [*chosen_cases(files, [tmp_path], "train", ["c", "a"])] == ["a", "c"]
    assert [*chosen_cases(files, [tmp_path], "train", None)] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="case 'd' is not among"):
        chosen_cases(files, [tmp_path], "train", ["d"])
    for wrong in ([], "abc"):
        with pytest.raises(ValueError, match="give a list of one or more names"):
            chosen_cases(files, [tmp_path], "train", wrong)


def test_a_format_that_cannot_be_written_does_not_keep_the_others_from_it(tmp_path):
    def refuse(folder, predictions):
        raise ValueError("case 'a': its image is no DICOM series")

    def write(folder, predictions):
        folder.mkdir()

    with pytest.raises(ValueError, match=r"^--to dicom-seg: case 'a': its image is no DICOM series$"):
        _write_formats({"dicom-seg": refuse, "preview": write}, tmp_path, [])
    assert [path.name for path in tmp_path.iterdir()] == ["preview"]


@pytest.mark.parametrize("setting", ["train.lr=3", "plan.spacing=[2,2]", "seed=1"])
def test_a_setting_without_effect_on_a_trained_detector_is_refused(setting, tmp_path):
    with pytest.raises(ValueError, match=r"^[a-z.]+: has no effect on a trained detector; leave it out, or train"):
        boxel.load(tmp_path, overrides=[setting])
