"""Digests, media types, ranges and what services accept: RFC 9530 and RFC 9110, section 14."""

import hashlib

import pytest

from gateway.core import attachment
from gateway.core.attachment import File, Range, asked
from gateway.core.life import Accepted
from gateway.core.refusal import Refusal

RAW = b"%PDF-1.7 plan"
SHA = hashlib.sha256(RAW).digest()
FILE = File("01a2017c-6907-7cea-bfa6-1d29b1f5b6e9", SHA, 1000, "application/pdf")
TAKES = Accepted(("application/pdf",), 1000, 2)


def _code(refusal: pytest.ExceptionInfo[Refusal]) -> str:
    return refusal.value.code


def test_a_digest_reads_as_it_is_written() -> None:
    """RFC 9530, section 2: base64 between colons; both algorithms may stand in one header."""
    both = f"{attachment.digest_field(SHA)}, sha-512=:{'A' * 86}==:"
    assert attachment.announced(both) == {"sha-256": SHA, "sha-512": bytes(64)}


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "md5=:Sd/dVLAcvNLSq16eXua5uQ==:",
        "sha-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuF=:",
        f"sha-512=:{'A' * 43}=:",
        f"sha-256=:{'A' * 43}=:, sha-256=:{'A' * 43}=:",
        f"sha-256=:{'A' * 43}=:, md5=:{'A' * 22}==:",
    ],
)
def test_other_digests_are_refused(header: str | None) -> None:
    """Missing, weak, cut, twice, or beside one that nobody checks."""
    with pytest.raises(Refusal, match="Content-Digest") as refusal:
        attachment.announced(header)
    assert _code(refusal) == "request.malformed"


def test_every_announced_digest_must_hold() -> None:
    """A right SHA-256 beside a wrong SHA-512 is no right file."""
    attachment.hold_digests({"sha-256": SHA}, {"sha-256": SHA, "sha-512": bytes(64)})
    with pytest.raises(Refusal) as refusal:
        attachment.hold_digests({"sha-256": SHA, "sha-512": b"x" * 64}, {"sha-256": SHA, "sha-512": bytes(64)})
    assert _code(refusal) == "attachment.digest"


def test_a_media_type_is_kept_without_its_charset() -> None:
    """One spelling, so that it can be compared with what a service takes."""
    assert attachment.media_type(" Text/CSV; charset=UTF-8 ", None) == "text/csv"
    assert attachment.media_type('text/plain;charset="utf-8"', "identity") == "text/plain"


@pytest.mark.parametrize("header", [None, "", "pdf", "text/plain; charset=tis-620", "a/b; name=x", "a/b/c", "a/"])
def test_no_media_type_is_refused(header: str | None) -> None:
    """Another charset than UTF-8 as well."""
    with pytest.raises(Refusal) as refusal:
        attachment.media_type(header, None)
    assert _code(refusal) == "attachment.media_type"


def test_a_compressed_body_is_refused() -> None:
    """The digest is that of the file itself."""
    with pytest.raises(Refusal, match="Content-Encoding"):
        attachment.media_type("text/plain", "gzip")


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("bytes=0-0", Range(0, 1)),
        ("bytes=0-", Range(0, 1000)),
        ("bytes=990-2000", Range(990, 1000)),
        ("bytes=-10", Range(990, 1000)),
        ("bytes=-5000", Range(0, 1000)),
        ("Bytes = 5-9", Range(5, 10)),
    ],
)
def test_one_range_is_given(header: str, wanted: Range) -> None:
    """RFC 9110, section 14.1.2; ends beyond the file are cut."""
    assert asked(header, None, FILE) == wanted


@pytest.mark.parametrize(
    "header", [None, "", "lines=1-2", "bytes=", "bytes=a-b", "bytes=5-4", "bytes=0-1,5-6", "bytes=-"]
)
def test_what_is_no_single_range_is_passed_over(header: str | None) -> None:
    """The whole file is given then."""
    assert asked(header, None, FILE) is None


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1001", "bytes=-0"])
def test_a_range_beyond_the_file_is_refused(header: str) -> None:
    """RFC 9110, section 15.5.17."""
    with pytest.raises(Refusal) as refusal:
        asked(header, None, FILE)
    assert _code(refusal) == "attachment.range"


def test_a_range_of_another_file_is_passed_over() -> None:
    """If-Range with another tag, or with a date: the whole file."""
    assert asked("bytes=5-9", FILE.etag, FILE) == Range(5, 10)
    assert asked("bytes=5-9", '"other"', FILE) is None
    assert asked("bytes=5-9", f"W/{FILE.etag}", FILE) is None
    assert asked("bytes=5000-", "Sun, 22 Nov 2026 04:21:00 GMT", FILE) is None


def test_a_range_is_told_as_it_is_given() -> None:
    """Content-Range counts both ends."""
    assert Range(5, 10).content_range(1000) == "bytes 5-9/1000"


def test_a_service_takes_what_it_says() -> None:
    """Types, sizes, number; and no file at all where it names none."""
    attachment.hold_accepted("a.b.v1", TAKES, [FILE, FILE])
    attachment.hold_accepted("a.b.v1", None, [])
    large, other = File("i", SHA, 1001, "application/pdf"), File("i", SHA, 1, "image/png")
    for accepts, files in ((None, [FILE]), (TAKES, [FILE] * 3), (TAKES, [large]), (TAKES, [other])):
        with pytest.raises(Refusal) as refusal:
            attachment.hold_accepted("a.b.v1", accepts, files)
        assert _code(refusal) == "attachment.not_accepted"


def test_ids_are_listed_once_each() -> None:
    """Exchange-Attachments: ids by commas."""
    assert attachment.listed(None) == ()
    assert attachment.listed(f" {FILE.id} ") == (FILE.id,)
    for wrong in ("", f"{FILE.id},", f"{FILE.id}, {FILE.id}", "../../etc/passwd", FILE.id.upper()):
        with pytest.raises(Refusal, match="Exchange-Attachments"):
            attachment.listed(wrong)


def test_an_empty_or_endless_file_is_refused() -> None:
    """From its length alone."""
    attachment.hold_length(attachment.MAX_FILE)
    for length, code in ((0, "request.malformed"), (attachment.MAX_FILE + 1, "request.too_large")):
        with pytest.raises(Refusal) as refusal:
            attachment.hold_length(length)
        assert _code(refusal) == code
