"""The brokers that this folder's tests share."""

from tests.fakes.guarded import guarded

__all__ = ["guarded"]
