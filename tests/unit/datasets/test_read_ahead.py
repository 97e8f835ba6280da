"""The small pictures of many cases are decoded together, and are what each of them is when it is read alone."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Picture

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.datasets.parallel import BATCH, parallel_cases
from boxel.io import decoding, read_image, read_label_map
from boxel.types import Geometry, Image


@pytest.fixture
def dataset(tmp_path):
    rng = np.random.default_rng(0)
    for case in range(2 * BATCH + 3):
        label_map = np.zeros((20, 24), np.uint8)
        label_map[3 : 4 + case % 9, 5:9] = 1
        image = Image(rng.integers(0, 255, (1, 20, 24)).astype(np.uint8), Geometry.plain((20, 24)))
        write_case(tmp_path, f"{case:03d}", image, label_map, {1: 0}, suffix=".png")
    write_dataset(tmp_path, "small", 2, ["a"], ["microscopy"])
    return open_dataset(tmp_path)


@pytest.fixture
def asked(monkeypatch):
    """How many pictures each request to the decoding process was for."""
    requests, ask = [], decoding.apart
    monkeypatch.setattr(decoding, "apart", lambda path, *call: requests.append(len(call[1])) or ask(path, *call))
    return requests


@pytest.fixture
def dying(monkeypatch):
    """The decoding process ends at pictures that are not plain."""
    apart, own = sys.modules["boxel.io.apart"], []
    die = "import os; from boxel.io import pictures; pictures.read = lambda *_: os.abort(); serve()"
    monkeypatch.setattr(apart, "START", apart.START.replace("serve()", die))
    monkeypatch.setattr(apart, "_idle", own)
    yield
    for reader in own:
        reader.end()


def seen(loaded):
    boxes = loaded.instances.boxes.tolist()
    return loaded.image.array.tolist(), loaded.image.geometry, loaded.image.remarks, loaded.label_map.tolist(), boxes


@pytest.mark.parametrize("workers", [0, 2])
def test_cases_read_ahead_are_those_read_alone(dataset, asked, workers):
    calls = []

    def read(case):
        return seen(read_case(case, dataset))

    found = parallel_cases(read, dataset.cases, workers, lambda *call: calls.append(call), "reading")
    assert list(found) == [read(case) for case in dataset.cases]
    assert sum(asked) == 2 * len(dataset.cases)
    assert len(asked) <= 2 + len(dataset.cases) // min(BATCH, len(dataset.cases) // 4)
    assert calls == [("reading", done, len(dataset.cases)) for done in range(len(dataset.cases) + 1)]


def test_nothing_is_decoded_for_cases_that_are_not_read(dataset, asked):
    list(parallel_cases(lambda case: case.id, dataset.cases, 0, lambda *_: None, "waiting"))
    assert not asked


@pytest.mark.parametrize("damage", ["cut short", "no picture", "ends the decoder"])
def test_the_problem_of_a_picture_is_told_as_if_it_were_read_alone(dataset, damage, request):
    wrong = dataset.cases[4].channels[0]
    content = wrong.read_bytes()
    wrong.write_bytes(content[: len(content) // 2] if damage == "cut short" else b"nothing")
    if damage == "ends the decoder":
        request.getfixturevalue("dying")

    def read(case):
        try:
            return seen(read_case(case, dataset))
        except ValueError as error:
            return str(error)

    found = list(parallel_cases(read, dataset.cases[:9], 0, lambda *_: None, "reading"))
    assert found == [read(case) for case in dataset.cases[:9]]
    assert found[4].startswith(f"{wrong}: ")
    assert [type(one) is str for one in found] == [k == 4 for k in range(9)]


def test_colours_palettes_and_turned_pictures_are_the_same(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    turned = Picture.Exif()
    turned[0x0112] = 6
    Picture.fromarray(pixels).save(tmp_path / "a.jpg", exif=turned)
    Picture.fromarray(pixels).quantize(8).save(tmp_path / "b.png")
    Picture.fromarray(pixels).save(tmp_path / "c.bmp")
    (tmp_path / "d.png").write_bytes(b"")
    files = [file for file in sorted(tmp_path.iterdir()) if decoding.is_small(file)]
    assert [file.name for file in files] == ["a.jpg", "b.png", "c.bmp"]
    with decoding.ahead([*((file, True) for file in files), (tmp_path / "b.png", False)]):
        ahead = [read_image(file) for file in files]
        assert read_label_map(tmp_path / "b.png").array.max() < 8  # the numbers of the entries
        stored = read_image(tmp_path / "a.jpg", upright=False)
    for file, image in zip(files, ahead, strict=True):
        alone = read_image(file)
        np.testing.assert_array_equal(image.array, alone.array)
        assert replace(image, array=None) == replace(alone, array=None)
    assert ahead[0].array.shape == (3, 30, 20)
    assert stored.array.shape == (3, 20, 30)


def test_pictures_that_are_large_together_are_read_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "TOGETHER", 500)
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file in files:
        Picture.fromarray(np.full((20, 20), 7, np.uint8)).save(file)
    images = decoding._decode_all([(file, True) for file in files])
    assert len(images) == 2
    with decoding.ahead([(file, True) for file in files]):
        assert all((read_image(file).array == 7).all() for file in files)
