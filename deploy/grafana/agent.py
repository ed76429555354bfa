"""An agency's dashboard of its own agents: `python -m deploy.grafana.agent` writes agent.json anew."""

import json
from pathlib import Path

from deploy.grafana.drawing import Board, Panel, Row, dashboard
from deploy.grafana.queries import OWN, QUIET, quantile, quantiles, rate, tile

FILE = Path(__file__).with_name("agent.json")


def total(metric: str) -> str:
    """Of all agents together."""
    return f"sum({metric}{{{OWN}}})"


NOW = Row(
    "Now",
    (
        tile("Agents up", 'sum(up{job="$job"})'),
        tile("Handed over a second", rate("gateway_agent_handed_over_total", where=OWN), "ops"),
        tile("Records that wait", total("gateway_agent_lag_records"), says="On the topic, and not finished."),
        tile(
            "The oldest waits",
            f"max(gateway_agent_lag_seconds{{{OWN}}})",
            "s",
            says="Since it was put on the topic.",
            bad=(600, 3600),
        ),
        tile("Outcomes not told", total("gateway_agent_unreported"), says="To the gateway.", bad=(1000, 8000)),
        tile(
            "For a person",
            f"{total('gateway_agent_unknown')} + {total('gateway_agent_unlooked_records')}"
            f" + {total('gateway_agent_gaps')}",
            says="`gateway agent show` lists them: unknown outcomes, foreign records, records that went unread.",
            bad=(1, 5),
        ),
        tile(
            "Reached",
            f"min(gateway_agent_kafka_up{{{OWN}}}) + min(gateway_agent_gateway_up{{{OWN}}})"
            f" + min(gateway_agent_memory_up{{{OWN}}})",
            says="Of three: Kafka, the gateway, the agents' own memories.",
        ),
        tile(
            "Alerts",
            'count(ALERTS{alertname=~"GatewayAgent.*", alertstate="firing", job="$job"}) or vector(0)',
            bad=(1, 3),
        ),
    ),
    4,
)
WORK = Row(
    "Documents",
    (
        Panel(
            "Handed over",
            {"{{service}} {{outcome}}": rate("gateway_agent_handed_over_total", "service, outcome", OWN)},
            unit="ops",
            says="again: it was not taken, and is tried again.",
            stacked=True,
        ),
        Panel("One hand-over", quantiles("gateway_agent_handover_duration_seconds", OWN), unit="s"),
        Panel(
            "By service, p95",
            {"{{service}}": quantile(0.95, "gateway_agent_handover_duration_seconds", "service", OWN)},
            unit="s",
        ),
        Panel("Records that wait, by partition", {"{{instance}} {{partition}}": f"gateway_agent_lag_records{{{OWN}}}"}),
        Panel(
            "Age of the oldest, by partition",
            {"{{instance}} {{partition}}": f"gateway_agent_lag_seconds{{{OWN}}}"},
            unit="s",
        ),
        Panel(
            "Partitions that wait, and why",
            {"{{instance}} {{why}}": f"count by (instance, why) (gateway_agent_paused{{{OWN}}} == 1)"},
            says=QUIET,
        ),
    ),
)
AROUND = Row(
    "Around it",
    (
        Panel(
            "Own systems", {"{{instance}} {{way}}": f"gateway_agent_system_up{{{OWN}}}"}, says="0: it takes nothing."
        ),
        Panel(
            "Kafka, gateway, memory",
            {
                "Kafka {{instance}}": f"gateway_agent_kafka_up{{{OWN}}}",
                "gateway {{instance}}": f"gateway_agent_gateway_up{{{OWN}}}",
                "memory {{instance}}": f"gateway_agent_memory_up{{{OWN}}}",
            },
            says="0: not reached, or not usable.",
        ),
        Panel(
            "Outcomes told to the gateway",
            {"{{outcome}}": rate("gateway_agent_reports_total", "outcome", OWN)},
            unit="ops",
            says="later: no answer; final: the gateway will never take it.",
        ),
        Panel(
            "Outcomes that wait",
            {
                "{{instance}}": f"gateway_agent_unreported{{{OWN}}}",
                "the oldest, s {{instance}}": f"gateway_agent_unreported_oldest_seconds{{{OWN}}}",
            },
        ),
        Panel(
            "Passed over",
            {
                "handed over before {{instance}}": f"increase(gateway_agent_duplicates_total{{{OWN}}}[15m])",
                "foreign, {{why}}": f"sum by (why) (increase(gateway_agent_refused_records_total{{{OWN}}}[15m]))",
            },
            says="In 15 minutes. Duplicates are usual after a restart; foreign records are not.",
        ),
        Panel(
            "The group",
            {
                "partitions {{instance}}": f"gateway_agent_partitions{{{OWN}}}",
                "divided, 15 min {{instance}}": f"increase(gateway_agent_rebalances_total{{{OWN}}}[15m])",
                "clients that failed, 15 min {{instance}}": (
                    f"increase(gateway_agent_consumer_restarts_total{{{OWN}}}[15m])"
                ),
            },
        ),
    ),
)
PROGRAM = Row(
    "Processes",
    (
        Panel("Versions", {"{{agency}} {{exported_instance}} {{version}}": f"gateway_agent_info{{{OWN}}}"}),
        Panel(
            "Processor",
            {"{{instance}}": f"rate(process_cpu_seconds_total{{{OWN}}}[$__rate_interval])"},
            unit="percentunit",
        ),
        Panel("Memory", {"{{instance}}": f"process_resident_memory_bytes{{{OWN}}}"}, unit="bytes"),
    ),
    7,
)
VARIABLES = {
    "job": 'label_values(up{job=~"exchange-agent.*"}, job)',
    "instance": 'label_values(up{job="$job"}, instance)',
}
ROWS = (NOW, WORK, AROUND, PROGRAM)


def text() -> str:
    """The file as it is to be."""
    board = Board("exchange-gateway-agent", "Exchange gateway: an agency's agents", VARIABLES, ROWS)
    return json.dumps(dashboard(board), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
