"""Whether a file is what its media type says: its first bytes, and for text all of them.

A type that the table knows needs the signature of its family; one that it does not know must not have another
family's. What is compared is written down in docs/documents.md.
"""

from collections.abc import Mapping

from gateway.core.refusal import Refusal

TEXT = "text"
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF-", "pdf"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
    (0, b"II+\x00", "tiff"),
    (0, b"MM\x00+", "tiff"),
    (8, b"WEBP", "webp"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "compound"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!\x1a\x07", "rar"),
    (0, b"AC10", "dwg"),
    (4, b"ftyp", "mp4"),
    (0, b"MZ", "program"),
    (0, b"\x7fELF", "program"),
    (0, b"\xfe\xed\xfa\xce", "program"),
    (0, b"\xfe\xed\xfa\xcf", "program"),
    (0, b"\xcf\xfa\xed\xfe", "program"),
    (0, b"\xca\xfe\xba\xbe", "program"),
    (0, b"#!", "script"),
)
"""Where bytes stand, and the family that they show."""
_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
_OFFICE_OPEN = "application/vnd.openxmlformats-officedocument."
_FAMILIES: Mapping[str, str] = {
    "application/pdf": "pdf",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/gif": "gif",
    "image/tiff": "tiff",
    "image/webp": "webp",
    "image/vnd.dwg": "dwg",
    "video/mp4": "mp4",
    "application/zip": "zip",
    "application/gzip": "gzip",
    "application/x-7z-compressed": "7z",
    "application/vnd.rar": "rar",
    "application/msword": "compound",
    "application/vnd.ms-excel": "compound",
    "application/vnd.ms-powerpoint": "compound",
    "application/vnd.ms-outlook": "compound",
    "application/json": "json",
    "application/xml": "xml",
}
_SPACE = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_JSON = b'{["-0123456789tfn'
_OFFICE_FIRST = (b"[Content_Types].xml", b"_rels/", b"docProps/", b"word/", b"xl/", b"ppt/", b"customXml/")
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))


def family(media_type: str) -> str | None:
    """What files of the type look like; None: the table does not know it."""
    if media_type in _FAMILIES:
        return _FAMILIES[media_type]
    if media_type.startswith((_OPEN_DOCUMENT, _OFFICE_OPEN)) or media_type.endswith("+zip"):
        return "zip"
    if media_type.endswith("+json"):
        return "json"
    if media_type.endswith("+xml") or media_type == "text/xml":
        return "xml"
    return TEXT if media_type.startswith("text/") else None


def is_text(media_type: str) -> bool:
    """Whether all of the file must be UTF-8."""
    return family(media_type) in (TEXT, "json", "xml")


def signature(head: bytes) -> str | None:
    """The family that the first bytes show, if any."""
    return next((shown for at, mark, shown in _SIGNATURES if head.startswith(mark, at)), None)


def hold_head(media_type: str, head: bytes) -> None:
    """Refuse a file whose first bytes, HEAD_BYTES of them or all, are not those of its type."""
    wanted, shown = family(media_type), signature(head)
    match wanted:
        case None:
            fits = shown is None
        case "pdf":  # readers find the header within the first KiB (ISO 32000-1, annex H, note 13)
            fits = shown == "pdf" or (shown is None and b"%PDF-" in head)
        case "zip":
            fits = shown == "zip" and _holds_entry(media_type, head)
        case "json":
            fits = shown is None and head.removeprefix(_BOM).lstrip(_SPACE)[:1] in _ones(_JSON)
        case "xml":
            fits = shown is None and head.removeprefix(_BOM).lstrip(_SPACE).startswith(b"<")
        case "text":  # what else begins with letters of a signature, and holds no control character, is a text
            fits = shown not in ("pdf", "gif", "script")
        case _:
            fits = shown == wanted
    if not fits:
        what = f"looks like a {shown} file" if shown else "does not begin as such a file does"
        raise Refusal("attachment.media_type", f"The file is declared as {media_type} and {what}.")


def _ones(text: bytes) -> tuple[bytes, ...]:
    return tuple(bytes([each]) for each in text)


def _holds_entry(media_type: str, head: bytes) -> bool:
    """Office files say by the first entry of their archive what they are; other archives hold whatever they like."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if media_type.startswith(_OPEN_DOCUMENT):  # OpenDocument 1.3, part 2, section 3.3: stored first, unpacked
        at = 30 + len(name) + int.from_bytes(head[28:30], "little")
        return name == b"mimetype" and head[at:].startswith(media_type.encode())
    if media_type.startswith(_OFFICE_OPEN):
        return name.startswith(_OFFICE_FIRST)
    return True


def text_on(carried: bytes, chunk: bytes, *, last: bool = False) -> bytes:
    """Hold the next bytes of a text against UTF-8; gives the piece of a character that the next ones complete.

    Raises Refusal attachment.media_type.
    """
    whole = carried + chunk
    cut = len(whole) if last else len(whole) - _unfinished(whole)
    try:
        whole[:cut].decode()
    except UnicodeDecodeError:
        # Not chained: the exception carries the file's bytes.
        raise Refusal("attachment.media_type", "The file is declared as text and is not UTF-8.") from None
    if len(whole.translate(None, _CONTROLS)) < len(whole):
        raise Refusal("attachment.media_type", "The file is declared as text and holds control characters.")
    return whole[cut:]


def _unfinished(text: bytes) -> int:
    """How many bytes at the end begin a character that is not whole."""
    for back in range(1, min(3, len(text)) + 1):
        lead = text[-back]
        if lead >= 0xC0:
            needs = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return back if needs > back else 0
        if lead < 0x80:
            return 0
    return 0
