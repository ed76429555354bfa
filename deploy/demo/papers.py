"""What the story's agencies write to each other: an application with plans, a letter, an alert, a correction."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from deploy.demo.drawing import plan
from deploy.demo.people import BY_SERIAL, body, identified

APPLICATION = "permits.construction_application.v1"
LETTER = "correspondence.letter.v1"
ALERT = "disaster.alert.v1"
CORRECTION = "population.record_correction.v1"

PDF = "application/pdf"
NARY = BY_SERIAL[90010010]
"""Whose day of birth a clerk once mistyped."""
THIDA = BY_SERIAL[90010012]


@dataclass(frozen=True, slots=True)
class File:
    """A file that goes with a document."""

    title: str
    content: bytes
    media_type: str = PDF

    @property
    def digest(self) -> str:
        """As the header Content-Digest has it (RFC 9530)."""
        return f"sha-256=:{base64.b64encode(sha256(self.content).digest()).decode()}:"

    def named(self) -> dict[str, Any]:
        """How a document speaks of it."""
        return {"title": self.title, "digest": self.digest, "mediaType": self.media_type, "size": len(self.content)}


SITE_PLAN = File("Site plan", plan("Site plan, revision 1"))
STRUCTURE = File("Structural drawings", plan("Structural drawings, revision 1"))
PLANS = (SITE_PLAN, STRUCTURE)


def application(number: str = "P-2026-41") -> dict[str, Any]:
    """A house that somebody wants to build in Saensuk."""
    return {
        "applicationNumber": number,
        "appliedDate": "2026-11-20",
        "workKind": "construct",
        "permitType": "Building",
        "permitClass": "Residential",
        "description": "A house of two floors for one family",
        "applicant": {
            "identifier": identified(THIDA.identifier),
            "name": body(THIDA)["name"],
            "role": "owner",
        },
        "site": {
            "address": {
                "lines": ["Plot 9, Demo Road"],
                "locality": "Saensuk",
                "subdivision": "TH-20",
                "country": "TH",
            },
            "landTitle": {"deedNumber": "DEMO 4711", "plotNumber": "9", "areaSquareMetres": 320},
        },
        "floorAreaSquareMetres": 184.5,
        "housingUnits": 1,
        "estimatedCost": {"amount": "2350000.00", "currency": "THB"},
        "designers": [{"licenceNumber": "DEMO-A-12", "role": "architect"}],
        "plans": [
            {"kind": "site", "revision": 1, "file": SITE_PLAN.named()},
            {"kind": "structural", "revision": 1, "file": STRUCTURE.named()},
        ],
    }


LETTER_BODY: Mapping[str, Any] = {
    "documentId": "6f1d3c1e-6b0d-4c0e-9d4b-0c7a2f5f3a10",
    "letterNumber": "국제협력담당관-1204",
    "letterDate": "2026-11-20",
    "subject": "Invitation to the forum on local administration and civil petition services",
    "secrecy": "normal",
    "urgency": "urgent",
    "sender": {
        "organisation": "Ministry of the Interior and Safety",
        "unit": "International Cooperation",
        "officer": {"title": "Director for International Cooperation"},
    },
    "recipients": [
        {"organisation": "Ministry of Interior", "unit": "International Relations", "role": "action"},
    ],
    "approvals": [
        {"order": 1, "position": "Deputy Director", "kind": "draft", "at": "2026-11-19T10:12:00+09:00"},
        {"order": 2, "position": "Director", "kind": "approve", "at": "2026-11-20T09:03:00+09:00"},
    ],
    "disclosure": {"level": "open"},
    "retention": {"class": "C10"},
    "main": {
        "text": "We have the honour of inviting a delegation of your Ministry to the forum of next spring.",
        "language": "en",
    },
}
"""It is meant for the Ministry of Interior; the story's clerk first sends it to the Ministry of Justice."""


def alert(number: str = "DPM-2026-0117", status: str = "Actual") -> dict[str, Any]:
    """A flood warning, in two languages."""
    return {
        "identifier": number,
        "sender": "warnings@disaster-prevention.example",
        "sent": "2026-11-21T13:40:00+07:00",
        "status": status,
        "msgType": "Alert",
        "scope": "Restricted",
        "restriction": "Local governments, until they have warned their residents",
        "incidents": "DEMO-FLOOD-2026-11",
        "info": [_flood("en-US", "Flash flood", "Move to higher ground now."), _FLOOD_TH],
    }


def _flood(language: str, event: str, instruction: str) -> dict[str, Any]:
    return {
        "language": language,
        "category": ["Met", "Safety"],
        "event": event,
        "responseType": ["Evacuate", "Avoid"],
        "urgency": "Immediate",
        "severity": "Severe",
        "certainty": "Likely",
        "expires": "2026-11-22T01:00:00+07:00",
        "instruction": instruction,
        "area": [
            {
                "areaDesc": "Low ground along the rivers",
                "circle": ["13.2823,100.9256 25"],
                "geocode": [{"valueName": "ISO3166-2", "value": "TH-20"}],
            }
        ],
    }


_FLOOD_TH = _flood("th", "น้ำท่วมฉับพลัน", "ย้ายขึ้นที่สูงทันที")


def correction(
    identifier: str = "5c1a0a52-7f2e-4c6e-8e57-1d2f3b4c5d01", version: int = NARY.version, old: str = NARY.born
) -> dict[str, Any]:
    """The day of Nary's birth as the certificate has it; ``version`` and ``old`` are what the office saw."""
    return {
        "correctionId": identifier,
        "recordId": identified(NARY.identifier),
        "recordVersion": version,
        "changes": [{"path": "/birth_date", "oldValue": old, "newValue": CORRECTED}],
        "reasonCode": "clerical_error",
        "legalBasis": {"instrument": "Civil Registration Act", "article": "44"},
        "requester": {"identifier": identified(NARY.identifier), "relationship": "self"},
        "requestedBy": {"role": "civil registrar", "orgUnit": "Civil status office"},
        "evidence": [{"documentType": "birth_certificate", "archiveRef": "BTB/1982-2/77"}],
    }


CORRECTED = "1982-05-02"
