"""Imports run one way: core <- catalogue <- protocols <- edge <- app <- commands."""

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.sources import Function, Module, modules, resolved

LAYERS = (
    *("gateway.core", "gateway.catalogue", "gateway.protocols", "gateway.edge", "gateway.footing"),
    *("gateway.mailroom", "gateway.app", "gateway.workers", "gateway.commands", "gateway.__main__"),
)
OPEN = {
    "gateway": set(LAYERS) | {"gateway.agent", "gateway.client"},
    "gateway.adapter": {"gateway.protocols"},
    "gateway.settings": {
        "gateway.footing",
        "gateway.mailroom",
        "gateway.app",
        "gateway.workers",
        "gateway.commands",
        "gateway.__main__",
    },
    "gateway.client": {"gateway.agent", "gateway.commands"},
    "gateway.agent": {"gateway.commands"},
}
"""Who may import what stands beside the layers; ``gateway`` itself is the version."""


def _part(name: str) -> str:
    """The layer or public module that a module belongs to."""
    return ".".join(name.split(".")[:2])


def _crossings(module: Module) -> Iterator[tuple[str, int]]:
    """What a module imports of other parts of the gateway."""
    for name, line in module.imports():
        target = _part(resolved(name))
        if target.partition(".")[0] == "gateway" and target != _part(module.name):
            yield target, line


def _may(source: str, target: str) -> bool:
    if target in OPEN:
        return source in OPEN[target]
    if source == "gateway.agent":  # it runs at an agency, without a gateway around it
        return target in LAYERS[: LAYERS.index("gateway.footing")]
    return source in LAYERS and target in LAYERS and LAYERS.index(target) < LAYERS.index(source)


def test_every_part_has_its_place() -> None:
    """A new folder or module at the top of gateway/ is given its place in this test first."""
    assert {_part(module.name) for module in modules("gateway")} == {*LAYERS, *OPEN}


def test_imports_run_one_way() -> None:
    """No part imports a part that stands above it, and the public modules import nothing but the version."""
    wrong = [
        f"{module.place}:{line} imports {target}"
        for module in modules("gateway")
        for target, line in _crossings(module)
        if not _may(_part(module.name), target)
    ]
    assert not wrong


def test_no_module_imports_itself_through_others() -> None:
    """There is no cycle among the gateway's modules, nor one through a package's own ``__init__``."""
    graph = {module.name: {resolved(name) for name, _ in module.imports()} for module in modules("gateway")}
    known = graph.keys()
    graph = {name: (targets & known) - {name, "gateway"} for name, targets in graph.items()}
    while leaves := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in leaves}
    assert not graph, f"a cycle lies among {sorted(graph)}"


@pytest.mark.parametrize("module", modules("gateway"), ids=lambda module: module.place)
def test_imports_stand_at_the_top(module: Module) -> None:
    """No function imports: that would only hide a cycle."""
    inside = [
        f"{module.place}:{inner.lineno}"
        for node in ast.walk(module.tree)
        if isinstance(node, Function)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
    assert not inside


@pytest.mark.parametrize("module", modules("adapters"), ids=lambda module: module.place)
def test_adapters_import_one_module_of_the_gateway(module: Module) -> None:
    """An agency's Python knows gateway.adapter and nothing else of the gateway, of other agencies or of the tests."""
    ours = ("gateway", "adapters", "deploy", "tests")
    names = [name for name, _ in module.imports() if name.partition(".")[0] in ours]
    assert [name for name in names if resolved(name) != "gateway.adapter"] == []


def test_the_program_knows_nothing_of_its_surroundings() -> None:
    """gateway/ imports neither adapters nor the demonstration nor the tests."""
    names = [(module.place, name) for module in modules("gateway") for name, _ in module.imports()]
    assert [each for each in names if each[1].partition(".")[0] in ("adapters", "deploy", "tests")] == []
