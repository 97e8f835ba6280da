"""Predicting on a Ray cluster: whichever worker predicts, and whichever is lost, the files are those of one process."""

import subprocess
import sys

import pytest

import boxel
from tests.end_to_end.commands import contents

SETTINGS = (
    "train.steps=2", "train.validate_every=1", "train.keep=2", "train.batch_size=2", "train.num_workers=0",
    "model.backbone.start_filters=4", "model.backbone.depth=10", "predict.views=identity",
    "model.dense.min_score=0.0", "consolidate.min_score=0.0", "consolidate.max_detections=7",
)  # fmt: skip
RECIPE = "retina_unet_small"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A hardly trained run, and the predictions of one process."""
    root = tmp_path_factory.mktemp("ray")
    boxel.make_toy(root / "data", num_train=4, num_val=2, num_test=6, size=64)
    boxel.prepare(root / "data", root / "work", recipe=RECIPE, overrides=SETTINGS, workers=0)
    boxel.train(root / "work", root / "run", recipe=RECIPE, overrides=SETTINGS)
    boxel.predict(root / "run", root / "data" / "imagesTs", root / "predictions")
    return root


def test_a_node_that_is_lost_in_the_middle_changes_no_file(root, tmp_path):
    """A damaged image is then an error that names the file, as in one process."""
    pytest.importorskip("ray", reason="the extra boxel[ray] is not installed")
    images = root / "data" / "imagesTs"
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "a.mha").write_bytes(b"no image")
    words = [root / "run", images, tmp_path / "out", tmp_path / "damaged"]
    program = [sys.executable, "-m", "tests.end_to_end.lost_node", "predict", *map(str, words)]
    result = subprocess.run(program, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.startswith("predict ")] == [f"predict {k} 6" for k in range(7)]
    assert any(line.startswith("refused:") and "a.mha" in line for line in lines)
    assert contents(tmp_path / "out") == contents(root / "predictions")
