"""A file is what its media type says, as far as its bytes tell."""

import zipfile
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.refusal import Refusal
from gateway.core.sniffing import hold_head, is_text, text_on

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
ODT = "application/vnd.oasis.opendocument.text"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8
COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def archive(**entries: bytes) -> bytes:
    """A ZIP file; ``__`` stands for a slash, and ``mimetype`` is stored as it is."""
    held = BytesIO()
    with zipfile.ZipFile(held, "w") as made:
        for name, content in entries.items():
            made.writestr(name.replace("__", "/"), content)
    return held.getvalue()


GOOD = [
    ("application/pdf", b"%PDF-1.7\n"),
    ("application/pdf", b"\n\n%PDF-1.4\n"),
    ("image/png", PNG),
    ("image/jpeg", b"\xff\xd8\xff\xe0"),
    ("application/zip", archive(anything=b"x")),
    (DOCX, archive(**{"[Content_Types].xml": b"<x/>"})),
    (DOCX, archive(word__document=b"<x/>")),
    (ODT, archive(mimetype=ODT.encode())),
    ("application/vnd.etsi.asic-e+zip", archive(mimetype=b"x")),
    ("application/msword", COMPOUND),
    ("application/json", b' {"a": 1}'),
    ("application/geo+json", b"\xef\xbb\xbf[1]"),
    ("application/xml", b"<?xml version='1.0'?><a/>"),
    ("image/svg+xml", b"<svg/>"),
    ("text/csv", "ที่อยู่,1\n".encode()),
    ("text/plain", b"MZ and others came"),
    ("application/x-cad", b"anything that nobody knows"),
]
BAD = [
    ("application/pdf", PNG),
    ("application/pdf", b"hello"),
    ("application/pdf", b"MZ\x90 %PDF-1.4"),
    ("image/png", b"%PDF-1.7"),
    ("image/jpeg", b""),
    (DOCX, archive(payload=b"x")),
    (DOCX, COMPOUND),
    (ODT, archive(mimetype=b"application/vnd.oasis.opendocument.spreadsheet")),
    (ODT, archive(a=b"x", mimetype=ODT.encode())),
    ("application/msword", archive(a=b"x")),
    ("application/json", b"<a/>"),
    ("application/json", b""),
    ("application/xml", b'{"a": 1}'),
    ("text/plain", b"%PDF-1.7"),
    ("text/plain", b"#!/bin/sh\n"),
    ("application/x-cad", b"MZ\x90\x00"),
    ("application/x-cad", b"\x7fELF"),
    ("application/octet-stream", b"%PDF-1.7"),
    ("application/x-cad", archive(a=b"x")),
]


@pytest.mark.parametrize(("media_type", "raw"), GOOD)
def test_a_true_file_passes(media_type: str, raw: bytes) -> None:
    """Known families by their signature; unknown types as long as no known signature says otherwise."""
    hold_head(media_type, raw[:1024])


@pytest.mark.parametrize(("media_type", "raw"), BAD)
def test_a_false_one_is_refused(media_type: str, raw: bytes) -> None:
    """Another family's signature, none where one belongs, and programs under whatever name."""
    with pytest.raises(Refusal) as refusal:
        hold_head(media_type, raw[:1024])
    assert refusal.value.code == "attachment.media_type"


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])), st.lists(st.integers(0, 400), max_size=6))
def test_text_may_be_cut_anywhere(text: str, cuts: list[int]) -> None:
    """Pieces that end within a character are put together again."""
    raw, carried, at = text.encode(), b"", 0
    for cut in sorted(min(cut, len(raw)) for cut in cuts):
        carried = text_on(carried, raw[at:cut])
        at = cut
    assert text_on(text_on(carried, raw[at:]), b"", last=True) == b""


@given(st.binary(min_size=1, max_size=12), st.integers(0, 12))
def test_what_is_no_text_never_passes(raw: bytes, cut: int) -> None:
    """The verdict on two pieces is the verdict on the whole."""
    held = b"\t\n\r\f\x1b"
    sound = raw.decode(errors="replace").encode() == raw and not any(c < 32 and c not in held for c in raw)
    try:
        text_on(text_on(b"", raw[:cut]), raw[cut:], last=True)
    except Refusal:
        assert not sound
    else:
        assert sound


def test_what_is_text() -> None:
    """JSON and XML are UTF-8 to their end, too."""
    assert all(is_text(each) for each in ("text/csv", "application/json", "application/ld+json", "image/svg+xml"))
    assert not is_text("application/pdf")
    assert not is_text("application/x-cad")
