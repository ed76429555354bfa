"""docs/documents.md draws the life of a document as the program's table has it."""

import re

from gateway.core.delivery import TABLE, State
from tests.docs.pages import page


def test_the_states_are_those_of_the_program() -> None:
    """Every state has its row, which names what may become of it."""
    section = page("docs/documents.md").section("Where it stands")
    rows = re.findall(r"^\| `(\w+)` \|.*\|([^|]*)\|$", section, re.MULTILINE)
    drawn = {state: set(re.findall(r"`(\w+)`", becomes)) for state, becomes in rows}
    assert drawn == {state.value: {to.value for to in TABLE[state].values()} for state in State}
