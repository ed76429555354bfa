"""The databases that processes are killed beside."""

from tests.fakes.databases import server, shared, url

__all__ = ["server", "shared", "url"]
