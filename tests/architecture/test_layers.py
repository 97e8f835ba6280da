"""Who may import whom (the contract is in pyproject.toml), and which libraries the package may count on."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "boxel"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def lint_imports(source: Path) -> subprocess.CompletedProcess:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    environment = {**os.environ, "PYTHONPATH": str(source)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_every_module_imports_only_what_lies_below_it():
    result = lint_imports(PACKAGE.parent)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_stage_that_imports_its_sibling_or_a_module_without_a_place_is_refused(tmp_path):
    copy = shutil.copytree(PACKAGE, tmp_path / "boxel", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "stray.py").touch()
    assert "stray" in lint_imports(tmp_path).stdout
    (copy / "stray.py").unlink()
    (copy / "ops" / "upwards.py").write_text("import boxel.types\n")
    assert "boxel.ops.upwards -> boxel.types" in lint_imports(tmp_path).stdout


def declared(requirements: list[str]) -> set[str]:
    return {re.match(r"[A-Za-z0-9._-]+", line)[0].lower().replace("_", "-") for line in requirements}


def imported_distributions() -> dict[str, str]:
    """The distributions that the package's modules import, each with one module that does."""
    distributions = importlib.metadata.packages_distributions()
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=aliases):
                    modules = [alias.name for alias in aliases]
                case ast.ImportFrom(module=module, level=0):
                    modules = [module]
                case _:
                    continue
            for module in modules:
                top = module.split(".")[0]
                if top != "boxel" and top not in sys.stdlib_module_names:
                    for distribution in distributions.get(top, [top]):
                        found[distribution.lower().replace("_", "-")] = path.relative_to(PACKAGE).as_posix()
    return found


def test_every_library_that_is_imported_is_declared():
    optional = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    known = declared(PROJECT["dependencies"] + optional)
    undeclared = {name: where for name, where in imported_distributions().items() if name not in known}
    assert not undeclared


def test_every_declared_library_is_imported():
    assert declared(PROJECT["dependencies"]) <= imported_distributions().keys()
