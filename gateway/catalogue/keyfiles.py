"""Key files of agencies: JWKS with public keys only, of one instance, strong and named by their thumbprints."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.catalogue.reading import Reading, Source, Spot
from gateway.core.jwk import BadKey, verifying_key

STRONG = "Have the owner make a key by gateway keys party, and put its public half here."
PRIVATE = "this is a private key: remove it, it was never to leave its owner"
ANEW = "Have the owner make another one by gateway keys party, and put only its NAME.jwks.json here."

_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})


def _private(value: object) -> bool:
    return isinstance(value, dict) and not _PRIVATE_MEMBERS.isdisjoint(value)


def _wrong(jwk: Mapping[str, object]) -> tuple[str, str] | None:
    """What is wrong with a public key, and the remedy; None where it is taken."""
    if _private(jwk):
        return PRIVATE, ANEW
    try:
        key = verifying_key(jwk)
    except BadKey as error:
        return f"the key is not taken: {error}", STRONG
    if jwk.get("kid") != key.thumbprint:
        return 'its "kid" is not its thumbprint (RFC 7638)', f'Write "kid": "{key.thumbprint}".'
    if jwk.get("alg") != key.alg:
        return 'it names no "alg"', f'Write "alg": "{key.alg}".'
    return None


@dataclass(slots=True)
class KeyFiles:
    """The agencies' key files of one instance, each read once."""

    reading: Reading
    instance: str
    _read: dict[str, tuple[Mapping[str, object], ...] | None] = field(default_factory=dict)
    _absent: bool = False
    """There is no folder of keys, which was reported."""

    def hold_strays(self) -> None:
        """Report what lies in agencies/ and is no key file: a single JWK, which is mostly a private one."""
        inside = self.reading.inside(self.reading.keys / "agencies")
        for path in (each for each in inside if each.name.endswith(".jwk.json")):
            source = self.reading.json(path)
            if source is None:
                continue
            if _private(source.value):
                self.reading.error(source.at(), PRIVATE, ANEW)
            else:
                remedy = 'Put {"instance": …, "keys": [this key]} into a file NAME.jwks.json.'
                self.reading.error(source.at(), "a .jwk.json file is not read", remedy)

    def keys(self, name: str, agency: str, spot: Spot) -> tuple[Mapping[str, object], ...] | None:
        """The public keys of a key file that an agency's manifest names, or None after reporting why not."""
        if name.partition(".")[0] != agency:
            remedy = f"Name a key file that begins with {agency}, so that no agency uses another one's keys."
            self.reading.error(spot, f'the key file "{name}" is not of {agency}', remedy)
            return None
        folder = self.reading.keys / "agencies"
        path = folder / f"{name}.jwks.json"
        if name not in self._read:
            if not self.reading.is_folder(folder):
                self._report_absent()
                return None
            if not self.reading.is_file(path):
                remedy = f"Put the public keys into {self.reading.name(path)}, or correct the name."
                self.reading.error(spot, f'the key file "{name}" is missing', remedy)
                return None
            source = self.reading.json(path)
            self._read[name] = None if source is None else self._held(source)
        return self._read[name]

    def _report_absent(self) -> None:
        if not self._absent:
            self._absent = True
            folder = self.reading.keys
            message = (
                "the keys folder has no agencies/"
                if self.reading.is_folder(folder)
                else "the keys folder does not exist"
            )
            remedy = "Set GATEWAY_KEYS to the folder whose agencies/ holds the public keys that agency.yaml files name."
            self.reading.error(Spot(self.reading.name(folder), 1), message, remedy)

    def _held(self, source: Source) -> tuple[Mapping[str, object], ...] | None:
        value: Any = source.value
        if _private(value):
            self.reading.error(source.at("d"), PRIVATE, ANEW)
            return None
        keys = value.get("keys") if isinstance(value, dict) else None
        if not isinstance(value, dict) or not isinstance(keys, list) or not keys:
            self.reading.error(source.at(), "is no JWKS", 'Write {"instance": …, "keys": [at least one public JWK]}.')
            return None
        if value.get("instance") != self.instance:
            remedy = f'Keys are made for one instance: have the agency make new ones for "{self.instance}".'
            message = f'the keys are of another instance than "{self.instance}"'
            self.reading.error(source.at("instance"), message, remedy)
            return None
        good = True
        for number, jwk in enumerate(keys):
            wrong = _wrong(jwk if isinstance(jwk, dict) else {})
            if wrong is not None:
                self.reading.error(source.at("keys", number), *wrong)
                good = False
        return tuple(keys) if good else None
