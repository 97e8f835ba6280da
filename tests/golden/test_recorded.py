"""A redesign changes no number: losses, stores, detections and metrics are those that `record.py` recorded before."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.golden.record import ENVIRONMENT, RECORDED

ROOT = Path(__file__).parents[2]
LOSSES, RUNS = (json.loads((RECORDED / f"{name}.json").read_text()) for name in ("losses", "runs"))


@cache
def computed(name: str, folder: Path) -> dict[str, Any]:
    path = folder / f"{name}.json"
    command = [sys.executable, "-m", "tests.golden.record", name, str(path)]
    result = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recorded")


@pytest.mark.xdist_group("losses")
@pytest.mark.parametrize("key", LOSSES)
def test_the_loss_terms_of_twenty_steps_are_those_recorded(key, folder):
    now = computed("losses", folder)[key]
    for step, (expected, terms) in enumerate(zip(LOSSES[key], now, strict=True)):
        assert terms.keys() == expected.keys()
        different = {
            name: (value, terms[name])
            for name, value in expected.items()
            if terms[name] != pytest.approx(value, rel=1e-5, abs=1e-6)
        }
        assert not different, f"step {step}: term (recorded, now) {different}"


@pytest.mark.xdist_group("runs")
@pytest.mark.parametrize("key", RUNS)
@pytest.mark.parametrize("part", ["store", "log", "detections", "metrics"])
def test_a_small_run_is_the_one_recorded(key, part, folder):
    different = list(differences(RUNS[key][part], computed("runs", folder)[key][part], part))
    assert not different, "\n".join(different[:10])


def differences(expected: Any, value: Any, where: str):
    """Where `value` differs from `expected`; it may have more names than are recorded."""
    match expected:
        case {}:
            for name in expected.keys() - {"settings"}:
                yield from differences(expected[name], value[name], f"{where}/{name}")
        case [*items] if len(items) == len(value):
            for index, item in enumerate(items):
                yield from differences(item, value[index], f"{where}/{index}")
        case float() if value == pytest.approx(expected, rel=1e-4, abs=1e-4):
            pass
        case _ if value != expected:
            yield f"{where}: recorded {expected}, now {value}"
