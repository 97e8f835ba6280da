"""The examples in the docstrings of `boxel.nn` run."""

import doctest
import importlib
import pkgutil

import pytest

import boxel.nn

MODULES = [module.name for module in pkgutil.walk_packages(boxel.nn.__path__, "boxel.nn.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    assert doctest.testmod(importlib.import_module("boxel.nn.losses")).attempted > 1
