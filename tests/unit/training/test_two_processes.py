"""Two processes with a batch each train like one with both batches."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from boxel.datasets.formats import open_dataset
from boxel.preparation.plan import PlanConfig
from boxel.preparation.prepare import prepare
from tests.unit.training.two_processes import SETTINGS, ImageByImageConfig, main

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("ndim", [2], indirect=True, ids=["2d"])
def test_two_processes_end_with_the_weights_of_one_with_twice_the_batch(native, tmp_path):
    """Three steps on the same patches, where the loss is a mean over images; see `ImageByImage` about others."""
    store = prepare(open_dataset(native), tmp_path / "work", PlanConfig(), workers=0)
    words = [store.path, tmp_path / "two", 2, 2]
    command = [sys.executable, "-m", "tests.unit.training.two_processes", *map(str, words)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr
    main(store.path, tmp_path / "one", 1, 4)
    main(store.path, tmp_path / "half", 1, 2)
    two, one, half = (load_file(tmp_path / run / "weights.safetensors") for run in ("two", "one", "half"))
    torch.manual_seed(3)
    initial = ImageByImageConfig().build(store.task).state_dict()

    def moved(state):  # by training: differences that a tolerance relative to the weights would hide
        return torch.cat([(state[name] - initial[name]).flatten() for name in sorted(state)])

    assert SETTINGS.steps == 3
    torch.testing.assert_close(moved(two), moved(one), rtol=1e-4, atol=1e-4 * moved(one).abs().max().item())
    assert (moved(half) - moved(one)).norm() > 0.1 * moved(one).norm()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6)
