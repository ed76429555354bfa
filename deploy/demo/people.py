"""Twenty synthetic residents: their family names mean "sample", "example" or "trial", so that nobody is meant.

Identifiers follow the scheme KH-DEMO, which exists nowhere else: eight digits and a check digit. Among the residents
are what a real register holds: records once kept on paper, birth dates of which only the year or the month is known,
a person without an address, a record that replaced its duplicate, and a record that is protected.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCHEME = "KH-DEMO"
_WEIGHTS = (7, 3, 1)  # ICAO Doc 9303, part 3, section 4.9

Native = tuple[str, str, str]
"""Script (ISO 15924), family name, given name."""
Latin = tuple[str, str]
"""Family name, given name."""
Home = tuple[str, str, str]
"""House and street, locality, subdivision (ISO 3166-2)."""


def identifier(serial: int) -> str:
    """The KH-DEMO identifier of a serial number: 9 digits, the last of them the check digit."""
    digits = f"{serial:08d}"
    total = sum(int(digit) * _WEIGHTS[place % 3] for place, digit in enumerate(digits))
    return f"{digits}{total % 10}"


@dataclass(frozen=True, slots=True)
class Resident:
    """One person as the civil register keeps them."""

    serial: int
    native: Native
    latin: Latin
    sex: str
    born: str
    """YYYY, YYYY-MM or YYYY-MM-DD."""
    home: Home | None
    registered: str
    paper: tuple[str, int] | None = None
    """Book and page of a record once kept on paper."""
    version: int = 1
    marital: str = "single"
    parents: tuple[int, ...] = ()
    """Serial numbers."""
    replaces: tuple[int, ...] = ()
    """Serial numbers of duplicates that this record replaced."""
    died: str | None = None
    protected: bool = False

    @property
    def identifier(self) -> str:
        """The identifier's value, in the scheme KH-DEMO."""
        return identifier(self.serial)


Family = tuple[str, str, str]
"""Script, native, Latin."""
_SAMPLE: Family = ("Khmr", "គំរូ", "Komru")
_EXAMPLE: Family = ("Khmr", "ឧទាហរណ៍", "Utahor")
_TRIAL: Family = ("Khmr", "សាកល្បង", "Saklbong")
_TUAYANG: Family = ("Thai", "ตัวอย่าง", "Tuayang")
_THOTLONG: Family = ("Thai", "ทดลอง", "Thotlong")
_PHNOM_PENH: Home = ("House 12, Street 900", "Phnom Penh", "KH-12")
_BATTAMBANG: Home = ("House 7, Village Demo 3", "Battambang", "KH-2")
_SIEM_REAP: Home = ("House 41, Village Demo 1", "Siem Reap", "KH-17")
_KANDAL: Home = ("House 3, Street 905", "Ta Khmau", "KH-8")
_TAKEO: Home = ("House 88, Village Demo 9", "Doun Kaev", "KH-21")


def _named(family: Family, given: str, latin: str) -> tuple[Native, Latin]:
    script, native, latin_family = family
    return (script, native, given), (latin_family, latin)


RESIDENTS: tuple[Resident, ...] = (
    Resident(90010001, *_named(_SAMPLE, "ដារា", "Dara"), "male", "1988-04-17", _PHNOM_PENH, "2019-03-02",
             version=3, marital="married", parents=(90010005, 90010006)),
    Resident(90010002, *_named(_EXAMPLE, "សុភា", "Sophea"), "female", "1990-11-30", _PHNOM_PENH, "2019-03-02",
             version=2, marital="married"),
    Resident(90010003, *_named(_SAMPLE, "មករា", "Makara"), "male", "2016-01-09", _PHNOM_PENH, "2019-03-02",
             parents=(90010001, 90010002)),
    Resident(90010004, *_named(_SAMPLE, "បុប្ផា", "Bopha"), "female", "2021-06-24", _PHNOM_PENH, "2021-06-28",
             parents=(90010001, 90010002)),
    Resident(90010005, *_named(_SAMPLE, "វិចិត្រ", "Vichet"), "male", "1951", _KANDAL, "1952",
             paper=("KDL/1952-3", 114), marital="married", version=2),
    Resident(90010006, *_named(_TRIAL, "ម៉ាលី", "Maly"), "female", "1956-08", _KANDAL, "1979-10",
             paper=("KDL/1979-1", 27), marital="married"),
    Resident(90010007, *_named(_EXAMPLE, "រតនៈ", "Rattana"), "male", "1948", _TAKEO, "1981",
             paper=("TKV/1981-2", 9), marital="widowed"),
    Resident(90010008, *_named(_EXAMPLE, "ចន្ថា", "Chantha"), "female", "1947-02", _TAKEO, "1981",
             paper=("TKV/1981-2", 10), marital="married", died="2015-09-14"),
    Resident(90010009, *_named(_TRIAL, "ពិសិដ្ឋ", "Piseth"), "male", "1979-12-01", _BATTAMBANG, "2018-07-16",
             marital="divorced"),
    Resident(90010010, *_named(_TRIAL, "ណារី", "Nary"), "female", "1982-05-20", _BATTAMBANG, "2018-07-16",
             marital="divorced"),
    Resident(90010011, *_named(_SAMPLE, "សំណាង", "Samnang"), "male", "1995-10-08", None, "2020-01-20"),
    Resident(90010012, *_named(_EXAMPLE, "ធីតា", "Thida"), "female", "1999-07-03", _SIEM_REAP, "2019-11-05"),
    Resident(90010013, *_named(_SAMPLE, "វណ្ណា", "Vanna"), "others", "1993-03-27", _SIEM_REAP, "2019-11-05"),
    Resident(90010014, *_named(_TRIAL, "កុសល", "Kosal"), "male", "1961-09", _SIEM_REAP, "1983-04",
             paper=("SRP/1983-1", 203), marital="married", replaces=(90010019,), version=4),
    Resident(90010015, *_named(_EXAMPLE, "លក្ខិណា", "Leakhena"), "female", "1964-01-15", _SIEM_REAP, "2018-09-30",
             marital="married"),
    Resident(90010016, *_named(_TUAYANG, "มานะ", "Mana"), "male", "1975-02-11", _PHNOM_PENH, "2022-05-17",
             marital="married"),
    Resident(90010017, *_named(_TUAYANG, "มาลี", "Mali"), "female", "1977-12-25", _PHNOM_PENH, "2022-05-17",
             marital="married"),
    Resident(90010018, *_named(_THOTLONG, "ปรีดา", "Prida"), "unknown", "2003-08-19", _KANDAL, "2023-02-08"),
    Resident(90010020, *_named(_TRIAL, "សុវណ្ណ", "Sovann"), "male", "1986-06-06", _BATTAMBANG, "2018-07-16",
             protected=True),
    Resident(90010021, *_named(_SAMPLE, "ចរិយា", "Chakriya"), "female", "2001-04", _TAKEO, "2001-05",
             paper=("TKV/2001-4", 61)),
)  # fmt: skip

BY_SERIAL: Mapping[int, Resident] = {resident.serial: resident for resident in RESIDENTS}
DUPLICATES: Mapping[str, str] = {
    identifier(serial): resident.identifier for resident in RESIDENTS for serial in resident.replaces
}
"""A replaced identifier to the one whose record speaks for it now."""


def identified(value: str) -> dict[str, str]:
    """The Identifier of ``schemas/common/person.json``."""
    return {"scheme": SCHEME, "value": value}


def body(resident: Resident) -> dict[str, Any]:
    """The resident's whole record, as ``population.person_lookup.v1`` answers."""
    record: dict[str, Any] = {
        "version": resident.version,
        "kind": "paper" if resident.paper else "electronic",
        "registered_on": resident.registered,
    }
    if resident.paper:
        record["paper_reference"] = {"book": resident.paper[0], "page": resident.paper[1]}
    found: dict[str, Any] = {
        "identifier": identified(resident.identifier),
        "name": _name(resident),
        "sex": resident.sex,
        "birth_date": resident.born,
        "birth_place": {"country": "TH" if resident.native[0] == "Thai" else "KH"},
        "marital_status": resident.marital,
        "record": record,
    }
    if resident.home:
        found["address"] = _address(resident.home)
    if resident.died:
        found["death_date"] = resident.died
    if resident.parents:
        found["parents"] = [
            {"identifier": identified(identifier(serial)), "name": _name(BY_SERIAL[serial])}
            for serial in resident.parents
        ]
    if resident.replaces:
        found["links"] = [
            {"type": "replaces", "identifier": identified(identifier(serial))} for serial in resident.replaces
        ]
    return found


def _name(resident: Resident) -> dict[str, Any]:
    script, family, given = resident.native
    latin_family, latin_given = resident.latin
    khmer = script == "Khmr"  # the family name comes first; in Thai the given name does
    return {
        "native": {
            "full": f"{family} {given}" if khmer else f"{given} {family}",
            "family": family,
            "given": given,
            "script": script,
        },
        "latin": {
            "full": f"{latin_family} {latin_given}" if khmer else f"{latin_given} {latin_family}",
            "family": latin_family,
            "given": latin_given,
        },
    }


def _address(home: Home) -> dict[str, Any]:
    line, locality, subdivision = home
    return {"lines": [line], "locality": locality, "subdivision": subdivision, "country": "KH"}
