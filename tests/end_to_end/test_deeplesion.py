"""The benchmarking report on DeepLesion: the experiment end to end on made-up pictures, and its parts by patient."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from boxel.experiments.deeplesion import deeplesion
from boxel.experiments.sources import DataFolder, PatientSplit
from boxel.types import silent
from tests.end_to_end.commands import boxel, refused, set_words

SETTINGS = (
    "plan.spacing=[1,1]", "plan.patch_size=[64,64]", "train.steps=2", "train.validate_every=2", "train.batch_size=2",
    "train.num_workers=0", "train.accelerator=cpu",
)  # fmt: skip
SET = set_words(SETTINGS)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Sixteen patients with two pictures each, of 64 x 64 pixels with one bright square of eight types."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(32):
        pixels = rng.integers(60, 90, (64, 64)).astype(np.uint8)
        top, left = rng.integers(4, 40, 2)
        pixels[top : top + 16, left : left + 16] = 200
        name = f"{number // 2:06d}_01_01_{number:03d}"
        Image.fromarray(pixels).save(root / f"{name}.jpg", quality=95)
        corners = [top / 64, left / 64, (top + 16) / 64, (left + 16) / 64]
        (root / f"{name}.tru").write_text(f"{1 + number % 8} {' '.join(map(str, corners))}\n")
    return root


def test_the_whole_experiment_on_a_few_pictures(pictures, tmp_path):
    words = ("experiment", "run", "deeplesion", "--preset", "sample", "--data", pictures, "--out", tmp_path / "out")
    assert (
        "deeplesion: 8 cells (10 with those that are the same as others)"
        in boxel(*words, "--dry-run", "--jobs", 1).stdout
    )
    only = [word for row in ("yolov4_*", "faster_rcnn_3", "faster_rcnn_vgg", "retina_unet") for word in ("--only", row)]
    table = boxel(*words, *SET, *only, "--jobs", 1).stdout
    assert "SAMPLE, its metrics mean nothing" in table.splitlines()[0]
    titles = ["Figure 2: lesions by type", "Tables 3 and 4: training and test images", "Figure 26: confusion of types"]
    for title in (*titles, "Tables 6 and 7: sizes of the boxes of hits", "Figures 12 to 19: learning curves"):
        assert f"## {title}" in table
    linked = set(re.findall(r"\]\(([^)]+\.png)\)", table))
    kinds = ("loss", "validation", "confusion_train", "confusion_test")
    assert {f"figures/{kind}_faster_rcnn_3_seed0.png" for kind in kinds} <= linked
    assert linked == {f"figures/{path.name}" for path in (tmp_path / "out" / "figures").iterdir()}
    lesions = table.partition("## Figure 2")[2].partition("##")[0].splitlines()[4:]
    assert sum(int(number) for row in lesions if row for number in row.split("|")[2:5]) == 32
    assert "published" not in table.partition("## Tables 3 and 4")[2]  # metrics of a sample stand beside none
    for folder in (tmp_path / "out" / "cells").iterdir():
        settings = json.loads((folder / "metrics.json").read_text())["settings"]
        assert (settings["iou_thresholds"], settings["interpolation"]) == ([0.21, 0.5, 0.75], "report")
        train = json.loads((folder / "derived" / "metrics_train.json").read_text())
        assert train["num_images"] == len(json.loads((folder / "run" / "split.json").read_text())["train"])
        assert 0 <= train["empty"] <= 1


def test_patients_are_cut_75_to_25_not_by_the_parts_of_the_data(pictures):
    source = PatientSplit(folder=DataFolder(path=str(pictures), format="deeplesion_jpg"), test=0.25, val=0.1)
    dataset = PatientSplit.from_dict(source.to_dict()).open(pictures, silent)
    [split] = dataset.splits
    patients = {part: {dataset[case].group for case in cases} for part, cases in split.items()}
    assert len(patients["test"]) == 4
    assert len(patients["val"]) in (1, 2)
    assert sum(map(len, patients.values())) == 16
    assert sum(map(len, split.values())) == 32
    assert not patients["train"] & patients["test"]


def test_the_sample_has_patients_in_every_part(data):
    """Its ten patients are few: a tenth of those for training is not one."""
    grid = deeplesion("sample", None)
    assert len(set(grid.labels.values())) == len(grid.labels)
    source = grid.cell(next(iter(grid))).source
    [split] = source.open(data, silent).splits
    assert all(split.values())
    assert sum(map(len, split.values())) == 50


def test_it_needs_data(tmp_path):
    refused(
        "experiment", "run", "deeplesion", "--out", tmp_path / "out", says="give it with --data, or try it out with"
    )
