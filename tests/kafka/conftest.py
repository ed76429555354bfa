"""The brokers that this folder's tests share."""

from tests.fakes.brokers import kafka
from tests.fakes.guarded import guarded

__all__ = ["guarded", "kafka"]
