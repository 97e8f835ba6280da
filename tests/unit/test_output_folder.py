"""Which folders a command may write into: what is there already is never mixed with its output."""

import os

import pytest

from boxel import output_folder
from boxel.output_folder import case_file, check_empty, check_file, claimed, list_files, unfinished

JOB = {"--to": "csv", "limits": (1, 2)}


def test_a_folder_is_claimed_before_the_first_file_and_again_for_the_same_job(tmp_path):
    out = tmp_path / "new" / "out"
    for _ in range(2):
        with claimed(out, "convert", JOB):
            (out / "a.csv").write_text("a")
    assert sorted(path.name for path in out.iterdir()) == [".boxel", "a.csv"]


def test_one_process_works_in_a_folder_unless_each_has_cases_of_its_own(tmp_path):
    with claimed(tmp_path, "predict", JOB), pytest.raises(ValueError, match="in use by `boxel predict`"):
        claimed(tmp_path, "predict", JOB).__enter__()
    with claimed(tmp_path, "predict", JOB, shared=True), claimed(tmp_path, "predict", JOB, shared=True):
        pass


def test_a_link_in_an_output_folder_is_refused(tmp_path):
    (tmp_path / "private").mkdir()
    with claimed(tmp_path / "out", "predict", JOB):
        (tmp_path / "out" / "raw").symlink_to(tmp_path / "private")
    with pytest.raises(ValueError, match="raw: is a link, and nothing is written through links"):
        claimed(tmp_path / "out", "predict", JOB).__enter__()
    with pytest.raises(ValueError, match="choose another folder with --fix"):
        claimed(tmp_path / "out", "predict", JOB, option="--fix").__enter__()


def test_other_output_is_refused_and_the_message_says_what_differs(tmp_path):
    with claimed(tmp_path, "convert", JOB, source="here"):
        pass
    with pytest.raises(ValueError, match=r'for here with --to "csv" instead of "coco"; choose another folder'):
        claimed(tmp_path, "convert", JOB | {"--to": "coco"}, source="there").__enter__()
    with pytest.raises(ValueError, match="holds the output of `boxel convert`; choose a new or empty folder"):
        claimed(tmp_path, "predict", JOB).__enter__()
    (tmp_path / ".boxel").write_text("[]")
    with pytest.raises(ValueError, match=r"\.boxel: its content must be a mapping .*; choose a new"):
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


def test_what_a_killed_command_left_beside_its_file_is_removed_and_nothing_in_other_folders(tmp_path):
    (tmp_path / "other").mkdir()
    left = [folder / f".boxel-00000000-1-{0:016x}.tmp" for folder in (tmp_path, tmp_path / "other")]
    for file in left:
        file.touch()
        os.utime(file, (0, 0))
    check_file(tmp_path / "page.html", "<!-- boxel -->", "report")
    assert [file.exists() for file in left] == [False, True]


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
    assert f"{tmp_path}: unfinished: 1 of 3 images is missing (b); rerun" in warning
    assert unfinished(tmp_path, ["a", "b", "c"]) == unfinished(tmp_path, ["a", "c"], among=["a", "c"]) == ""
    assert unfinished(tmp_path / "nowhere", []) == unfinished(tmp_path / "a.json", []) == ""
    (tmp_path / ".boxel").write_text('{"verb": "predict", "source": "", "job": {}}')  # of an earlier version
    assert unfinished(tmp_path, []) == ""


def test_processes_that_begin_at_the_same_time_share_a_folder_for_one_job_only(tmp_path):
    """Ten processes each with their own file; one in three has another job and is refused or refuses the others."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    start = Barrier(9)

    def work(number):
        start.wait()
        try:
            with claimed(tmp_path / "out", "predict", {"setting": number % 3 == 0}, shared=True):
                (tmp_path / "out" / f"{number}.txt").touch()
        except ValueError as error:
            return str(error)
        return number % 3 == 0

    with ThreadPoolExecutor(9) as pool:
        results = list(pool.map(work, range(9)))
    refused = [result for result in results if isinstance(result, str)]
    assert all("instead of" in message for message in refused)
    assert len(refused) in (3, 6)
    assert len({*results} - {*refused}) == 1
    assert len(list((tmp_path / "out").glob("*.txt"))) == 9 - len(refused)
    assert {path.suffix for path in (tmp_path / "out").glob("*")} == {".txt", ""}


def test_a_shared_folder_stays_claimed_after_an_error(tmp_path):
    with pytest.raises(KeyError), claimed(tmp_path / "out", "predict", {}, shared=True):
        raise KeyError
    with claimed(tmp_path / "out", "predict", {}):
        pass
    with pytest.raises(ValueError, match="holds the output of `boxel predict`"), claimed(tmp_path / "out", "convert"):
        pass


@pytest.mark.parametrize("total", [3, 4])
def test_the_files_of_many_cases_are_in_subfolders_and_are_listed_by_name(tmp_path, monkeypatch, total):
    monkeypatch.setattr(output_folder, "MANY", 3)
    names = ["b", "a", "d", "c"][:total]
    for name in names:
        path = case_file(tmp_path, name, ".json", total)
        assert path.parent.parent == tmp_path if total > 3 else path.parent == tmp_path
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert [path.stem for path in list_files(tmp_path, ".json")] == sorted(names)
    for other in (1, 10):  # a file stays where it is when cases are added
        assert case_file(tmp_path, "a", ".json", other).exists()
    with pytest.raises(ValueError, match="cannot be the name of a file"):
        case_file(tmp_path, "../a", ".json")
