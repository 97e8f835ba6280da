"""Which files of an earlier `predict` may be kept, and which must not be overwritten."""

import pytest

from boxel.api.case_prediction import is_done

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
