"""Queries that panels of every dashboard are made of."""

from deploy.grafana.drawing import Panel

QUIET = "Empty on a good day."
"""Stands in the description of a panel that shows nothing as long as nothing is wrong."""

OWN = 'job="$job", instance=~"$instance"'
ENDPOINT = f'{OWN}, provider=~"$provider", service=~"$service"'


def rate(metric: str, by: str = "", where: str = ENDPOINT, more: str = "") -> str:
    """How many a second, added up."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{where}{more}}}[$__rate_interval]))"


def quantile(part: float, metric: str, by: str = "", where: str = ENDPOINT) -> str:
    """Below which this part of the observations lies."""
    return f"histogram_quantile({part:g}, {rate(f'{metric}_bucket', f'{by}, le' if by else 'le', where)})"


def quantiles(metric: str, where: str = ENDPOINT) -> dict[str, str]:
    """Half, nearly all, all but one in a hundred."""
    return {f"p{part * 100:g}": quantile(part, metric, where=where) for part in (0.5, 0.95, 0.99)}


def mean(metric: str) -> str:
    """The average of a histogram's observations."""
    return f"{rate(f'{metric}_sum')} / {rate(f'{metric}_count')}"


FAULTS = ', outcome=~"gateway[.].*|journal[.].*|provider[.](unavailable|timeout|broken|wrong_answer|refused)"'
DONE = ', outcome=~"answered|replayed"'


def tile(
    title: str, query: str, unit: str = "short", *, says: str = "", bad: tuple[float, float] | None = None
) -> Panel:
    """One figure, large."""
    return Panel(title, {"": query}, "stat", unit, width=3, says=says, bad=bad)
