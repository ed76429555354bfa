"""core/ decides: no IO, no clock, no async, no chance, no logging."""

import ast

import pytest

from tests.architecture.sources import Module, called, modules

ALLOWED = {
    *("base64", "binascii", "collections", "dataclasses", "datetime", "enum", "functools", "hashlib", "hmac"),
    *("ipaddress", "itertools", "json", "math", "re", "struct", "typing", "unicodedata"),
    "urllib",
    *("cryptography", "jsonschema", "jsonschema_rs", "jwt", "orjson", "rfc8785"),
    "gateway",
}
"""Whatever core/ may import: values in, values out. ``urllib`` is there for ``urllib.parse`` alone."""
CLOCKS = ("now", "today", "utcnow", "time", "time_ns", "monotonic", "perf_counter", "fromtimestamp")
DOORS = ("open", "input", "print", "exec", "eval", "__import__", "breakpoint")
ASYNC = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)

core = pytest.mark.parametrize("module", modules("gateway/core"), ids=lambda module: module.place)


@core
def test_core_imports_values_only(module: Module) -> None:
    """Nothing that reads, writes, waits or draws lots is within reach of core/."""
    names = [name for name, _ in module.imports()]
    assert [name for name in names if name.partition(".")[0] not in ALLOWED] == []
    assert [name for name in names if name.startswith("urllib") and not name.startswith("urllib.parse")] == []


@core
def test_core_is_not_asynchronous(module: Module) -> None:
    """core/ waits for nobody."""
    assert [node.lineno for node in ast.walk(module.tree) if isinstance(node, ASYNC)] == []


@core
def test_core_reads_no_clock_and_opens_nothing(module: Module) -> None:
    """Time and bytes are passed in."""
    names = [(called(call), call.lineno) for call in module.calls()]
    clocks = [each for each in names if "." in each[0] and each[0].rpartition(".")[2] in CLOCKS and _is_clock(each[0])]
    assert not clocks
    assert [each for each in names if each[0] in DOORS] == []


def _is_clock(name: str) -> bool:
    """``datetime.now`` and ``time.time``; not the method ``at.time()`` of a value."""
    return name.rpartition(".")[0] in ("datetime", "date", "time", "datetime.datetime", "datetime.date")
