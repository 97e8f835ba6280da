"""What `benchmarks/accuracy.py` and the drivers of other tools hand each other, without the tools."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.types import Geometry, Image, Instances, Split

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SPLIT = Split(train=("a",), val=("b",), test=("c", "d"))
STUB = """
import sys
sys.path.insert(0, {path!r})
import numpy as np
from exchange import Boxes, run

def fit(job):
    assert job.seed == 1 and not len(job.data.part("test")[0].boxes)
    [case] = job.data.part("train")
    box = case.boxes[case.labels == 0]  # it is in the same place in every image
    return lambda image: Boxes(box, np.array([0.9]), np.array([0]))

run(fit, ("numpy",))
"""


def module(name, file):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / file)
    sys.modules[name] = loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


exchange = module("exchange", "peers/exchange.py")
data = module("accuracy_data", "accuracy_data.py")
accuracy = module("accuracy", "accuracy.py")
torch_training = module("torch_training", "peers/torch_training.py")


@pytest.fixture
def dataset(tmp_path, ndim):
    """Four images of two objects, numbered 7 and 3, of two classes; grey values of more than 8 bits."""
    folder, shape = tmp_path / "data", (24, 20, 16)[-ndim:]
    for number, case in enumerate("abcd"):
        label_map = np.zeros(shape, np.int32)
        label_map[(slice(2, 8),) * ndim] = 7
        label_map[(slice(9, 12 + number),) * ndim] = 3
        pixels = np.random.default_rng(number).integers(1000, 2000, shape).astype(np.uint16)
        image = Image(pixels[None], Geometry.plain(shape))
        split = "test" if case in SPLIT.test else "train"
        suffix = ".png" if ndim == 2 else ".nii.gz"
        write_case(folder, case, image, label_map, {7: 0, 3: 1}, split=split, suffix=suffix)
    write_dataset(folder, "cells", ndim, ["round", "long"], ["light"])
    return open_dataset(folder)


def truth(dataset, case):
    return data.read_case(dataset[case], dataset).instances


def test_a_driver_reads_the_images_and_objects_of_training_and_validation(dataset, tmp_path, ndim):
    data.write_exchange(dataset, SPLIT, tmp_path / "given")
    given = exchange.read_data(tmp_path / "given")
    assert (given.ndim, given.channels, given.classes) == (ndim, 1, ("round", "long"))
    assert {part: [case.id for case in given.part(part)] for part in ("train", "val", "test")} == {
        "train": ["a"], "val": ["b"], "test": ["c", "d"]
    }  # fmt: skip
    for case in (*given.part("train"), *given.part("val")):
        original = data.read_case(dataset[case.id], dataset)
        np.testing.assert_array_equal(case.boxes, original.instances.boxes)
        np.testing.assert_array_equal(case.labels, original.instances.labels)
        for number, instance in enumerate(original.instances.ids, start=1):
            np.testing.assert_array_equal(case.label_map() == number, original.label_map == instance)
        pixels, expected = case.image(), original.image.array[0]
        assert pixels.shape == expected.shape
        if ndim == 3:  # nothing is rounded
            np.testing.assert_array_equal(pixels, expected)
        else:
            assert pixels.dtype == np.uint8
            assert np.corrcoef(pixels.ravel(), expected.ravel())[0, 1] > 0.999
            assert (pixels.min(), pixels.max()) == (0, 255)


def test_a_driver_never_sees_the_objects_of_the_test_images(dataset, tmp_path):
    data.write_exchange(dataset, SPLIT, tmp_path / "given")
    for case in exchange.read_data(tmp_path / "given").part("test"):
        assert (len(case.boxes), len(case.labels), case.label_map_file) == (0, 0, None)
        assert case.image().size
    assert sorted(file.name[0] for file in (tmp_path / "given" / "label_maps").iterdir()) == ["a", "b"]


def test_images_of_8_bits_stay_as_they_are(tmp_path):
    pixels = np.arange(3 * 16 * 16, dtype=np.uint8).reshape(3, 16, 16) // 2
    for case in "abcd":
        image = Image(pixels, Geometry.plain((16, 16)))
        write_case(tmp_path / "data", case, image, np.ones((16, 16), int), {1: 0}, suffix=".png")
    write_dataset(tmp_path / "data", "cells", 2, ["round"], ["red", "green", "blue"])
    data.write_exchange(open_dataset(tmp_path / "data"), SPLIT, tmp_path / "given")
    [case] = exchange.read_data(tmp_path / "given").part("train")
    np.testing.assert_array_equal(np.moveaxis(case.image(), -1, 0), pixels)


def found_in(instances, *, shift=0.0, score=0.5):
    return exchange.Boxes(instances.boxes + shift, np.full(len(instances), score), instances.labels)


def test_what_a_driver_gives_back_is_evaluated_on_the_test_images(dataset, tmp_path):
    file = tmp_path / "found.json"
    exact = {case: found_in(truth(dataset, case)) for case in SPLIT.test}
    exchange.write_result(file, exact)
    perfect = accuracy.evaluate_result(file, dataset, SPLIT, tmp_path / "exact")
    assert perfect["AP@0.10"] == perfect["AP@0.50"] == perfect["AP@0.50/long"] == 1
    exchange.write_result(file, exact | {"d": found_in(truth(dataset, "d")[:0])})
    half = accuracy.evaluate_result(file, dataset, SPLIT, tmp_path / "half")
    assert half["AP@0.50"] == pytest.approx(51 / 101)  # half of the objects, no false positive


def test_boxes_are_clipped_to_the_image_and_empty_ones_are_left_out(tmp_path, ndim):
    boxes = np.array([[[-3.0] * ndim, [5.0] * ndim], [[4.0] * ndim, [4.0] * ndim], [[30.0] * ndim, [40.0] * ndim]])
    exchange.write_result(tmp_path / "x.json", {"c": exchange.Boxes(boxes, np.ones(3), np.zeros(3, int))})
    found = accuracy.detections_of(tmp_path / "x.json", {"c": Geometry.plain((20,) * ndim)}, ["cell"])["c"]
    assert found.boxes.tolist() == [[[0.0] * ndim, [5.0] * ndim]]


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ({}, "the case 'c' is missing or unknown"),
        ({"c": {"boxes": [], "scores": [], "labels": []}, "e": {}}, "the case 'e' is missing or unknown"),
        ({"c": {"boxes": [[[0, 0], [1, 1]]], "scores": [1.5], "labels": [0]}}, "a score outside 0..1"),
        ({"c": {"boxes": [[[0, 0], [1, 1]]], "scores": [0.5], "labels": [1]}}, "a label of no class"),
        ({"c": {"boxes": [[[0, 0], [1, 1]]], "scores": [], "labels": [0]}}, "not as many as scores"),
        ({"c": {"boxes": [[[0, 0], [float("nan"), 1]]], "scores": [0.5], "labels": [0]}}, "not finite"),
    ],
)
def test_a_wrong_result_is_refused_by_name(tmp_path, cases, message):
    (tmp_path / "x.json").write_text(json.dumps({"cases": cases}))
    with pytest.raises(ValueError, match=rf"x\.json: .*{message}"):
        accuracy.detections_of(tmp_path / "x.json", {"c": Geometry.plain((8, 8))}, ["cell"])


def drawn(rng, number):
    lower = rng.uniform(0, 80, (number, 2))
    boxes = np.stack([lower, lower + rng.uniform(5, 20, (number, 2))], axis=1).astype(np.float32)
    return boxes, rng.integers(0, 2, number)


def test_the_evaluation_and_the_choice_of_weights_agree_with_pycocotools(tmp_path, rng):
    objects, found = {}, {}
    for case in "abcdef":
        boxes, labels = drawn(rng, 12)
        more, kinds = drawn(rng, 8)
        near = np.concatenate([boxes + rng.normal(0, 1.5, (12, 1, 2)).astype(np.float32), more])
        objects[case] = Instances(boxes, labels, np.arange(1, 13), np.zeros(12, bool))
        found[case] = exchange.Boxes(near, rng.random(20), np.concatenate([labels, kinds]))
    cases = [exchange.Case(case, "val", one.boxes, one.labels, Path(), None) for case, one in objects.items()]
    expected = by_pycocotools(objects, found)
    assert 0.2 < expected < 0.95
    assert torch_training.average_precision(found, cases) == pytest.approx(expected, abs=1e-6)
    given = {case: vars(one) for case, one in found.items()}
    metrics = accuracy.boxel.evaluate(given, objects, config={"num_resamples": 0}).metrics
    assert metrics["AP@0.50"] == pytest.approx(expected, abs=1e-6)


def by_pycocotools(objects, found):
    def entry(case, box, label):
        (y, x), (bottom, right) = box.tolist()
        sides = [right - x, bottom - y]
        return {"image_id": ord(case), "category_id": int(label), "bbox": [x, y, *sides], "area": sides[0] * sides[1]}

    coco = COCO()
    truths = [(case, *row) for case, one in objects.items() for row in zip(one.boxes, one.labels, strict=True)]
    annotations = [entry(*row) | {"id": i, "iscrowd": 0} for i, row in enumerate(truths, start=1)]
    coco.dataset = {
        "images": [{"id": ord(case)} for case in objects], "annotations": annotations,
        "categories": [{"id": 0}, {"id": 1}], "info": {},
    }  # fmt: skip
    coco.createIndex()
    rows = [
        entry(case, box, label) | {"score": float(score)}
        for case, one in found.items()
        for box, label, score in zip(one.boxes, one.labels, one.scores, strict=True)
    ]
    evaluation = COCOeval(coco, coco.loadRes(rows), "bbox")
    evaluation.params.iouThrs = np.array([0.5])
    evaluation.evaluate()
    evaluation.accumulate()
    return float(evaluation.eval["precision"][0, :, :, 0, -1].mean())


@pytest.mark.parametrize("ndim", [2])
def test_a_cell_is_run_once(dataset, tmp_path, monkeypatch):
    drivers = tmp_path / "drivers"
    drivers.mkdir()
    (drivers / "stub.py").write_text(STUB.format(path=str(BENCHMARKS / "peers")))
    monkeypatch.setattr(accuracy, "DRIVERS", drivers)
    monkeypatch.setattr(accuracy, "PEERS", {"stub": accuracy.Peer("stub"), "deep": accuracy.Peer("stub", ndims=(3,)),
                                           "masks": accuracy.Peer("stub", needs_masks=True)})  # fmt: skip
    monkeypatch.setattr(accuracy, "DATA", {"cells": lambda _: dataset})
    monkeypatch.setattr(accuracy, "dataset_splits", lambda _: [SPLIT])
    cell = ("cells", 0.5, 1, tmp_path / "out", tmp_path)
    first = accuracy.run_cell("stub", *cell)
    assert first["metrics"]["AP@0.50/round"] == 1  # the one that the stub always finds
    assert first["versions"] == {"numpy": np.__version__}
    assert accuracy.run_cell("masks", *cell)["tool"] == "masks"
    (drivers / "stub.py").unlink()
    assert accuracy.run_cell("stub", *cell) == first
    assert accuracy.run_cell("stub", "cells", 0.5, 1, tmp_path / "elsewhere", tmp_path, tmp_path / "out/cells") == first
    assert accuracy.run_cell("deep", *cell) is None  # it does not learn from images of two axes
    with pytest.raises(SystemExit, match="seed2 failed; read the end of this file"):
        accuracy.run_cell("stub", "cells", 0.5, 2, tmp_path / "out", tmp_path)


def test_the_table_has_the_mean_over_seeds_and_its_interval():
    plain = {"data": "cells", "tool": "x", "minutes": 5.0, "cases": 10, "predict_seconds": 2.0, "train_seconds": 300.0}
    records = [plain | {"metrics": {"AP@0.10": value, "AP@0.50": 0.5}} for value in (0.6, 0.7, 0.8)]
    row = accuracy.table(records).splitlines()[-1]
    assert row == "| cells | x | 5 | 3 | 0.700 (0.452, 0.948) | 0.500 (0.500, 0.500) | 300 | 0.200 |"
    assert "| 0.600 |" in accuracy.table(records[:1])  # one seed has no interval


def test_an_environment_is_made_anew_when_other_versions_are_asked_for(tmp_path, monkeypatch):
    installed = []
    monkeypatch.setattr(accuracy.subprocess, "run", lambda command, check: installed.append([*map(str, command)][3:]))
    monkeypatch.setattr(accuracy, "ENVIRONMENTS", {"tools": ("one==1", "two==2")})
    assert accuracy.python_of("", tmp_path) == Path(sys.executable)
    assert accuracy.python_of("tools", tmp_path) == tmp_path / "tools" / "bin" / "python"
    accuracy.python_of("tools", tmp_path)
    assert installed == [["--clear", str(tmp_path / "tools")], ["install", "--quiet", "one==1", "two==2"]]
    monkeypatch.setattr(accuracy, "ENVIRONMENTS", {"tools": ("one==1", "two==3")})
    accuracy.python_of("tools", tmp_path)
    assert installed[-1][-1] == "two==3"
