"""What the story over Kafka hands over: letters of a ministry, one with a scanned ruling, and the news of a death."""

from typing import Any

from deploy.demo.drawing import plan
from deploy.demo.papers import File
from deploy.demo.people import BY_SERIAL, body, identified

DEATH = "population.death_registered.v1"
VICHET = BY_SERIAL[90010005]
MALY = BY_SERIAL[90010006]
"""His wife, who is entitled to a pension."""

RULING = File("Ruling of the court", plan("Ruling 88, a demonstration"))


def letter(number: int, recipient: str, *, files: tuple[File, ...] = ()) -> dict[str, Any]:
    """A letter of the Ministry of Justice to an office."""
    return {
        "documentId": f"9a4b1f0e-6a0f-4d7b-8c55-0b1d2c3e4f{number:02d}",
        "letterNumber": f"MOJ-2026/{number}",
        "letterDate": "2026-11-20",
        "subject": "Request for a statement in a matter of maintenance",
        "secrecy": "normal",
        "urgency": "normal",
        "sender": {
            "organisation": "Ministry of Justice",
            "unit": "Court Administration",
            "officer": {"title": "Director of Court Administration"},
        },
        "recipients": [{"organisation": recipient, "role": "action"}],
        "approvals": [
            {"order": 1, "position": "Head of Office", "kind": "draft", "at": "2026-11-19T09:10:00+07:00"},
            {"order": 2, "position": "Director", "kind": "approve", "at": "2026-11-20T08:30:00+07:00"},
        ],
        "disclosure": {"level": "open"},
        "retention": {"class": "C10"},
        "main": {"text": "We ask for your statement within ten working days.", "language": "en"},
        **({"attachments": [file.named() for file in files]} if files else {}),
    }


def death() -> dict[str, Any]:
    """The whole event; no office is told all of it."""
    return {
        "event_id": "0d2f6c1e-51a7-4a53-9f39-6c1f5a1d7a01",
        "action": "registered",
        "identifier": identified(VICHET.identifier),
        "name": body(VICHET)["name"],
        "death_date": "2026-11-18",
        "death_place": {"locality": "Ta Khmau", "subdivision": "KH-8", "country": "KH"},
        "manner": "natural",
        "registration": {
            "number": "D-2026/20114",
            "registered_on": "2026-11-20",
            "office": {"organisation": "Ta Khmau", "unit": "Civil status office"},
        },
        "survivors": [{"identifier": identified(MALY.identifier), "relationship": "spouse"}],
    }
