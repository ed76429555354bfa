"""Why Kafka gives an agent nothing is said in a sentence with its remedy, and not by the library's own log."""

from dataclasses import replace
from pathlib import Path

from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError

from gateway.agent.line import told
from tests.fakes.agency import QUICK, House, house
from tests.fakes.brokers import Brokers


async def test_a_topic_that_is_not_there_is_named(kafka: Brokers, tmp_path: Path) -> None:
    """The operator has not made it yet: the agent says so, and reads on when it is there."""
    agency = House(kafka, "n_nowhere")
    async with agency.agent(tmp_path / "one", replace(QUICK, answer=3.0)) as agent:
        await agency.bell.until(lambda: agent.figures.restarts > 0)
        expected = f"the topic {agency.topic} does not exist: gateway topics plan shows what is missing"
        await agency.bell.until(lambda: agent.member.complaint == expected)
    await agency.producer.stop()  # which had nothing to do


async def test_nobody_who_answers_is_said_with_the_address(tmp_path: Path) -> None:
    """Not by the library's words for it, which name neither."""
    agency = House(Brokers(["127.0.0.1:1"]), "nothing")
    async with agency.agent(tmp_path / "one") as agent:
        await agency.bell.until(lambda: agent.member.complaint == "no broker answers at 127.0.0.1:1")
    await agency.producer.stop()  # which had nothing to do


def test_access_that_is_missing_is_named_with_its_remedy() -> None:
    """Who runs the agent can pass the sentence on to the gateway's operator."""
    remedy = "gateway topics plan shows the ACL that is missing"
    assert told(TopicAuthorizationFailedError("t"), "t") == f"the agent may not read the topic t: {remedy}"
    assert told(GroupAuthorizationFailedError("g"), "t") == f"the agent may not join its group: {remedy}"


async def test_an_agent_whose_topic_goes_says_so(kafka: Brokers, tmp_path: Path) -> None:
    """It stood there and was removed while the agent ran."""
    pace = replace(QUICK, answer=3.0, look=0.2, stalls=2)
    async with house(kafka) as agency, agency.agent(tmp_path / "one", pace) as agent:
        await agency.write(1)
        await agency.commits(1)
        admin = kafka.admin()
        admin.delete_topics([agency.topic])
        admin.close()
        await agency.bell.until(lambda: "does not exist" in (agent.member.complaint or ""))
