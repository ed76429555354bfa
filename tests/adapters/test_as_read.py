"""What an endpoint is connected with is what was read and held against the rules, whatever lies on the disk by now."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.edge.outbound import HttpOutbound
from gateway.edge.workshop import PROTOCOLS
from tests.adapters.test_protocols import adapter, secret, surroundings
from tests.fakes.systems import call, endpoint

WHICH = """
from gateway.adapter import Adapter
class Registry(Adapter):
    async def answer(self, request):
        return {"version": VERSION}
VERSION = 1
"""


async def test_the_code_that_was_read_is_the_code_that_runs(tmp_path: Path) -> None:
    """What lies in adapter.py by now was held against nothing yet: neither it nor anything compiled from it is run."""
    around = surroundings(adapter(tmp_path, WHICH), HttpOutbound())
    adapter(tmp_path, WHICH.replace("= 1", "= 2"))
    provider = PROTOCOLS["python"](endpoint("python", **{"class": "Registry"}), around)
    assert (await provider.call(call("x"))).value == {"version": 1}
    assert [each.name for each in (tmp_path / "adapters/interior").iterdir()] == ["adapter.py"]


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://h/", "secret_headers": {"X-A": "interior.key"}},
        {"url": "https://h/", "tls": {"ca": "interior.key"}},
        {"url": "https://h/", "tls": {"client": "interior.key"}},
    ],
)
def test_another_secret_than_was_read(tmp_path: Path, options: Mapping[str, object]) -> None:
    """A secret that changed since its folder was read is not used with a catalogue that knows nothing of it."""
    secret(tmp_path, "interior.key", "s3cret")
    around = surroundings(tmp_path, HttpOutbound())
    secret(tmp_path, "interior.key", "an0ther")
    with pytest.raises(ValueError, match="is another one than when its folder was read") as caught:
        PROTOCOLS["http"](endpoint("http", **options), around)
    assert "an0ther" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\nraise ValueError('Sok Dara')", "ValueError in line 2"),
        ("x = 'Sok Dara", "SyntaxError in line 1"),
        ("import asyncio\nraise asyncio.CancelledError('Sok Dara')", "CancelledError in line 2"),
        ("def __getattr__(name):\n    raise OSError('Sok Dara')", "OSError in line 2"),
    ],
)
def test_what_code_says_of_itself_is_not_repeated(tmp_path: Path, text: str, words: str) -> None:
    """Of what goes wrong in an adapter.py its finding, which is logged, has type and line."""
    with pytest.raises(ValueError, match=words) as caught:
        PROTOCOLS["python"](
            endpoint("python", **{"class": "Registry"}), surroundings(adapter(tmp_path, text), HttpOutbound())
        )
    assert "Sok Dara" not in str(caught.value)
