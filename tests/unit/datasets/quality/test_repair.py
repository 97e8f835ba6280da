"""The repaired copy: it is a data set when it is complete, and an interrupted one continues."""

import json
from contextlib import suppress

import pytest

from boxel.datasets.formats import open_dataset
from boxel.datasets.quality import repair as module
from boxel.datasets.quality.check import examine
from boxel.datasets.quality.repair import repair


def copy_of(native, out, **settings):
    found = examine(native, workers=0)
    return repair(found.dataset, found.findings, out, workers=0, **settings)


def content(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".boxel"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class Stopped(BaseException):
    pass


def stop_at(monkeypatch, place, name, number):
    """Stop at the call `number` of a function, as a kill would; returns what it was called with."""
    calls, function = [], getattr(place, name)

    def counting(*args, **kwargs):
        calls.append(args)
        if len(calls) == number:
            raise Stopped
        return function(*args, **kwargs)

    monkeypatch.setattr(place, name, counting)
    return calls


@pytest.mark.parametrize(("name", "number"), [("write_case", 2), ("write_splits", 1), ("write_dataset", 1)])
def test_an_interrupted_copy_is_no_data_set_and_continues(native, tmp_path, monkeypatch, name, number):
    (native / "splits.json").write_text(json.dumps([{"train": ["a", "b"], "val": ["c"], "test": ["d"]}]))
    copy_of(native, tmp_path / "whole")
    stop_at(monkeypatch, module, name, number)
    with pytest.raises(Stopped):
        copy_of(native, tmp_path / "out")
    with pytest.raises(ValueError, match="out: "):
        open_dataset(tmp_path / "out")
    again = stop_at(monkeypatch, module, "write_case", -1)
    copy_of(native, tmp_path / "out")
    assert len(again) == (3 if name == "write_case" else 0)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    copy_of(native, tmp_path / "out")
    assert len(again) == (3 if name == "write_case" else 0)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_copy_that_was_interrupted_while_it_moved_to_its_place_continues(native, tmp_path, monkeypatch, number):
    copy_of(native, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(patch, module.os, "replace", 9 + number)
        with suppress(Stopped):
            copy_of(native, tmp_path / "out")
    copy_of(native, tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert not (tmp_path / "out" / ".unfinished").exists()


def test_a_copy_of_another_state_of_the_data_set_is_not_continued(native, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, module, "write_case", 2)
        with pytest.raises(Stopped):
            copy_of(native, tmp_path / "out")
    annotation = native / "labelsTr" / "a.json"
    annotation.write_text(annotation.read_text() + " ")
    with pytest.raises(ValueError, match=r"with its state .* choose another folder with --fix"):
        copy_of(native, tmp_path / "out")


def test_a_copy_that_lacks_a_file_is_not_given_out(native, tmp_path, monkeypatch):
    monkeypatch.setattr("boxel.datasets.formats.native_writer.write_label_map", lambda *_: None)
    with pytest.raises(ValueError, match=r"label map|not complete"):
        copy_of(native, tmp_path / "out")
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_patients_of_a_copy_have_pseudonyms_unless_they_are_to_be_kept(native, tmp_path):
    head = json.loads((native / "dataset.json").read_text())
    (native / "dataset.json").write_text(json.dumps(head | {"groups": {"a": "Jane Roe", "b": "Jane Roe", "c": "X"}}))
    copy_of(native, tmp_path / "out")
    groups = json.loads((tmp_path / "out" / "dataset.json").read_text())["groups"]
    assert groups["a"] == groups["b"] != groups["c"]
    assert all(b"Jane Roe" not in file for file in content(tmp_path / "out").values())
    assert not list((tmp_path / "out").glob(".boxel.salt"))
    copy_of(native, tmp_path / "kept", keep_identifiers=True)
    assert json.loads((tmp_path / "kept" / "dataset.json").read_text())["groups"]["a"] == "Jane Roe"
