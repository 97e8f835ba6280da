"""Files stay small, say what they are about, and live in a module with a subject."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"utils", "util", "helpers", "helper", "common", "misc", "core"}
PYTHON = sorted(path for folder in ("src", "tests", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py"))
SOURCE = [path for path in PYTHON if path.is_relative_to(ROOT / "src")]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_no_file_is_longer_than_300_lines(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", SOURCE, ids=name)
def test_no_module_is_a_drawer(path):
    drawers = FORBIDDEN & {part.strip("_") for part in path.relative_to(ROOT / "src").with_suffix("").parts}
    assert not drawers, f"name the subject instead of {drawers}"


@pytest.mark.parametrize("path", SOURCE, ids=name)
def test_every_module_says_what_it_is_about(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body
