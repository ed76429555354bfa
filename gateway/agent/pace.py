"""How fast the agent works, and how long it waits: one value, so that a test can be quicker than an agency."""

from dataclasses import dataclass

from gateway.core.backoff import LONGEST_WISH

_DOUBLINGS = 20


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds, where nothing else is said."""

    session: float = 10.0
    """Without a sign of life, after which the group gives this member's partitions to others."""
    heartbeat: float = 3.0
    rebalance: float = 30.0
    """For which the group waits for this member when it is divided anew."""
    finishing: float = 20.0
    """Which a hand-over has for its end when its partition goes to another member: less than ``rebalance``."""
    fresh: float = 5.0
    """Since the group last accepted a position from here, within which a hand-over may begin: less than ``session``."""
    answer: float = 10.0
    """Which a question to Kafka may take."""
    joining: float = 60.0
    """Which a new consumer has to find its place in the group."""
    closing: float = 5.0
    """Which an old one has to leave it."""
    commit: float = 0.1
    """Between two writings of the group's positions."""
    look: float = 5.0
    """Between two looks at the ends of the partitions."""
    stalls: int = 6
    """Looks in a row at which nothing comes though something is there: the consumer is made anew."""
    forget: float = 3600.0
    """Between two cleanings of the memory."""
    batch: int = 64
    """Records that one partition holds ready."""
    first: float = 1.0
    longest: float = 30.0
    """Each failure doubles the pause, from the first to the longest."""
    longest_document: float = 300.0
    """The same, where it is one document that is not taken."""
    patience: int = 12
    """Times that the system says of one document alone that it takes nothing, before they wear out its tries: with
    these, and with a few other documents in between each time, it is rejected after about an hour."""
    misreads: int = 3
    """Times that a record cannot be read, before it is passed over."""
    again: float = 2.0
    """Between two looks at what waits for a person, or for reports."""

    def pause(self, failures: int, chance: float, wish: float | None = None) -> float:
        """After so many failures in a row; ``chance`` (0 to 1) spreads those that failed together."""
        return self._pause(failures, chance, self.longest, wish)

    def document_pause(self, tries: int, chance: float, wish: float | None = None) -> float:
        """After so many tries of one document."""
        return self._pause(tries, chance, self.longest_document, wish)

    def _pause(self, failures: int, chance: float, longest: float, wish: float | None) -> float:
        whole = min(longest, self.first * 2.0 ** min(max(failures, 1) - 1, _DOUBLINGS))
        own = whole * (0.5 + chance / 2)
        return own if wish is None else max(own, min(wish, LONGEST_WISH))
