"""The databases that races are played on."""

from tests.fakes.databases import server, shared, url

__all__ = ["server", "shared", "url"]
