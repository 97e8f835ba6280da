"""Compiled code must never be what stops a run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import boxel.ops

SCRIPT = """
import torch
from boxel.ops.checks import check_boxes
check_boxes(torch.zeros(3, 2, 2))
"""


def run(script: str, **environment: str) -> str:
    command, variables = [sys.executable, "-c", script], {**os.environ, **environment}
    return subprocess.run(command, check=True, env=variables, stdout=subprocess.PIPE, text=True).stdout.strip()


def test_a_machine_without_a_writable_cache_works(tmp_path):
    """Neither where the user asked for it, nor beside the code, nor in the user's home."""
    package = Path(boxel.ops.__file__).parents[1]
    copy = shutil.copytree(package, tmp_path / "src" / "boxel", ignore=shutil.ignore_patterns("__pycache__"))
    obstacle = copy / "ops" / "kernels" / "__pycache__"
    obstacle.write_text("where the cache should be")
    nowhere = str(obstacle / "cache")
    uncached = "from boxel.ops.kernels import first_bad_row as f; assert f.stats.cache_path is None, f.stats.cache_path"
    run(SCRIPT + uncached, PYTHONPATH=str(copy.parent), NUMBA_CACHE_DIR=nowhere, HOME=nowhere, XDG_CACHE_HOME=nowhere)


def test_compiled_kernels_are_kept_on_disk(tmp_path):
    counts = "from boxel.ops.kernels import first_bad_row as f; print(sum(f.stats.cache_hits.values()))"
    result = [run(SCRIPT + counts, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    assert result == ["0", "1"]


def test_a_machine_without_numba_works():
    run("import sys; sys.modules['numba'] = None" + SCRIPT)


def test_importing_the_operators_does_not_import_numba():
    run("import sys, boxel.ops.suppression, boxel.ops.matching; assert 'numba' not in sys.modules")
