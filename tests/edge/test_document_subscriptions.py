"""What systems subscribe to by themselves: under an agreement, listed, journaled, ended."""

from pathlib import Path

import pytest

from tests.fakes.correspondents import ALERT, ALERTS, DESK, FLOOD, LETTER, PURPOSE, REGISTER, SILA, Letters
from tests.fakes.post_office import opened

WISH = {"publisher": "interior", "service": ALERT, "purpose": PURPOSE}
GONE = {"publisher": "interior", "service": ALERT}


async def test_a_subscription_lasts_until_it_is_ended(tmp_path: Path) -> None:
    """It is listed and gets events; once ended it gets none, and both are in the journal."""
    async with opened(tmp_path, Letters(subscriptions=())) as town:
        made = await town.say("POST", "/subscriptions", DESK, WISH)
        again = await town.say("POST", "/subscriptions", DESK, WISH)
        (listed,) = (await town.say("GET", "/subscriptions")).body["subscriptions"]
        first = await town.send(FLOOD, "/events", ALERT, ALERTS)
        gone = await town.say("DELETE", "/subscriptions", DESK, GONE)
        assert (await town.say("DELETE", "/subscriptions", DESK, GONE)).status == 204
        second = await town.send(FLOOD, "/events", ALERT, ALERTS)
        words = [each.facts["what"] for each in town.entries() if "consumer" in each.facts and "what" in each.facts]
    assert (listed["publisher"], listed["service"], listed["by"]) == ("interior", ALERT, "api")
    assert (made.status, made.body, again.status, again.body) == (201, listed, 201, listed)
    assert [each.headers.get("Exchange-Entry") is not None for each in (made, again, gone)] == [True, False, True]
    assert gone.status == 204
    assert (first.body["recipients"], second.body["recipients"]) == (1, 0)
    assert words == ["subscribed", "unsubscribed"]


async def test_what_the_folder_says_is_listed_and_not_ended_here(tmp_path: Path) -> None:
    """A subscription of the folder is changed there."""
    async with opened(tmp_path) as town:
        (listed,) = (await town.say("GET", "/subscriptions", SILA)).body["subscriptions"]
        reply = await town.say("DELETE", "/subscriptions", SILA, GONE)
    assert listed["by"] == "folder"
    assert (reply.status, reply.body["code"]) == (409, "subscription.not_possible")


@pytest.mark.parametrize(
    ("system", "changes", "code"),
    [
        (DESK, {"purpose": "curiosity"}, "policy.purpose"),
        (DESK, {"publisher": "sila"}, "catalogue.unknown"),
        (DESK, {"service": LETTER}, "catalogue.unknown"),
        ("digital.local", {}, "policy.no_agreement"),
        (DESK, {"service": "Disaster"}, "shape.request"),
        (DESK, {"system": REGISTER}, "shape.request"),
    ],
)
async def test_only_what_an_agreement_permits_is_subscribed_to(
    tmp_path: Path, system: str, changes: dict[str, str], code: str
) -> None:
    """Refused, and nothing is kept."""
    async with opened(tmp_path) as town:
        reply = await town.say("POST", "/subscriptions", system, {**WISH, **changes})
        kept = town.rows("select count(*) from subscriptions")
    assert (reply.body["code"], kept) == (code, [(0,)])


async def test_what_cannot_reach_the_agency_is_not_subscribed_to(tmp_path: Path) -> None:
    """The folder must name a way for the service."""
    async with opened(tmp_path, Letters(ways={"saensuk": ()})) as town:
        reply = await town.say("POST", "/subscriptions", DESK, WISH)
    assert (reply.status, reply.body["code"]) == (409, "subscription.not_possible")


async def test_an_agency_gets_an_event_once(tmp_path: Path) -> None:
    """Subscribed by folder and by API: one delivery."""
    async with opened(tmp_path) as town:
        assert (await town.say("POST", "/subscriptions", SILA, WISH)).status == 201
        reply = await town.send(FLOOD, "/events", ALERT, ALERTS)
        kept = town.rows("select count(*) from deliveries where recipient = 'sila'")
    assert (reply.body["recipients"], kept) == (2, [(1,)])
