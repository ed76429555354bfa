"""Back-off: it doubles, ends at five minutes, is spread by chance, and obeys what the recipient asked for."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.backoff import FIRST_PAUSE, LONGEST_PAUSE, LONGEST_WISH, pause

CHANCES = st.floats(0, 1, exclude_max=True)


def test_it_doubles_up_to_its_longest() -> None:
    """1, 2, 4 … 256, 300, 300 seconds where chance gives the whole of it."""
    whole = [pause(n, 1.0) for n in range(1, 12)]
    assert whole[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert all(later >= sooner for sooner, later in pairwise(whole))
    assert whole[-1] == LONGEST_PAUSE == pause(10_000, 1.0)


@given(st.integers(0, 10_000), CHANCES)
def test_chance_spreads_it_over_its_upper_half(failures: int, chance: float) -> None:
    """Never shorter than half, so that nobody is asked at once; never longer than the whole."""
    assert pause(failures, 1.0) / 2 <= pause(failures, chance) <= pause(failures, 1.0)


@given(st.integers(0, 100), CHANCES, st.floats(0, 1e9))
def test_a_wish_is_granted_up_to_an_hour(failures: int, chance: float, wish: float) -> None:
    """Nobody is asked before it wants to be, and nobody keeps its documents waiting for ever."""
    seconds = pause(failures, chance, wish)
    assert min(wish, LONGEST_WISH) <= seconds <= max(LONGEST_WISH, LONGEST_PAUSE)
