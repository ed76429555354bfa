"""What of an answer that breaks its schema may leave while its endpoint only reports deviations."""

from typing import Any

from gateway.core.minimise import cut_of, minimise, parts, reduced
from gateway.core.model import Pointer
from gateway.core.shape import Shape, accepts


def sound(shape: Shape, value: Any, disclosed: tuple[Pointer, ...]) -> tuple[Pointer, ...] | None:
    """The disclosed pointers at which nothing stands that nobody agreed to; None where the whole is another thing.

    A member may leave if it fits its part of the schema, or is a plain value where a plain path leads: a date that is
    written wrongly, but no object that hides more than was agreed, and no list of persons instead of one.
    """
    kind = "array" if isinstance(value, list) else "object" if isinstance(value, dict) else "plain"
    if kind not in _types(shape):
        return None
    return tuple(pointer for pointer in disclosed if _is_sound(shape, value, pointer))


def _types(shape: Shape) -> list[str]:
    kind = shape.schema.get("type", "object")
    return kind if isinstance(kind, list) else [kind]


def _is_sound(shape: Shape, value: Any, pointer: Pointer) -> bool:
    cut = cut_of((pointer,))
    if cut is not None and accepts(reduced(shape.schema, cut), minimise(value, cut)):
        return True
    here = value
    for token in parts(pointer):
        if not isinstance(here, dict):
            return False
        if token not in here:
            return True
        here = here[token]
    return not isinstance(here, list | dict)
