"""Text that users read has the words of the field: help, messages, the report, documents.

A line that must have a banned word, such as the name of a folder, is matched by `ALLOWED`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "boxel"
BETTER = {
    r"mend(s|ed|ing)?": "fix",
    r"remed(y|ies)": "suggested fix",
    r"told": "reported",
    r"jut(s|ting|ted)?": "extend beyond",
    r"judg\w*": "evaluate",
    r"flatter\w*": "be optimistic",
    r"whatever": "any, or regardless of",
    r"of the folds": "for the fold split",
    r"figures?": "metric (a figure is a picture)",
}
ALLOWED = re.compile(
    r"figures?/|figures?`|figure\.png|[Ff]igures? (\d|\(|of|shows?)|[Ff]igures? as (PNG|SVG)"
    r"|[Mm]atplotlib.figure|</?figure|figure \{|\bFigure, Axes"
)
# Calls whose texts users see.
MESSAGES = {"warn", "warning", "info", "print", "report", "InputError", "Option", "Argument", "add_column"}
# Everything that these say is shown.
SHOWN = ("cli", "reporting")
DOCUMENTS = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
TEMPLATES = sorted(SOURCE.rglob("*.j2"))
MODULES = sorted(SOURCE.rglob("*.py"))


def complaints(lines: Iterator[tuple[int, str]]) -> list[str]:
    found = []
    for number, text in lines:
        for line in text.splitlines():
            shown = ALLOWED.sub("", line)
            found += [
                f"{number}: {match[0]!r}: {better}"
                for word, better in BETTER.items()
                for match in re.finditer(rf"\b{word}\b", shown, re.I)
            ]
    return found


def literals(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Texts with a space: others are names and keys."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and " " in part.value:
            yield part.lineno, part.value


def docstrings(tree: ast.AST) -> set[int]:
    """The lines of docstrings that are not the help of a verb."""
    owners = (node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef))
    return {node.body[0].lineno for node in owners if ast.get_docstring(node)}


def messages(path: Path) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text())
    if path.relative_to(SOURCE).parts[0] in SHOWN:
        skipped = docstrings(tree)
        yield from ((number, text) for number, text in literals(tree) if number not in skipped)
        return
    for node in ast.walk(tree):
        match node:
            case ast.Raise():
                yield from literals(node)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in MESSAGES:
                yield from literals(node)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", [*DOCUMENTS, *TEMPLATES, *MODULES], ids=name)
def test_users_read_the_words_of_the_field(path):
    lines = messages(path) if path.suffix == ".py" else enumerate(path.read_text().splitlines(), start=1)
    found = sorted(set(complaints(lines)))
    assert not found, "\n" + "\n".join(f"{name(path)}:{line}" for line in found)


@pytest.mark.parametrize(
    "text",
    ["with the remedy", "so that they can mend it", "judged on all", "these figures flatter", "seed of the folds"],
)
def test_banned_words_are_recognised(text):
    assert complaints(iter([(1, text)]))


@pytest.mark.parametrize("text", ["curves in figures/*.png", "as in figure 2 of the paper", "recommended", "adjust"])
def test_other_words_are_not_mistaken_for_banned_ones(text):
    assert not complaints(iter([(1, text)]))


def test_messages_and_help_texts_are_read(tmp_path):
    assert any("FOLDER" in text or "Folder" in text for _, text in messages(SOURCE / "cli" / "options.py"))
    assert any("registers nothing" in text for _, text in messages(SOURCE / "plugins.py"))
