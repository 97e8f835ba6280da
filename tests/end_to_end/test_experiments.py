"""Experiments through the command line: cells that are shared, killed, damaged, run twice at once, and collected."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

import boxel
from boxel.experiments import collect, run
from boxel.experiments.executors import Processes
from boxel.experiments.six_models import MODELS
from boxel.experiments.sources import DataFolder
from tests.end_to_end.commands import boxel as command
from tests.end_to_end.commands import contents, refused
from tests.end_to_end.test_models_verbs import QUICK, SET
from tests.forks import Command

MODEL = Path(__file__).parents[2] / "examples" / "my_model.py"
RESULTS = ("metrics.json", "resamples.npz", "run/weights.safetensors", "predictions/*.json")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return boxel.make_toy(tmp_path_factory.mktemp("folds") / "data", num_train=10, num_val=0, num_test=0, size=48)


def words(data: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("experiment", "run", "cross_validation", "--data", data, "--out", out, "--jobs", 2, *SET, *more)


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """All five folds, run once."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    result = command(*words(data, out))
    return out, result


def results(out: Path) -> dict[str, bytes]:
    """What the cells found, but not what it cost."""
    found: dict[str, bytes] = {}
    for pattern in RESULTS:
        found |= contents(out / "cells", f"*/{pattern}")
    return found


def rows(out: Path) -> list[dict]:
    """The rows of the table without what they cost."""
    content = json.loads((out / "results.json").read_text())
    return [{key: value for key, value in row.items() if key != "cost"} for row in content["rows"]]


def trained(out: Path) -> dict[str, int]:
    """For every cell, how many steps its history has: the number of steps of the run, if it was trained once."""
    return {path.parents[1].name: len(path.read_text().splitlines()) for path in out.glob("cells/*/run/metrics.jsonl")}


def test_five_folds_end_in_a_table_with_pooled_metrics(undisturbed):
    out, result = undisturbed
    assert result.stdout == (out / "table.md").read_text()
    assert "| Retina U-Net | 1 of 1 |" in result.stdout
    assert "AP@0.10, mean of folds" in result.stdout
    assert "Missing" not in result.stdout
    tested = sorted(path.stem for path in out.glob("cells/*/predictions/*.json"))
    assert tested == [f"train_{number:05d}" for number in range(10)]
    assert len(list(out.glob("work/*/splits.json"))) == 1  # prepared once for all folds


def test_a_second_run_trains_nothing(data, undisturbed):
    out, _ = undisturbed
    before = contents(out, "cells/**/*")
    begin = time.monotonic()
    command(*words(data, out))
    assert time.monotonic() - begin < 30
    assert contents(out, "cells/**/*") == before


def test_a_run_that_is_killed_at_any_moment_ends_like_an_undisturbed_one(data, undisturbed, tmp_path):
    generator, out = random.Random(0), tmp_path / "out"
    # Once at the beginning, then after some of the cells.
    for cells, delay in ((0, 0.5), (1, generator.random()), (3, generator.random())):
        process = Command(*words(data, out))
        deadline = time.monotonic() + 120
        while len(list(out.glob("cells/*/run"))) < cells and not process.poll() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(delay)
        assert not process.poll(), process.wait()
        process.kill()
        process.wait()
    command(*words(data, out))
    assert results(out) == results(undisturbed[0])
    assert rows(out) == rows(undisturbed[0])
    assert trained(out) == dict.fromkeys(trained(out), 3)


def test_two_runs_at_once_share_the_cells(data, undisturbed, tmp_path):
    out = tmp_path / "out"
    both = [Command(*words(data, out)) for _ in range(2)]
    deadline, seen = time.monotonic() + 120, set()
    while any(not process.poll() for process in both) and time.monotonic() < deadline:
        if (out / "grid.json").exists() and "running" not in seen:
            listed = json.loads(command("experiment", "status", out, "--json").stdout)
            seen |= {cell["state"] for cell in listed}
        time.sleep(0.5)
    ended = [process.wait() for process in both]
    assert [end.returncode for end in ended] == [0, 0], ended
    assert "running" in seen
    assert results(out) == results(undisturbed[0])
    assert trained(out) == dict.fromkeys(trained(out), 3)
    done = [end.stderr.count(": done") for end in ended]
    assert sum(done) == 5
    assert min(done) > 0


def test_a_cell_that_fails_stops_no_other_and_is_tried_again(data, undisturbed, tmp_path):
    out, own = tmp_path / "out", shutil.copytree(data, tmp_path / "data")
    first = command(*words(own, out, "--only", "fold=0"))
    assert first.stdout.count(": missing") == 4
    tested = sorted(path.stem for path in out.glob("cells/*/predictions/*.json"))
    split = json.loads(next(out.glob("work/*/splits.json")).read_text())
    damaged = next(own.glob(f"imagesTr/{split[3]['test'][0]}*"))
    assert damaged.name.split("_0000.")[0] not in tested
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    os.utime(damaged, ns=(stat := (own / "dataset.json").stat().st_mtime_ns, stat))
    result = command(*words(own, out), check=False)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    failed = json.loads(command("experiment", "status", out, "--json").stdout)
    assert {cell["path"]: cell["state"] for cell in failed if cell["state"] != "done"}
    for cell in failed:
        if cell["state"] == "failed":
            assert damaged.name in cell["note"]
            assert f"{cell['path']}: {cell['note']}" in result.stderr
    assert f"boxel: {sum(cell['state'] == 'failed' for cell in failed)} of 5 cells failed" in result.stderr
    assert "## Missing" in result.stdout
    damaged.write_bytes(content)
    assert "Missing" not in command(*words(own, out)).stdout


def test_a_dry_run_lists_the_cells_and_writes_nothing(data, undisturbed, tmp_path):
    result = command(*words(data, tmp_path / "out", "--dry-run", "--only", "fold=[01]"))
    assert [line.split() for line in result.stdout.splitlines()[:-1]] == [
        ["retina_unet/fold=0/seed=0", "missing"], ["retina_unet/fold=1/seed=0", "missing"],
    ]  # fmt: skip
    assert "cross_validation: 2 cells: 2 missing; about 10 min left" in result.stdout
    assert not (tmp_path / "out").exists()
    before = {path: path.stat().st_mtime_ns for path in undisturbed[0].rglob("*") if path.is_file()}
    result = command(*words(data, undisturbed[0], "--dry-run"))
    assert "cross_validation: 5 cells: 5 done" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in undisturbed[0].rglob("*") if path.is_file()} == before


def source_of(data: Path) -> DataFolder:
    return DataFolder(path=str(data), format="native")


def test_a_folder_of_another_experiment_is_refused_with_one_message(data, undisturbed, tmp_path):
    out, _ = undisturbed
    before = contents(out)
    refused(
        *words(data, out, "--set", "train.lr=0.5"), says=f"{out}: holds the output of `boxel experiment` with --set"
    )
    other = {
        '--preset "quick" instead of "models"': {"preset": "models"},
        "--data .* instead of": {"source": source_of(shutil.copytree(data, tmp_path / "other"))},
        '--set .* instead of .*"train.lr=0.5"': {"overrides": [*QUICK, "train.lr=0.5"]},
        'NAME "cross_validation" instead of "six_models"': {"name": "six_models"},
    }
    for says, change in other.items():
        given = {"name": "cross_validation", "source": source_of(data), "overrides": QUICK} | change
        with pytest.raises(ValueError, match=says):
            run(given.pop("name"), out, **given)
    assert contents(out) == before
    moved = tmp_path / "moved"
    moved.mkdir()
    record = json.loads((out / "grid.json").read_text()) | {"version": 99}
    (moved / "grid.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="made with version 99 of the grid cross_validation, this is version"):
        collect(moved)
    refused("experiment", "status", tmp_path, says="no experiment (no grid.json)")


def test_what_does_not_exist_is_an_error_that_leaves_nothing_behind(data, tmp_path):
    out, own = tmp_path / "out", source_of(data)
    wrong = {
        "unknown experiment 'cross_validatoin'; did you mean 'cross_validation'": ("cross_validatoin", {}),
        "unknown preset 'quik' of cross_validation; did you mean 'quick'": ("cross_validation", {"preset": "quik"}),
        "--only 'fold=9' fits no cell of cross_validation": ("cross_validation", {"only": ["fold=9"]}),
        "unknown key 'stepps' in train .*; did you mean 'steps'": (
            "cross_validation",
            {"overrides": ["train.stepps=3"]},
        ),
        "toy brings its own data; leave out --data": ("toy", {}),
    }
    for says, (name, more) in wrong.items():
        with pytest.raises(ValueError, match=says):
            run(name, out, source=own, **more)
    refused(*words(data, out, "--only", "fold=9"), says="did you mean 'fold=")
    refused("experiment", "run", "toy", "--out", out, "--option", "a=b", says="give it with --data")
    assert not out.exists()


def test_a_model_from_a_file_runs_in_cells(data, tmp_path):
    out = tmp_path / "out"
    chosen = (
        "--set",
        'model={"type": "my_model"}',
        *(word for word in SET if "model." not in word and word != "--set"),
    )
    settings = [word for word in QUICK if not word.startswith("model.")]
    chosen = [part for setting in ['model={"type": "my_model"}', *settings] for part in ("--set", setting)]
    given = ("experiment", "run", "cross_validation", "--data", data, "--out", out, *chosen, "--only", "fold=0")
    command(*given, "--plugin", MODEL, "--jobs", 1)
    [cell] = out.glob("cells/*/cell.json")
    assert json.loads(cell.read_text())["experiment"]["model"]["type"] == "my_model"
    assert (cell.parent / "run" / "plugins.json").exists()
    assert "fold=1/seed=0  missing" in command("experiment", "status", out, "--plugin", MODEL).stdout
    table = command("experiment", "collect", out, "--plugin", MODEL).stdout
    assert "| my_model (plug-in) | 0 of 1 |" in table
    assert "Missing" in table
    refused("experiment", "status", out, says="my_model")


def test_processes_and_this_process_give_equal_cells(data, undisturbed, tmp_path):
    cells = run("cross_validation", tmp_path / "out", source=source_of(data),
                overrides=QUICK, only=["fold=2"])  # fmt: skip
    assert [cell.state for cell in cells] == ["done"]
    own = results(tmp_path / "out")
    assert own.items() <= results(undisturbed[0]).items()
    assert own


def test_the_six_models_share_data_and_continue_where_they_were(tmp_path):
    data = boxel.make_toy(tmp_path / "data", num_train=4, num_val=1, num_test=2, size=48)
    given = {"source": source_of(data), "overrides": [*QUICK, "train.max_seconds=100"]}
    first = run("six_models", tmp_path / "out", executor=Processes(2), **given)
    assert {cell.state for cell in first} == {"done"}
    assert {cell.cost["recipe"].removesuffix("_small") for cell in first} == set(MODELS)
    assert {cell.cost["steps"] for cell in first} == {3}
    before = contents(tmp_path / "out", "cells/**/*")
    assert run("six_models", tmp_path / "out", **given) == first
    assert contents(tmp_path / "out", "cells/**/*") == before


def test_cells_that_are_killed_end_alone_and_say_why(data, tmp_path):
    """A process that is ended from outside, as for lack of memory."""
    out = tmp_path / "out"
    process = Command(*words(data, out, "--only", "fold=[01]", "--jobs", 1))
    deadline, victim = time.monotonic() + 120, 0
    while not victim and not process.poll() and time.monotonic() < deadline:
        for lock in out.glob("cells/*/log.txt"):
            victim = next(iter(writers(lock)), 0)
        time.sleep(0.02)
    os.kill(victim, signal.SIGKILL)
    end = process.wait()
    assert end.returncode == 1
    assert "ended by signal 9; if memory was short, use fewer --jobs or set --memory" in end.stderr
    assert end.stderr.count(": done") == 1


def writers(path: Path) -> list[int]:
    """The processes that have this file as standard output."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            if os.readlink(entry) == str(path):
                found.append(int(entry.parts[2]))
        except OSError:
            continue
    return found
