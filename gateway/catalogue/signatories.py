"""Who may sign for an agency, as far as its folder and its key files are at hand where somebody signs."""

from collections.abc import Mapping

from gateway.catalogue import members
from gateway.catalogue.complaints import manifest
from gateway.catalogue.keyfiles import KeyFiles
from gateway.catalogue.reading import Reading, near
from gateway.catalogue.signatures import CannotSign
from gateway.core.jwk import BadKey, thumbprint


def hold(reading: Reading, instance: str, agency: str, by: str, key: Mapping[str, object]) -> None:
    """Refuse a post that the agency does not have, and a private key that is not the post's.

    Whoever signs elsewhere than where the catalogue is has no folder to look into. Raises CannotSign.
    """
    path = reading.root / "adapters" / agency / "agency.yaml"
    if not reading.is_file(path):
        return
    read = manifest(reading, path, members.Agency)
    if read is None:
        raise CannotSign(f"{path} has errors; run gateway check and correct what it names")
    written, source = read
    titles = [each.title for each in written.signatories.values()]
    posts = {short: each for short, each in written.signatories.items() if each.title == by}
    if not posts:
        known = f"its signatories are: {', '.join(titles)}" if titles else "it names no signatories"
        raise CannotSign(f'{agency} has no signatory "{by}". {near(by, titles)}In {path} {known}')
    files = {each.keys: source.at("signatories", short, "keys") for short, each in posts.items()}
    if not all(reading.is_file(reading.keys / "agencies" / f"{name}.jwks.json") for name in files):
        return
    held = KeyFiles(reading, instance)
    public = [jwk for name, spot in files.items() for jwk in held.keys(name, agency, spot) or ()]
    if _name(key) not in {jwk["kid"] for jwk in public}:
        names = " or ".join(f"agencies/{name}.jwks.json" for name in files)
        raise CannotSign(f"the key is none of {by}: sign with one whose public half stands in {names}")


def _name(key: Mapping[str, object]) -> str:
    try:
        return thumbprint(key)
    except BadKey as error:
        raise CannotSign(f"the key cannot sign: {error}") from error
