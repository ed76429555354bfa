"""How long a recipient, or one of its lanes, is left alone after a failure."""

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
"""Seconds: each failure doubles the pause, from the first to the longest."""
LONGEST_WISH = 3600.0
"""Seconds of a recipient's own wish (Retry-After) that are granted."""
_DOUBLINGS = 20


def pause(failures: int, chance: float, wish: float | None = None) -> float:
    """Seconds to wait after so many failures in a row.

    ``chance`` lies between 0 and 1 and spreads those that failed together over the upper half of the pause. What the
    recipient wished for counts where it is longer, and is never cut short by chance.
    """
    whole = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(max(failures, 1) - 1, _DOUBLINGS))
    own = whole * (0.5 + chance / 2)
    return own if wish is None else max(own, min(wish, LONGEST_WISH))
