"""What operators read of a provider that fails: why, once a minute, and how many calls it met."""

from pathlib import Path

import structlog

from gateway.core.model import AgencyId, ServiceId
from gateway.edge.trouble import EVERY, Troubles
from gateway.protocols.protocol import ProviderFault, Unsent
from tests.fakes import idp
from tests.fakes.parties import LOOK_UP, PARTIES, PERSON, TAX, USUAL, catalogue_of
from tests.fakes.town import opened

IDS = {"exchange": "x", "trace": "t"}


def fault(code: str = "provider.unavailable", why: str | None = "Connection refused") -> ProviderFault:
    made = ProviderFault(code, "The system of interior cannot be reached.", sent=False)
    made.__cause__ = Unsent(why) if why else None
    return made


def test_one_line_a_minute() -> None:
    """With the network's words, for each code apart; the next one says how many there were since."""
    now = [1000.0]
    troubles = Troubles(lambda: now[0])
    keys = {name: idp.key() for name in PARTIES}
    endpoint = catalogue_of("http://127.0.0.1:1", keys, USUAL).endpoint(AgencyId("interior"), ServiceId(LOOK_UP))
    assert endpoint is not None
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            troubles.note(endpoint, fault(), IDS)
        troubles.note(endpoint, fault("provider.timeout", None), IDS)
        troubles.note(endpoint, fault("provider.not_found"), IDS)
        now[0] += EVERY
        troubles.note(endpoint, fault(), IDS)
    assert [(line["code"], line["why"], line["more"]) for line in lines] == [
        ("provider.unavailable", "Connection refused", 0),
        ("provider.timeout", "The system of interior cannot be reached.", 0),
        ("provider.unavailable", "Connection refused", 2),
    ]


async def test_a_system_that_is_down(tmp_path: Path) -> None:
    """Its line stands in the log of a gateway, with the exchange."""
    async with opened(tmp_path) as town:
        await town.office.shut()
        with structlog.testing.capture_logs() as lines:
            reply = await town.call(TAX, LOOK_UP, PERSON)
    (line,) = [line for line in lines if line["event"] == "provider_failed"]
    assert reply.body["code"] == "provider.unavailable"
    assert (line["provider"], line["exchange"]) == ("interior", reply.body["exchange"])
    assert line["why"] == "Connection refused"
