"""How a layout is recognised: which files are read, and how often."""

import os
from collections import Counter
from dataclasses import replace

import pytest

from boxel.datasets.formats import formats, open_dataset
from boxel.datasets.formats.registry import recognise
from boxel.inputs import texts
from boxel.inputs.texts import read_bytes

from .test_drawing_tools import CORNERS, labelme, picture, write


def test_a_file_is_read_once_to_recognise_its_layout_and_once_for_its_objects(tmp_path, monkeypatch):
    reads = Counter()

    def counted(path):
        reads[path.name] += 1
        return read_bytes(path)

    for name in "abc":
        picture(tmp_path / f"{name}.png")
        drawn = {"label": "cell", "shape_type": "polygon", "points": CORNERS}
        write(tmp_path / f"{name}.json", labelme(drawn, imagePath=f"{name}.png"))
    monkeypatch.setattr(texts, "read_bytes", counted)
    data = open_dataset(tmp_path)
    assert data.format == "labelme"
    assert reads == {"a.json": 2, "b.json": 2, "c.json": 2}


def test_a_file_that_has_changed_is_recognised_anew(tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "a.json", labelme({"label": "cell", "shape_type": "polygon", "points": CORNERS}))
    assert open_dataset(tmp_path).format == "labelme"
    state = (tmp_path / "a.json").stat()
    write(tmp_path / "a.json", " " * state.st_size)
    os.utime(tmp_path / "a.json", ns=(state.st_atime_ns, state.st_mtime_ns))  # even of the same size and time
    with pytest.raises(ValueError, match="not a data set in a layout that Boxel knows"):
        open_dataset(tmp_path)


def test_images_are_not_read_to_see_whether_they_are_tables(tmp_path, monkeypatch):
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "labels" / "a.png")
    picture(tmp_path / "b.png")
    reads = []
    monkeypatch.setattr(texts, "read_bytes", lambda path: reads.append(path.name) or read_bytes(path))
    assert recognise(tmp_path, list(formats().values()))[0].name == "pairs"
    assert "b.png" not in reads


def test_a_folder_of_several_data_sets_is_refused_and_they_are_listed(tmp_path):
    picture(tmp_path / "drawn" / "a.png")
    write(tmp_path / "drawn" / "a.json", labelme({"label": "cell", "shape_type": "polygon", "points": CORNERS}))
    picture(tmp_path / "cells" / "images" / "a.png")
    picture(tmp_path / "cells" / "masks" / "a.png")
    with pytest.raises(ValueError, match=r"holds several data sets \(cells \(pairs\), drawn \(labelme\)\)"):
        open_dataset(tmp_path)


def test_a_folder_without_layout_is_described_with_one_layout_per_line(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / "things" / f"{name}.png")
    with pytest.raises(ValueError, match=r"2 \.png in things") as raised:
        open_dataset(tmp_path)
    lines = str(raised.value).splitlines()
    assert "no annotation is here" in str(raised.value)
    assert "docs/bring-your-data.md" in lines[-1]
    assert all(len(line) < 400 for line in lines)


def test_the_folders_of_one_data_set_are_not_searched_for_others(tmp_path):
    for name in ("imagesTr", "labelsTr", "other"):
        (tmp_path / name).mkdir()
    seen = []
    known = replace(formats()["native"], detect=lambda path: bool(seen.append(path)) or path == tmp_path)
    assert recognise(tmp_path, [known, known])[1] == tmp_path
    assert {path.name for path in seen} == {tmp_path.name, "other"}
