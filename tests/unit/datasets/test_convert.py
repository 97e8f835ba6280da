"""The scripts that bring public data into the native layout do so."""

import runpy
import sys
from collections import Counter
from pathlib import Path

import cc3d
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset

DOCS = Path(__file__).parents[3] / "docs"
pytestmark = pytest.mark.data


def convert(script, data, out, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script, "--data", str(data), "--out", str(out)])
    runpy.run_path(str(DOCS / script), run_name="__main__")
    dataset = open_dataset(out)
    return dataset, [read_case(case, dataset) for case in dataset.cases]


def test_nuclei_are_converted(data, monkeypatch, tmp_path):
    dataset, cases = convert("convert_nuclei.py", data / "nuclei", tmp_path, monkeypatch)
    assert (len(dataset.train), len(dataset.test)) == (201, 67)
    assert sum(len(case.instances) for case in cases) == 7685  # as the data set's README says
    assert {case.image.array.shape for case in cases} == {(1, 256, 256)}


def test_hippocampus_volumes_are_converted(data, monkeypatch, tmp_path):
    dataset, cases = convert("convert_hippocampus.py", data / "hippocampus", tmp_path, monkeypatch)
    (fold,) = dataset.splits
    assert {part: len(ids) for part, ids in fold.items()} == {"train": 60, "val": 20, "test": 20}
    assert sorted(fold["test"]) == [case.id for case in dataset.test]
    assert Counter(tuple(case.instances.labels.tolist()) for case in cases) == {(0, 1): 100}
    assert all(cc3d.connected_components(case.label_map, return_N=True)[1] == 2 for case in cases)
