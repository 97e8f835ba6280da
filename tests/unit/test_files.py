"""Files appear whole or not at all, are never written through a link, and a kill leaves nothing that stays."""

import os
import subprocess
import sys

import numpy as np
import pytest

from boxel import files
from boxel.files import open_to_append, remove_temporaries, temporary_beside, write_bytes, write_text, writing
from boxel.io import write_label_map
from boxel.types import Geometry


def write_map(path):
    write_label_map(path, np.ones((2, 2, 2), np.uint8), Geometry.plain((2, 2, 2)))


@pytest.mark.parametrize(
    "write", [lambda path: write_text(path, "new"), lambda path: write_bytes(path, b"new"), write_map]
)
def test_a_link_at_the_place_of_a_file_is_replaced_and_its_target_stays(tmp_path, write):
    target, path = tmp_path / "private", tmp_path / "out" / "a.nii.gz"
    target.write_text("mine")
    path.parent.mkdir()
    path.symlink_to(target)
    write(path)
    assert target.read_text() == "mine"
    assert not path.is_symlink()
    assert [file.name for file in path.parent.iterdir()] == ["a.nii.gz"]


def test_nothing_is_appended_through_a_link(tmp_path):
    (tmp_path / "log").symlink_to(tmp_path / "private")
    with pytest.raises(ValueError, match="log: is a link"):
        open_to_append(tmp_path / "log")
    assert not (tmp_path / "private").exists()


def test_a_temporary_name_that_is_taken_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(files.secrets, "token_hex", lambda number: "0" * 16)
    first, descriptor = temporary_beside(tmp_path / "a")
    os.close(descriptor)
    first.unlink()
    first.symlink_to(tmp_path / "private")
    with pytest.raises(OSError, match=r"File exists: '.*/a'"):
        write_text(tmp_path / "a", "new")
    assert not (tmp_path / "private").exists()


def test_an_error_leaves_the_file_as_it_was(tmp_path):
    write_text(tmp_path / "a", "old")

    def fail():
        with writing(tmp_path / "a", ".txt") as temporary:
            assert temporary.suffix == ".txt"
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_names_of_any_length_that_the_system_allows_can_be_written(tmp_path):
    write_text(tmp_path / ("x" * 255), "text")


def test_what_a_killed_process_left_is_removed_and_what_others_write_is_not(tmp_path):
    code = "import os, pathlib; from boxel.files import temporary_beside; temporary_beside(pathlib.Path('raw/a'))"
    (tmp_path / "raw").mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    own, descriptor = temporary_beside(tmp_path / "b")
    os.close(descriptor)
    elsewhere = [tmp_path / f".boxel-00000000-1-{number:016x}.tmp.nii.gz" for number in range(2)]
    for file in (*elsewhere, tmp_path / ".mine.tmp"):
        file.touch()
    os.utime(elsewhere[0], (0, 0))
    assert len(list((tmp_path / "raw").iterdir())) == 1
    remove_temporaries(tmp_path)
    assert not list((tmp_path / "raw").iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"raw", ".mine.tmp", own.name, elsewhere[1].name}
