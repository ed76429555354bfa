"""The broker that this folder's tests share."""

from tests.fakes.brokers import kafka

__all__ = ["kafka"]
