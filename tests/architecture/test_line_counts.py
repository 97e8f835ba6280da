"""The page on the architecture counts the lines of Boxel's functions as they are."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "concepts" / "architecture.md").read_text()
COUNTED = sorted({(path, name, int(lines)) for path, name, lines in re.findall(r"`(\S+\.py):([\w.]+)` \((\d+)\)", PAGE)
                  if (ROOT / "src" / "boxel" / path).exists()})  # fmt: skip


@pytest.mark.parametrize(("path", "name", "lines"), COUNTED)
def test_a_function_has_the_stated_number_of_lines(path, name, lines):
    node: ast.AST = ast.parse((ROOT / "src" / "boxel" / path).read_text())
    for part in name.split("."):
        [node] = [child for child in node.body if getattr(child, "name", None) == part]
    assert node.end_lineno - node.lineno + 1 == lines


def test_every_part_of_the_detector_is_counted():
    assert len(COUNTED) == 9
