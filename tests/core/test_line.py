"""What fits one line that people read."""

import pytest

from gateway.core.line import is_line


@pytest.mark.parametrize("text", ["77/26", "សជណ\u200b៧៧/២៦", "ขอ\u200bคัด", " a "])
def test_a_line(text: str) -> None:
    """Any script, with the signs that stand between its words."""
    assert is_line(text)


@pytest.mark.parametrize("text", ["", "   ", "\u200b", "a\nb", "a\u0000", "a\u2028b", "77\u202e87", "a\ud800"])
def test_no_line(text: str) -> None:
    """Nothing to see, more than one line, or something else to see than what stands there."""
    assert not is_line(text)
