"""Log lines on their way to an output that several processes share."""

import io

import pytest

from gateway.edge.telemetry import PIECE, _Lines


class Output(io.BytesIO):
    """Remembers what came in one piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:  # type: ignore[override] # bytes are all that comes
        self.pieces.append(piece)
        return len(piece)


@pytest.mark.parametrize("length", [10, 300, PIECE - 1, PIECE, 3 * PIECE])
async def test_lines_are_written_in_pieces_that_a_pipe_keeps_together(length: int) -> None:
    """Whole lines, so many as fit: what another process writes cannot come between two halves of one."""
    out = Output()
    lines = _Lines(out)
    for each in range(100):
        lines.msg(b"%d" % (each % 10) * length)
    assert out.pieces == []
    lines.flush()
    assert b"".join(out.pieces) == b"".join(b"%d" % (each % 10) * length + b"\n" for each in range(100))
    assert all(piece.endswith(b"\n") for piece in out.pieces)
    assert all(len(piece) <= PIECE or piece.count(b"\n") == 1 for piece in out.pieces)
    assert len(out.pieces) == max(1, -(-100 // max(1, PIECE // (length + 1))))
