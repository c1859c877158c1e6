"""What docstrings show is what happens."""

import doctest
from importlib import import_module
from pkgutil import walk_packages

import pytest

import bt_margin

MODULES = [module.name for module in walk_packages(bt_margin.__path__, "bt_margin.") if not module.name.endswith("__main__")]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run_as_they_stand(name: str) -> None:
    try:
        module = import_module(name)
    except ImportError as error:
        if error.name is None or error.name.startswith("bt_margin"):  # ours, and broken
            raise
        pytest.skip(f"needs {error.name}")
    assert doctest.testmod(module).failed == 0


def test_there_are_examples() -> None:
    found = doctest.DocTestFinder().find(import_module("bt_margin.outcome"))
    assert sum(len(one.examples) for one in found) >= 3
