"""Tables 1 to 4 of L-SNet from a raw folder: a made-up Pancreas-CT of four patients, in its original form."""

import json

import numpy as np
import pytest

from boxel.io import write_label_map
from boxel.types import Geometry
from tests.end_to_end.commands import boxel, refused, set_words

pytest.importorskip("pydicom")

from tests.unit.datasets.dicom_samples import SHAPE, SPACING, volume, write_series

SETTINGS = (
    "plan.spacing=[1,1,1]", "plan.patch_size=[32,32]", "plan.batch_size=2", "train.steps=2", "train.validate_every=2",
    "train.num_workers=0", "train.accelerator=cpu",
)  # fmt: skip
SET = set_words(SETTINGS)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("raw"), np.random.default_rng(0)
    grid = Geometry(SHAPE, SPACING, (0.0, 0.0, 0.0), ((0, 0, 1), (0, -1, 0), (1, 0, 0)))
    for patient in range(1, 5):
        array, label_map = volume(rng), np.zeros(SHAPE, np.uint8)
        label_map[1:4, 5:15, 8:20] = 1
        array[label_map > 0] = 150
        folder = root / f"PANCREAS_{patient:04d}" / "study" / "series"
        write_series(folder, array, f"1.2.826.2.{patient}", PatientID=f"PANCREAS_{patient:04d}")
        write_label_map(root / "labels" / f"label{patient:04d}.nii.gz", label_map[:, ::-1], grid)
    return root


def test_the_tables_of_l_snet_from_a_raw_folder(raw, tmp_path):
    words = ("experiment", "run", "pancreas", "--preset", "small", "--data", raw, "--out", tmp_path / "out")
    assert "pancreas: 48 cells" in boxel(*words, "--dry-run", "--jobs", 1).stdout
    chosen = ("lsnet_unet", "unet", "l_net_crop", "coarse_to_fine_unet")
    only = [word for model in chosen for word in ("--only", f"{model}/fold=0/*")]
    table = boxel(*words, *SET, *only, "--jobs", 1).stdout
    assert "## Table 4: gamma" in table
    [row] = [line for line in table.splitlines() if line.startswith("| 0.1 |")]
    assert row.startswith("| 0.1 | L-SNet (U-Net) |")
    assert row.strip("| ").split(" | ")[6::2] == ["0.8824", "0.8498"]  # published
    for cell in (tmp_path / "out" / "cells").iterdir():
        folder = cell / "derived" / "predictions_train"
        is_shown = json.loads((cell / "cell.json").read_text())["experiment"]["model"]["type"] != "unet"
        assert folder.exists() == is_shown
        if is_shown:
            split = json.loads((cell / "run" / "split.json").read_text())
            assert sorted(path.stem for path in folder.glob("*.json")) == sorted(split["train"])
            assert not list(folder.glob("*_seg.nii.gz"))  # only what the first stage locates
            assert len(json.loads((cell / "derived" / "located.json").read_text())) == 2
    for begin in ("| 0.1 |", "| U-Net | coarse-to-fine"):  # a first stage of key points, and one that segments
        [line] = [line for line in table.splitlines() if line.startswith(begin)]
        training, test = (float(line.strip("| ").split(" | ")[column]) for column in (5, 7))
        assert 0 <= training <= 1
        assert 0 <= test <= 1
    again = boxel("experiment", "collect", tmp_path / "out").stdout
    assert "mIoU of training slices (at most 20 cases)" in again
    assert row in again
    for cell in (tmp_path / "out" / "cells").glob("*/metrics.json"):
        metrics = json.loads(cell.read_text())
        assert metrics["settings"]["protocol"] == "segmentation"
        assert 0 <= metrics["DSC/slices_with_object"] <= 1
        assert metrics["num_slices_with_object"] == 3
    done = json.loads(next((tmp_path / "out").glob("cells/*/done.json")).read_text())
    assert done["steps"] == 2


def test_it_needs_data(tmp_path):
    refused("experiment", "run", "pancreas", "--out", tmp_path / "out", says="give the folder of Pancreas-CT with")
