"""What a process does for documents every few seconds: deadlines, folders that changed, and clearing away."""

from dataclasses import replace
from pathlib import Path

from structlog.testing import capture_logs

from gateway.core.life import Life, Span
from gateway.edge.documents.rounds import Rounds
from tests.fakes.correspondents import LETTER, REGISTER, SERVICES, Letters, way
from tests.fakes.pollers import changed
from tests.fakes.post_office import PostTown, opened
from tests.fakes.town import until

HOUR = 3600.0
PUSHED = {"interior": (way("interior", protocol="webhook", name="webhook", options={"url": "http://127.0.0.1:1/"}),)}


def rounds(town: PostTown) -> Rounds:
    room = town.gateway.mailroom
    return Rounds(room.post, room.scribe, room.second, lambda: town.gateway.catalogue)


def states(town: PostTown) -> list[str]:
    return [state for (state,) in town.rows("select state from deliveries order by seq")]


async def fetched(town: PostTown) -> list[str]:
    return [each["id"] for each in (await town.say("GET", "/inbox", REGISTER)).body["documents"]]


async def test_what_was_not_fetched_in_time_expires(tmp_path: Path, url: str | None) -> None:
    """With a receipt, which does not say unconfirmed: nobody ever had it."""
    async with opened(tmp_path, url=url) as town:
        document = (await town.send()).body["document"]
        await rounds(town).round()
        assert states(town) == ["arrived"]
        town.valve.ahead = 2 * HOUR
        await rounds(town).round()
        assert states(town) == ["expired"]
        entry = next(each for each in town.entries() if each.facts["step"] == "expired")
        assert (entry.facts["document"], entry.facts.get("unconfirmed")) == (document, None)


async def test_what_somebody_has_in_hand_does_not_expire(tmp_path: Path, url: str | None) -> None:
    """Not under a lease that holds; afterwards it does, and says that it may have been read."""
    brief = {LETTER: {"life": replace(_life(), deliver_within=Span(seconds=30.0))}}
    async with opened(tmp_path, Letters(services=brief), url=url) as town:
        document = (await town.send()).body["document"]
        assert await fetched(town) == [document]
        town.valve.ahead = 40.0
        await rounds(town).round()
        assert states(town) == ["arrived"]
        town.valve.ahead = 120.0
        await rounds(town).round()
        entry = next(each for each in town.entries() if each.facts["step"] == "expired")
        assert entry.facts["unconfirmed"] is True


async def test_what_is_not_registered_in_time_is_told_once(tmp_path: Path, url: str | None) -> None:
    """It stays where it is, and may be registered still."""
    slow = {LETTER: {"life": replace(_life(), register_within=Span(seconds=60.0))}}
    async with opened(tmp_path, Letters(services=slow), url=url) as town:
        document = (await town.send()).body["document"]
        lease = (await town.say("GET", "/inbox", REGISTER)).body["lease"]
        await town.say("POST", f"/inbox/{document}", REGISTER, {"outcome": "retrieved", "lease": lease})
        town.valve.ahead = 90.0
        for _ in range(2):
            await rounds(town).round()
        assert [each.facts["step"] for each in town.entries()].count("overdue") == 1
        said = {"outcome": "registered", "number": "7"}
        assert (await town.say("POST", f"/inbox/{document}", REGISTER, said)).body["state"] == "registered"


async def test_a_folder_that_names_a_mailbox_now(tmp_path: Path, url: str | None) -> None:
    """What waited for a push lies in the mailbox after the next round, and can be fetched."""
    async with opened(tmp_path, Letters(ways=PUSHED), url=url) as town:
        document = (await town.send()).body["document"]
        assert await fetched(town) == []
        await until(lambda: town.rows("select lease from lanes, gates") == [(0.0,)])
        town.changed(Letters())
        await rounds(town).round()
        town.valve.ahead = HOUR / 2  # the push that failed leaves its lane alone for a while
        assert await fetched(town) == [document]


async def test_what_another_node_put_on_a_former_way(tmp_path: Path) -> None:
    """A round with the same catalogue leaves it there; the next clearing away puts it right."""
    async with opened(tmp_path) as town:
        await town.send()
        going = rounds(town)
        await going.round()
        await changed(town, "update lanes set way = 'former'")
        await going.round()
        assert town.rows("select way from lanes") == [("former",)]
        await going.tidy()
        assert town.rows("select way from lanes") == [("mailbox",)]


async def test_a_lane_in_somebodys_hands_is_put_right_later(tmp_path: Path, url: str | None) -> None:
    """A poller has it when the folder changes: a later round moves it, without waiting for the next clearing away."""
    async with opened(tmp_path, url=url) as town:
        document = (await town.send()).body["document"]
        assert await fetched(town) == [document]
        town.changed(Letters(ways=PUSHED))
        going = rounds(town)
        await going.round()
        assert town.rows("select way from lanes") == [("mailbox",)]
        town.valve.ahead = 120.0
        await going.round()
        assert town.rows("select way from lanes") == [("webhook",)]


async def test_the_gate_of_a_way_that_is_gone_goes(tmp_path: Path) -> None:
    """Nothing waits behind it, no folder names it, and nobody would ever open it."""
    async with opened(tmp_path) as town:
        await changed(town, "insert into gates values ('interior', 'former', 0, 3, 'refused')")
        await rounds(town).tidy()
        assert town.rows("select way from gates") == []


async def test_lanes_in_which_nothing_is_go(tmp_path: Path) -> None:
    """A lane that waits stays."""
    async with opened(tmp_path) as town:
        document = (await town.send()).body["document"]
        (await town.send(to="/documents/sila"))
        lease = (await town.say("GET", "/inbox", REGISTER)).body["lease"]
        await town.say("POST", f"/inbox/{document}", REGISTER, {"outcome": "retrieved", "lease": lease})
        await rounds(town).tidy()
        assert town.rows("select recipient from lanes") == [("sila",)]


async def test_a_part_that_fails_holds_up_no_other(tmp_path: Path) -> None:
    """A mistake in one is logged by its place; what comes after it is done all the same."""
    async with opened(tmp_path) as town:
        await town.send()
        town.valve.ahead = 2 * HOUR
        for each in town.valve.others:
            each.mistakes = 1
        with capture_logs() as lines:
            await rounds(town).round()
        assert states(town) == ["expired"]
        broken = [(line["part"], line["error"]) for line in lines if line["event"] == "documents_broken"]
        assert broken == [("realign", "LookupError")]


async def test_a_journal_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Each part waits for the next round."""
    async with opened(tmp_path) as town:
        town.valve.failing = True
        with capture_logs() as lines:
            await rounds(town).round()
        waits = {line["part"] for line in lines if line["event"] == "documents_wait"}
        assert waits == {"realign", "expire", "overdue"}


def _life() -> Life:
    return next(each.life for each in SERVICES if each.id == LETTER and each.life)
