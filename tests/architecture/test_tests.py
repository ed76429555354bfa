"""How tests are made: real parts, no mocks, one sentence first (that none sleeps, ``test_sizes`` holds)."""

import ast

import pytest

from tests.architecture.sources import Module, called, modules

MOCKS_A_TEST = 0.05
TESTS = modules("tests")

every_file = pytest.mark.parametrize("module", TESTS, ids=lambda module: module.place)


def _tests(module: Module) -> list[tuple[str, ast.AST]]:
    return [(name, node) for name, node in module.functions() if name.rpartition(".")[2].startswith("test_")]


@every_file
def test_nothing_is_patched_with_mocks(module: Module) -> None:
    """unittest.mock tests the test."""
    assert [name for name, _ in module.imports() if name.startswith(("unittest", "mock", "pytest_mock"))] == []


def test_hardly_anything_is_replaced() -> None:
    """Attributes set by monkeypatch count as mocks: at most one in twenty tests."""
    replaced = [
        f"{module.place}:{call.lineno}"
        for module in TESTS
        for call in module.calls()
        if called(call).endswith(("patch.setattr", "patch.setitem", "patch.delattr"))
    ]
    assert len(replaced) <= MOCKS_A_TEST * sum(len(_tests(module)) for module in TESTS), replaced


@every_file
def test_a_test_says_what_it_proves(module: Module) -> None:
    """Each test opens with a sentence."""
    silent = [
        f"{module.place}:{node.lineno} {name}"
        for name, node in module.functions()
        if name.rpartition(".")[2].startswith("test_") and not (ast.get_docstring(node) or "").strip().endswith(".")
    ]
    assert not silent
