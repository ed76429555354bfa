"""Sizes as a smell, and sleeps: what is unusual stands with its reason in allowed.toml, and nothing else does."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.sources import Function, called, everywhere, modules

FUNCTION = 45
"""Lines, from ``def`` to its end."""
MODULE = 400
METHODS = 12
POSITIONAL = 5

PROGRAM = (*modules("gateway"), *modules("adapters"), *modules("deploy"))


def _functions() -> Iterator[str]:
    for module in everywhere():
        for name, node in module.functions():
            if (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION:
                yield f"{module.place}:{name}"


def _modules() -> Iterator[str]:
    return (module.place for module in everywhere() if module.text.count("\n") > MODULE)


def _classes() -> Iterator[str]:
    for module in everywhere():
        for node in module.classes():
            if sum(isinstance(inner, Function) for inner in node.body) > METHODS:
                yield f"{module.place}:{node.name}"


def _calls() -> Iterator[str]:
    for module in PROGRAM:
        yield from (f"{module.place}:{called(call)}" for call in module.calls() if len(call.args) > POSITIONAL)


def _sleeps() -> Iterator[str]:
    for module in modules("tests"):
        for name, node in module.functions():
            yield from (f"{module.place}:{name}" for inner in ast.walk(node) if _waits(inner))


def _waits(node: ast.AST) -> bool:
    """A sleep that takes time; ``sleep(0)`` only lets others run."""
    if not isinstance(node, ast.Call) or called(node) not in ("asyncio.sleep", "time.sleep", "sleep"):
        return False
    return not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)


FOUND = {"functions": _functions, "modules": _modules, "classes": _classes, "calls": _calls, "sleeps": _sleeps}
ALLOWED = tomllib.loads(Path(__file__).with_name("allowed.toml").read_text("utf-8"))


@pytest.mark.parametrize("kind", FOUND)
def test_what_is_unusual_has_a_reason(kind: str) -> None:
    """Split it, or write the reason into allowed.toml; a line there that nothing needs any more is taken out."""
    found = set(FOUND[kind]())
    assert not found - ALLOWED[kind].keys(), "has no line in allowed.toml"
    assert not ALLOWED[kind].keys() - found, "stands in allowed.toml, and nothing needs it any more"


def test_every_reason_is_a_sentence() -> None:
    """An exception without a reason is none."""
    assert ALLOWED.keys() == FOUND.keys()
    reasons = [reason for lines in ALLOWED.values() for reason in lines.values()]
    assert [reason for reason in reasons if len(reason.split()) < 4 or not reason.endswith(".")] == []
