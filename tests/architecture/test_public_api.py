"""What `import boxel` offers, and what it costs."""

import doctest
import importlib.metadata
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import boxel
from boxel.cli import app

BOXEL = Path(sys.executable).with_name("boxel")
HEAVY = (
    "torch",
    "monai",
    "SimpleITK",
    "matplotlib",
    "pandas",
    "numba",
    "scipy",
    "plotly",
    "lightning_fabric",
)


def run(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_all_is_what_can_be_reached():
    missing = [name for name in boxel.__all__ if not hasattr(boxel, name)]
    assert not missing
    assert set(boxel.__all__) <= set(dir(boxel))
    assert len(boxel.__all__) == len(set(boxel.__all__))


@pytest.mark.parametrize("name", sorted(boxel.__all__))
def test_every_public_name_has_a_docstring(name):
    public = getattr(boxel, name)
    if not isinstance(public, str):
        assert inspect.getdoc(public)


@pytest.mark.parametrize("name", sorted(boxel.__all__))
def test_examples_in_public_docstrings_run(name):
    public = getattr(boxel, name)
    for test in doctest.DocTestFinder(recurse=False).find(public, name, globs={"boxel": boxel}):
        failed = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(test)
        assert failed.failed == 0


@pytest.mark.parametrize("module", ["boxel", "boxel.cli"])
def test_importing_loads_nothing_heavy(module):
    loaded = run(sys.executable, "-c", f"import sys, {module}; print(*sys.modules)").split()
    assert not set(HEAVY) & set(loaded)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        boxel.no_such_name  # noqa: B018


def test_the_version_is_the_installed_one():
    assert boxel.__version__ == importlib.metadata.version("boxel")


def test_help_answers_within_three_tenths_of_a_second():
    """In processor time, so that other work on the machine does not count much; see benchmarks/startup.py.

    On a machine where that is too little for the libraries of the command line alone, 1.5 times as much as they need.
    """
    libraries = processor_seconds(sys.executable, "-c", "import typer.rich_utils, rich.markdown, rich.traceback")
    assert 0 < processor_seconds(str(BOXEL), "--help") < max(0.3, 1.5 * libraries)


def processor_seconds(*command: str) -> float:
    """The least of five runs."""
    seconds = []
    for _ in range(5):
        before = os.times()
        run(*command)
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(seconds)


@pytest.mark.parametrize("verb", sorted(typer.main.get_command(app).commands))
def test_the_help_of_every_verb_shows_an_example(verb):
    text = run(sys.executable, "-m", "boxel", verb, "--help")
    assert f"boxel {verb}" in text.split("Example", 1)[1]


@pytest.mark.parametrize("verb", ["check", "predict", "evaluate", "compare", "experiment run"])
def test_help_names_the_values_of_options_in_words(verb):
    text = run(sys.executable, "-m", "boxel", *verb.split(), "--help")
    options = [line for line in text.splitlines() if " --" in line and "--help" not in line]
    assert not [line for line in options if re.search(r"<(bool|int|str|float|list|Path)", line)]
    if verb == "compare":
        assert re.search("PREDICTIONS.*OTHER.*DATASET", text)
