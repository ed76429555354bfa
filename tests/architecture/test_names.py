"""Modules are nouns of the domain, each opens with a sentence, and the map of the program is true."""

import ast
import re
import sys

import pytest

import gateway
from tests.architecture.sources import ROOT, Module, everywhere, modules

EMPTY_WORDS = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers", "base", "types"}


def test_no_module_is_named_for_nothing() -> None:
    """A name such as helpers says that nobody asked what the module is."""
    wrong = [module.place for module in everywhere() if EMPTY_WORDS & set(re.split(r"[/_.]", module.place))]
    assert not wrong


def test_no_top_level_module_hides_the_standard_library() -> None:
    """A folder at the top is found before the standard library's module of that name."""
    tops = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not tops & sys.stdlib_module_names


@pytest.mark.parametrize("module", everywhere(), ids=lambda module: module.place)
def test_a_module_opens_with_one_sentence(module: Module) -> None:
    """Who opens a file learns first what it is: one sentence up to its full stop, then perhaps more."""
    opening = (ast.get_docstring(module.tree) or "").partition("\n\n")[0]
    assert re.fullmatch(r"\S.*[.:]", opening.replace("\n", " ")), f"{module.place} opens with {opening!r}"


def test_the_map_names_modules_that_exist() -> None:
    """Every ``part/module`` in the reading order of gateway/__init__.py is there."""
    named = re.findall(r"``((?:core|edge|catalogue|protocols)(?:/[a-z_]*)?|app|adapter|client|settings)``", _map())
    known = {module.name.removeprefix("gateway.").replace(".", "/") for module in modules("gateway")}
    assert len(named) > 10
    assert [name for name in named if name.rstrip("/") not in known] == []


def _map() -> str:
    return gateway.__doc__ or ""
