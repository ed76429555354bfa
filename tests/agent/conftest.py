"""What every test of the agent may ask for."""

from tests.fakes.brokers import kafka

__all__ = ["kafka"]
