"""Compiled code must never be what stops a run."""

import os
import subprocess
import sys

SCRIPT = """
import torch
from boxel.ops.checks import check_boxes
check_boxes(torch.zeros(3, 2, 2))
"""


def run(script: str, **environment: str) -> None:
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, **environment})


def test_a_machine_without_a_writable_cache_works(tmp_path):
    obstacle = tmp_path / "file"
    obstacle.write_text("where the cache should be")
    run(SCRIPT, NUMBA_CACHE_DIR=str(obstacle / "cache"), HOME=str(obstacle))


def test_a_machine_without_numba_works():
    run("import sys; sys.modules['numba'] = None" + SCRIPT)


def test_importing_the_operators_does_not_import_numba():
    run("import sys, boxel.ops.suppression, boxel.ops.matching; assert 'numba' not in sys.modules")
