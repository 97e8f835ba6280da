"""Which folders a command may write into: what is there already is never mixed with its output."""

import pytest

from boxel.output_folder import check_empty, check_file, claimed, unfinished

JOB = {"--to": "csv", "limits": (1, 2)}


def test_a_folder_is_claimed_before_the_first_file_and_again_for_the_same_job(tmp_path):
    out = tmp_path / "new" / "out"
    for _ in range(2):
        with claimed(out, "convert", JOB), claimed(out, "convert", JOB):  # as by a second process
            (out / "a.csv").write_text("a")
    assert (out / "a.csv").exists()


def test_other_output_is_refused_and_the_message_says_what_differs(tmp_path):
    with claimed(tmp_path, "convert", JOB, source="here"):
        pass
    with pytest.raises(ValueError, match=r'for here with --to "csv" instead of "coco"; choose another folder'):
        claimed(tmp_path, "convert", JOB | {"--to": "coco"}, source="there").__enter__()
    with pytest.raises(ValueError, match="holds the output of `boxel convert`; choose a new or empty folder"):
        claimed(tmp_path, "predict", JOB).__enter__()
    (tmp_path / ".boxel").write_text("[]")
    with pytest.raises(ValueError, match="not a record of Boxel"):
        claimed(tmp_path, "convert", JOB).__enter__()


@pytest.mark.parametrize("name", ["CASE_seg.nii.gz", "raw", "metrics.json"])
def test_a_folder_of_the_user_is_refused_and_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"holds {name}, which `boxel predict` did not write there"):
        claimed(tmp_path, "predict").__enter__()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(ValueError, match="is a file; choose a folder"):
        claimed(tmp_path / name, "predict").__enter__()


def test_hidden_files_of_the_system_do_not_count(tmp_path):
    (tmp_path / ".DS_Store").write_text("")
    check_empty(tmp_path, "predict")


def test_an_error_leaves_a_claim_only_where_there_is_output(tmp_path):
    def fail(*files):
        with claimed(tmp_path / "out", "evaluate"):
            for file in files:
                (tmp_path / "out" / file).write_text("")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not (tmp_path / "out").exists()
    with pytest.raises(ZeroDivisionError):
        fail("metrics.json")
    with claimed(tmp_path / "out", "evaluate"):
        pass


def test_only_a_file_of_the_same_command_is_replaced(tmp_path):
    page = tmp_path / "page.html"
    check_file(page, "<!-- boxel -->", "report")
    page.write_text("<!-- boxel --> text")
    check_file(page, "<!-- boxel -->", "report")
    page.write_text("mine")
    with pytest.raises(ValueError, match="`boxel report` did not write it"):
        check_file(page, "<!-- boxel -->", "report")
    with pytest.raises(ValueError, match="is a folder"):
        check_file(tmp_path, "<!-- boxel -->", "report")


def test_a_folder_knows_which_cases_an_interrupted_command_lacks(tmp_path):
    def stop():
        with claimed(tmp_path, "predict", JOB, cases=["a", "b"]):
            (tmp_path / "a.json").write_text("{}")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    with claimed(tmp_path, "predict", JOB, cases=["c"]):  # another part, into the same folder
        pass
    warning = unfinished(tmp_path, ["a", "c"])
    assert f"{tmp_path}: unfinished: 1 of 3 images are missing (b); rerun" in warning
    assert unfinished(tmp_path, ["a", "b", "c"]) == unfinished(tmp_path, ["a", "c"], among=["a", "c"]) == ""
    assert unfinished(tmp_path / "nowhere", []) == unfinished(tmp_path / "a.json", []) == ""
    (tmp_path / ".boxel").write_text('{"verb": "predict", "source": "", "job": {}}')  # of an earlier version
    assert unfinished(tmp_path, []) == ""
