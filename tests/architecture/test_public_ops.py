"""What `import boxel.ops` offers, and what it costs."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import boxel.ops

MODULES = [module.name for module in pkgutil.iter_modules(boxel.ops.__path__)]


def test_all_is_what_can_be_reached():
    assert dir(boxel.ops) == sorted(boxel.ops.__all__)
    assert boxel.ops._MODULE.keys() == set(boxel.ops.__all__)
    assert all(hasattr(boxel.ops, name) for name in boxel.ops.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        boxel.ops.no_such_name  # noqa: B018


def test_no_module_hides_a_function():
    for name in MODULES:
        importlib.import_module(f"boxel.ops.{name}")
    assert not set(MODULES) & set(boxel.ops.__all__)
    assert not any(inspect.ismodule(getattr(boxel.ops, name)) for name in boxel.ops.__all__)


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(boxel.ops.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {(line.module, alias.name) for line in guarded.body for alias in line.names}
    assert seen == {(module, name) for name, module in boxel.ops._MODULE.items()}


@pytest.mark.parametrize("name", boxel.ops.__all__)
def test_every_public_function_says_what_it_does_with_an_example_that_runs(name):
    public = getattr(boxel.ops, name)
    if not callable(public):
        return
    assert inspect.getdoc(public)
    if inspect.isfunction(public):
        (example,) = doctest.DocTestFinder(recurse=False).find(public, name, globs={})
        assert example.examples, f"boxel.ops.{name} has no example"
        assert doctest.DocTestRunner().run(example).failed == 0


def test_the_reference_lists_every_public_name():
    page = Path(__file__).parents[2] / "docs" / "reference" / "operators.md"
    listed = set(re.findall(r"`(\w+)`", page.read_text()))
    assert not set(boxel.ops.__all__) - listed


def test_every_function_that_takes_either_world_is_public():
    found = set()
    for name in MODULES:
        module = Path(boxel.ops.__path__[0], f"{name}.py")
        for node in ast.walk(ast.parse(module.read_text())) if module.exists() else ():
            if isinstance(node, ast.FunctionDef) and "numpy_too" in map(ast.unparse, node.decorator_list):
                found.add(node.name)
    assert len(found) > 20
    assert found <= set(boxel.ops.__all__)


def test_importing_the_package_loads_neither_torch_nor_numba():
    code = "import sys, boxel.ops; print({'torch', 'numba', 'numpy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
