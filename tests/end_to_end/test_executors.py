"""Cells on a Ray cluster and as jobs: whoever carries them out, and whoever is lost, the results are the same."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from boxel.experiments.executors import Here, Slurm
from boxel.experiments.run import run
from boxel.plugins import load_plugin
from tests.conftest import registries_restored
from tests.end_to_end.commands import contents

RESULTS = ("metrics.json", "resamples.npz")


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """The cells of `tiny_grid` in this process."""
    with registries_restored():
        load_plugin(Path(__file__).with_name("tiny_grid.py"))
        out = tmp_path_factory.mktemp("cells") / "out"
        assert [cell.state for cell in run("tiny", out, executor=Here())] == ["done"] * 3
        yield out


def results(out: Path) -> dict[str, bytes]:
    return {name: data for result in RESULTS for name, data in contents(out, f"cells/*/{result}").items()}


def test_a_node_that_is_lost_with_a_cell_changes_no_result(one_process, tmp_path):
    """It is killed in the middle of a training, which then continues on the other node from its last saved step."""
    pytest.importorskip("ray", reason="the extra boxel[ray] is not installed")
    program = [sys.executable, "-m", "tests.end_to_end.lost_node", "cells", str(tmp_path / "out")]
    result = subprocess.run(program, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(" done") == 3, result.stdout
    assert (tmp_path / "out_lost" / "reached").exists()
    costs = [json.loads(data) for data in contents(tmp_path / "out", "cells/*/done.json").values()]
    assert [cost["seconds"] for cost in costs].count(None) == 1  # the one that was interrupted
    assert results(tmp_path / "out") == results(one_process)


def test_jobs_go_on_without_the_process_that_submitted_them_and_have_the_results_of_one_process(one_process, tmp_path):
    """The same command then waits for the cells that are running, and submits none again."""
    pytest.importorskip("submitit", reason="the extra boxel[slurm] is not installed")
    program = [sys.executable, "-m", "tests.end_to_end.lost_node", "jobs", str(tmp_path)]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("cells/*/run"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    states = run("tiny", tmp_path, only=["seed=0", "seed=1"], executor=Slurm(["cluster=local"]))
    assert [cell.state for cell in states] == ["done", "done"]
    assert len(list(tmp_path.glob("slurm/*_submitted.pkl"))) == 2
    both = results(tmp_path)
    assert len(both) == 4
    assert both.items() <= results(one_process).items()
