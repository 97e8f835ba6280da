"""The table of real data sets in the documentation is what the command prints."""

import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.data
def test_the_table_of_real_data_sets_is_current(data):
    command = [sys.executable, str(DOCS / "count_data_sets.py"), str(data)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout in (DOCS / "results" / "data_sets.md").read_text()
