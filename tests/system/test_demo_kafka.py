"""The demonstration over Kafka holds what it says, with a real broker and real agents, and begins on a fresh one."""

import os
import re
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from deploy.demo import cluster
from gateway.footing import NotStarted
from tests.fakes.brokers import Brokers, kafka_here

ROOT = Path(__file__).parents[2]
GATEWAY = str(Path(sys.executable).with_name("gateway"))


def test_every_step_holds(tmp_path: Path) -> None:
    """As `make demo-kafka` plays it: nothing comes out otherwise than it says, and nothing is left running."""
    kafka_here()
    story = (GATEWAY, "demo", "--kafka", "{kafka}", "--once", "--port", "0", "--ops-port", "0")
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "deploy.kafka.broker", "--port", "0", *story, "--data", str(tmp_path)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        | {"PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "NOT AS EXPECTED" not in done.stdout
    steps = re.findall(r"All (\d+) steps came out as expected", done.stdout)
    assert steps == [str(done.stdout.count("  as expected"))]
    _agents_were_alone(tmp_path)
    assert orjson.loads((tmp_path / "demo.json").read_bytes())["kafka"].startswith("127.0.0.1:")


def _agents_were_alone(data: Path) -> None:
    """Each agent ended in order, and none had anybody else's key."""
    for agency in ("finance", "justice", "social_security"):
        folder = data / "agents" / agency
        assert [each.name for each in (folder / "keys" / "private").iterdir()] == [f"{agency}.agent.jwk.json"]
        assert '"agent_stopping"' in (folder / "agent.log").read_text("utf-8")


async def test_an_earlier_story_is_left_alone(kafka: Brokers) -> None:
    """Its records would be read as this one's: the demonstration does not begin, and removes nothing."""
    name = f"DEMO.earlier.{uuid4()}"
    await kafka.topic(name, 1)
    with pytest.raises(NotStarted, match=r"An earlier demonstration lies on .*DEMO\."):
        await cluster.hold_fresh(kafka.bootstrap)


async def test_where_no_kafka_answers_it_says_so() -> None:
    """And says how to have one."""
    with pytest.raises(NotStarted, match=r"No Kafka answers at 127\.0\.0\.1:1: start one with make demo-kafka"):
        await cluster.hold_fresh("127.0.0.1:1")
