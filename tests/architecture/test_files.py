"""Files stay small, say what they are about, and live in a module with a subject."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"utils", "util", "helpers", "helper", "common", "misc", "core"}
PYTHON = sorted(path for folder in ("src", "tests", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py"))
SUFFIXES = {".py", ".md", ".mjs", ".toml", ".txt", ".yml", ".yaml", ".json", ".j2"}
NAMED = {"LICENSE", "Makefile", ".gitignore", ".ci/run"}
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


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / path for path in listed.split("\0") if path and (ROOT / path).is_file()]


def test_only_files_of_known_kinds_are_tracked():
    strange = [name(path) for path in tracked() if path.suffix not in SUFFIXES and name(path) not in NAMED]
    assert not strange, f"remove these from git, or add their suffix to SUFFIXES: {strange}"


def test_no_binary_file_is_tracked_outside_the_documentation():
    binary = [name(path) for path in tracked() if b"\0" in path.read_bytes() and ROOT / "docs" not in path.parents]
    assert not binary


# What writes a file under the name it is given: it may be handed the temporary file of `boxel.files.writing` alone.
OPENS = {"open", "fdopen"}
WRITES = {
    "write_text",
    "write_bytes",
    "savetxt",
    "savez",
    "savefig",
    "save_as",
    "WriteImage",
    "imwrite",
    "imsave",
    "to_csv",
    "save_file",
    "NamedTemporaryFile",
}
WRITERS = {"files.py"}
# Into files that `boxel.files.writing` or the system made, or into a pipe.
ELSEWHERE = {"io/itk.py", "io/pictures.py", "io/dicom_frames.py", "io/apart.py", "training/child.py"}


def direct_writes(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        of_path = isinstance(node.func, ast.Attribute)
        modes = [a.value for a in (*node.args[:2], *(k.value for k in node.keywords)) if isinstance(a, ast.Constant)]
        opens = called in OPENS and any(isinstance(m, str) and re.fullmatch("[wax+][bt+]*", m) for m in modes)
        into_buffer = bool(node.args) and ast.unparse(node.args[0]) in ("buffer", "text", "os.devnull")
        if (opens or (called in WRITES and of_path)) and not into_buffer:
            found.append(f"{name(path)}:{node.lineno} {called}")
    return found


def test_files_are_written_by_boxel_files_alone():
    package = ROOT / "src" / "boxel"
    others = [p for p in SOURCE if p.relative_to(package).as_posix() not in WRITERS | ELSEWHERE]
    assert direct_writes(package / "files.py"), "the test finds what it is about"
    assert [line for path in others for line in direct_writes(path)] == []
