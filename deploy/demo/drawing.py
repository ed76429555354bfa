"""Plans as PDF files: one page with the outline of a house, so that an application has something to attach."""

from collections.abc import Sequence

Line = tuple[int, int, int, int]
"""From and to, in points from the lower left corner of the page."""

_HOUSE: tuple[Line, ...] = (
    (150, 250, 450, 250),
    (450, 250, 450, 450),
    (450, 450, 300, 560),
    (300, 560, 150, 450),
    (150, 450, 150, 250),
    (150, 450, 450, 450),
    (270, 250, 270, 350),
    (270, 350, 330, 350),
    (330, 350, 330, 250),
)


def plan(title: str, lines: Sequence[Line] = _HOUSE) -> bytes:
    """A PDF 1.4 file with the title and the lines. The title is plain ASCII without brackets."""
    strokes = " ".join(f"{x} {y} m {to_x} {to_y} l S" for x, y, to_x, to_y in lines)
    drawn = f"BT /F1 18 Tf 72 770 Td ({title}) Tj ET {strokes}".encode("ascii")
    return _file(
        (
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources 6 0 R >>",
            b"<< /Length %d >>\nstream\n%b\nendstream" % (len(drawn), drawn),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            b"<< /Font << /F1 5 0 R >> >>",
        )
    )


def _file(objects: Sequence[bytes]) -> bytes:
    """The objects, numbered from 1, with the table that says where each begins (ISO 32000-1, section 7.5)."""
    text, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(text))
        text += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    size = len(objects) + 1
    table = b"xref\n0 %d\n0000000000 65535 f \n" % size
    table += b"".join(b"%010d 00000 n \n" % place for place in places)
    return text + table + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(text))
