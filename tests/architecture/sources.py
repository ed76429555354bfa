"""The project's Python files as syntax trees, and what they import: what every test of the structure reads."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
BESIDE = ("tests/catalogue/base", "tests/catalogue/cases")
"""Catalogues that tests load: what lies there belongs to pretend agencies, right or wrong on purpose."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Module:
    """One file."""

    path: Path
    text: str

    @property
    def tree(self) -> ast.Module:
        """Its syntax: made when it is asked for, not by every process that collects tests."""
        return _parsed(self.text)

    @property
    def place(self) -> str:
        """Its path below the root."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def name(self) -> str:
        """Its dotted name."""
        return self.place.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def functions(self) -> Iterator[tuple[str, Function]]:
        """Every function with its qualified name, also those inside of others."""
        yield from _functions(self.tree, "")

    def classes(self) -> Iterator[ast.ClassDef]:
        """Every class."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))

    def calls(self) -> Iterator[ast.Call]:
        """Every call."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))

    def imports(self) -> Iterator[tuple[str, int]]:
        """Every dotted name that is imported, ``from a import b`` as ``a.b``, with its line."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((each.name, node.lineno) for each in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((f"{node.module}.{each.name}", node.lineno) for each in node.names)


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for inner in ast.iter_child_nodes(node):
        name = f"{prefix}{inner.name}" if isinstance(inner, Function | ast.ClassDef) else prefix.removesuffix(".")
        if isinstance(inner, Function):
            yield name, inner
        yield from _functions(inner, f"{name}." if name else "")


@lru_cache(maxsize=8)
def modules(folder: str) -> tuple[Module, ...]:
    """Every Python file below a folder of the project."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    found = (path for path in paths if not path.relative_to(ROOT).as_posix().startswith(BESIDE))
    return tuple(Module(path, path.read_text("utf-8")) for path in found)


def everywhere() -> tuple[Module, ...]:
    """Every Python file of the project."""
    return (*modules("gateway"), *modules("adapters"), *modules("deploy"), *modules("tests"))


def resolved(name: str) -> str:
    """The module that an imported dotted name of the gateway stands for: the name itself, or what it stands in."""
    known = {module.name for module in modules("gateway")}
    while name not in known and "." in name:
        name = name.rpartition(".")[0]
    return name


def called(call: ast.Call) -> str:
    """The dotted name that is called, as it is written."""
    return ast.unparse(call.func)
