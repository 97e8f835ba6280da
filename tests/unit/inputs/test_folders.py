"""FIFOs, sockets, devices and loops of links are never opened; clutter is not seen."""

import json
import os
import shutil
import signal
import socket

import pytest

from boxel.api.channel_files import RunImages
from boxel.api.conversion import find_cases
from boxel.api.prediction_inputs import find_images
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import examine
from boxel.export import DatasetInfo, recognise
from boxel.inputs.folders import listing, walk
from boxel.inputs.problems import InputError
from boxel.inputs.texts import read_bytes, read_head, read_json, read_text
from boxel.io import read_image
from boxel.output_folder import list_files
from boxel.training.tensors import load_tensors
from unit.export.examples import CLASSES, grid, whole_voxels


def fifo(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def loop(path):
    path.symlink_to(path.name)


def listener(path):
    with socket.socket(socket.AF_UNIX) as opened:
        folder = os.getcwd()
        os.chdir(path.parent)  # the names of sockets are short
        opened.bind(path.name)
        os.chdir(folder)


SPECIAL = {"a FIFO": fifo, "a device": device, "a loop of links": loop, "a socket": listener}


@pytest.fixture(autouse=True)
def _never_hangs():
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture(params=SPECIAL)
def special(request):
    return request.param, SPECIAL[request.param]


def test_one_is_refused_by_every_way_to_read_a_file(special, tmp_path):
    kind, make = special
    file = tmp_path / "a.json"
    make(file)
    for read in (read_bytes, read_text, read_json):
        with pytest.raises(InputError, match=rf"a\.json: is {kind}"):
            read(file)
    assert read_head(file, 10) == b""
    make(tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=rf"w\.safetensors: is {kind}"):
        load_tensors(tmp_path / "w.safetensors", "")
    make(tmp_path / "a.png")
    with pytest.raises(ValueError, match=rf"a\.png: is {kind}"):
        read_image(tmp_path / "a.png")


def test_one_among_files_is_skipped_and_named_once(special, tmp_path):
    kind, make = special
    make(tmp_path / "b.json")
    (tmp_path / "c.json").write_text("{}")
    for see in (
        lambda: listing(tmp_path, "*.json"),
        lambda: [folder / name for folder, _, names in walk(tmp_path) for name in names],
        lambda: list_files(tmp_path, ".json"),
    ):
        with pytest.warns(UserWarning, match=rf"b\.json: skipped, because it is {kind}") as warned:
            assert see() == [tmp_path / "c.json"]
        assert len(warned) == 1


@pytest.mark.parametrize("name", ["mitk", "boxel", "nifti", "slicer"])
def test_one_among_predictions_is_skipped(name, special, tmp_path):
    from boxel.export import get_format

    form, geometry = get_format(name), grid(3, "plain", (16, 25, 31))
    form.writer(tmp_path, [whole_voxels(geometry, "a")])
    (file,) = (path for path in tmp_path.iterdir() if "json" in path.name)
    special[1](tmp_path / file.name.replace("a", "b", 1))
    with pytest.warns(UserWarning, match="skipped, because"):
        read = recognise(tmp_path).reader(tmp_path, DatasetInfo(CLASSES, {"a": geometry}))
    assert [prediction.case for prediction in read] == ["a"]


@pytest.mark.filterwarnings("ignore:.*skipped, because")
@pytest.mark.parametrize("where", ["dataset.json", "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "labelsTr/a.json"])
def test_one_in_a_data_set_is_a_finding(where, special, native, tmp_path):
    file = native / where
    file.unlink(missing_ok=True)
    special[1](file)
    try:
        messages = [str(finding) for finding in examine(native, workers=0).findings if finding.severity == "error"]
    except ValueError as error:
        messages = [str(error)]
    assert any(file.name in message or str(native) in message for message in messages)


@pytest.mark.filterwarnings("ignore:.*skipped, because")
def test_one_among_images_is_not_predicted(special, native, tmp_path):
    images = shutil.copytree(native / "imagesTr", tmp_path / "images")
    run = RunImages(("CT",), 2)
    before = sorted(find_images([images], run).cases)
    special[1](images / "zz_0000.nii.gz")
    (images / "again").symlink_to(images)
    assert set(find_cases(images)) >= set(before)
    assert sorted(find_images([images], run).cases) == before


CLUTTER = [".a.1234.tmp.mha", "._a.json", ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX"]


def test_clutter_is_in_no_list(tmp_path):
    for name in CLUTTER:
        (tmp_path / name).write_text("{}")
    (tmp_path / "a.json").write_text("{}")
    assert listing(tmp_path) == [tmp_path / "a.json"]
    assert [names for _, _, names in walk(tmp_path)] == [["a.json"]]
    assert list_files(tmp_path, ".json") == [tmp_path / "a.json"]


@pytest.mark.parametrize("name", ["mitk", "boxel", "nifti", "slicer", "label-maps", "picai"])
def test_clutter_beside_predictions_is_not_read(name, tmp_path):
    from boxel.export import get_format

    form, geometry = get_format(name), grid(3, "plain", (16, 25, 31))
    if name == "label-maps":
        get_format("nifti").writer(tmp_path, [whole_voxels(geometry, "a")])
        (tmp_path / "a_boxes.nii.gz").rename(tmp_path / "a.nii.gz")
        (tmp_path / "a.json").write_text(json.dumps({"1": {"score": 1, "label": 0}, "2": {"score": 1, "label": 0}}))
        (tmp_path / "a_boxes.json").unlink()
    else:
        form.writer(tmp_path, [whole_voxels(geometry, "a", CLASSES[:1])])
    for file in list(tmp_path.iterdir()):
        (tmp_path / f"._{file.name}").write_bytes(b"\0\5\x16\7")  # of macOS
    (tmp_path / "__MACOSX").mkdir()
    shutil.copytree(tmp_path, tmp_path / "__MACOSX" / "copy", ignore=shutil.ignore_patterns("__MACOSX"))
    read = form.reader(tmp_path, DatasetInfo(CLASSES[:1], {"a": geometry}))
    assert [prediction.case for prediction in read] == ["a"]
    assert recognise(tmp_path).name == name


def test_links_to_files_and_folders_are_followed(native, tmp_path):
    linked = tmp_path / "data"
    linked.symlink_to(native)
    assert len(open_dataset(linked).cases) == len(open_dataset(native).cases)
    (tmp_path / "a.json").write_text("[1]")
    (tmp_path / "b.json").symlink_to("a.json")
    assert read_json(tmp_path / "b.json") == [1]
