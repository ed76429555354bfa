"""The overview dashboard of Grafana: `python -m deploy.grafana.overview` writes overview.json anew."""

import json
from pathlib import Path

from deploy.grafana.drawing import Board, Panel, Row, dashboard
from deploy.grafana.queries import DONE, ENDPOINT, FAULTS, OWN, QUIET, mean, quantile, quantiles, rate, tile

FILE = Path(__file__).with_name("overview.json")

NOW = Row(
    "Now",
    (
        tile("Calls a second", rate("gateway_exchanges_total"), "reqps"),
        tile(
            "Answered",
            f"{rate('gateway_exchanges_total', more=DONE)} / {rate('gateway_exchanges_total')}",
            "percentunit",
            says="Of the calls of identified systems; the others were refused or failed.",
        ),
        tile(
            "The gateway's faults, 1 h",
            'job:gateway_faults:ratio_rate1h{job="$job"}',
            "percentunit",
            says="The objective allows 0.1 % in 30 days.",
            bad=(0.001, 0.0144),
        ),
        tile(
            "Own time, p99",
            quantile(0.99, "gateway_exchange_own_duration_seconds"),
            "s",
            says="Without waiting for providers. The objective: 99 % within 0.1 s.",
            bad=(0.1, 0.25),
        ),
        tile(
            "Endpoints held back",
            f"count(max by (provider, service) (gateway_breaker_open{{{ENDPOINT}}}) > 0) or vector(0)",
            bad=(1, 3),
        ),
        tile("Processes up", 'sum(up{job="$job"})', says="Workers, and parents of workers."),
        tile(
            "Catalogues in use",
            'count(count by (digest) (gateway_catalogue_info{job="$job"}))',
            says="More than one is right during a change only.",
            bad=(2, 3),
        ),
        tile(
            "Alerts",
            'count(ALERTS{alertname=~"Gateway.*", alertstate="firing", job="$job"}) or vector(0)',
            bad=(1, 3),
        ),
    ),
    4,
)
FLOW = Row(
    "Calls, failures, time",
    (
        Panel(
            "Calls by outcome", {"{{outcome}}": rate("gateway_exchanges_total", "outcome")}, unit="reqps", stacked=True
        ),
        Panel(
            "Failures by provider",
            {"{{provider}} {{outcome}}": rate("gateway_exchanges_total", "provider, outcome", more=FAULTS)},
            unit="reqps",
            says=QUIET,
        ),
        Panel("From head to answer", quantiles("gateway_exchange_duration_seconds"), unit="s"),
    ),
)
SPLIT = Row(
    "Whose time it is",
    (
        Panel(
            "Mean, split",
            {
                "gateway": mean("gateway_exchange_own_duration_seconds"),
                "provider": mean("gateway_exchange_provider_duration_seconds"),
            },
            unit="s",
            stacked=True,
        ),
        Panel("The gateway's own", quantiles("gateway_exchange_own_duration_seconds"), unit="s"),
        Panel(
            "Providers, p95",
            {
                "{{provider}} {{service}}": quantile(
                    0.95, "gateway_exchange_provider_duration_seconds", "provider, service"
                )
            },
            unit="s",
        ),
    ),
)
AGENCIES = Row(
    "Agencies",
    (
        Panel(
            "By agency",
            {
                "Calls a second": rate("gateway_exchanges_total", "provider"),
                "Failed": f"{rate('gateway_exchanges_total', 'provider', more=FAULTS)}"
                f" / {rate('gateway_exchanges_total', 'provider')}",
                "Mean s": f"{rate('gateway_exchange_provider_duration_seconds_sum', 'provider')}"
                f" / {rate('gateway_exchange_provider_duration_seconds_count', 'provider')}",
                "Held back": f"max by (provider) (gateway_breaker_open{{{ENDPOINT}}})",
            },
            "table",
            width=12,
        ),
        Panel(
            "Answers that deviate",
            {"{{provider}} {{mode}}": rate("gateway_answer_deviations_total", "provider, mode")},
            unit="reqps",
            width=6,
            says=f"Withheld, or reported where the endpoint only reports. {QUIET}",
        ),
        Panel(
            "Calls held back",
            {"{{provider}} {{service}}": f"max by (provider, service) (gateway_breaker_open{{{ENDPOINT}}})"},
            width=6,
            says="1: nothing is sent; 0.5: one call probes.",
        ),
    ),
)
CALLERS = Row(
    "Who calls",
    (
        Panel(
            "Refusals by code",
            {"{{code}}": f"{rate('gateway_refusals_total', 'code', OWN)} > 0"},
            unit="reqps",
            says=f"Also of callers without a token. {QUIET}",
        ),
        Panel(
            "By consumer",
            {"{{consumer}}": f"topk(10, {rate('gateway_exchanges_total', 'consumer')})"},
            unit="reqps",
        ),
        Panel(
            "The day's quota used",
            {"{{agreement}} {{consumer}}": f"max by (agreement, consumer) (gateway_quota_leased_ratio{{{OWN}}})"},
            unit="percentunit",
        ),
        Panel("Token requests", {"{{outcome}}": rate("gateway_tokens_total", "outcome", OWN)}, unit="reqps"),
        Panel(
            "Fetches of others' keys", {"{{outcome}}": rate("gateway_jwks_fetches_total", "outcome", OWN)}, unit="reqps"
        ),
        Panel(
            "Sizes of bodies, p95",
            {"{{direction}}": quantile(0.95, "gateway_body_bytes", "direction")},
            unit="bytes",
        ),
    ),
)
DOCUMENTS = Row(
    "Documents and events",
    (
        Panel(
            "What happens to them",
            {"{{step}}": rate("gateway_documents_total", "step", OWN)},
            unit="ops",
            says="Each step once, in the process that wrote it down.",
        ),
        Panel(
            "Under way, p95",
            {"{{protocol}}": quantile(0.95, "gateway_documents_arrival_seconds", "protocol", OWN)},
            unit="s",
            says="Until the recipient's system had taken it; of a mailbox, until it was fetched.",
        ),
        Panel(
            "Attempts to hand over",
            {"{{protocol}} {{outcome}}": rate("gateway_delivery_attempts_total", "protocol, outcome", OWN)},
            unit="ops",
        ),
        Panel(
            "Waiting",
            {"{{recipient}} {{way}}": f"topk(10, max by (recipient, way) (gateway_documents_waiting{{{OWN}}}))"},
            says=QUIET,
        ),
        Panel(
            "The oldest that waits",
            {"{{recipient}}": f"topk(10, max by (recipient) (gateway_documents_oldest_seconds{{{OWN}}}))"},
            unit="s",
            says=QUIET,
        ),
        Panel(
            "Of what may wait",
            {"{{recipient}} {{way}}": f"topk(10, max by (recipient, way) (gateway_documents_bound_ratio{{{OWN}}}))"},
            unit="percentunit",
            says=f"At 100 % senders get 503 for this recipient. {QUIET}",
        ),
        Panel(
            "Left alone",
            {"{{recipient}} {{way}} {{why}}": f"max by (recipient, way, why) (gateway_gates_closed{{{OWN}}})"},
            says=f"Systems that do not answer, but for a probe now and then. {QUIET}",
        ),
        Panel(
            "Not delivered, disputed, late",
            {
                "undeliverable {{recipient}}": f"max by (recipient) (gateway_documents_undeliverable{{{OWN}}})",
                "{{step}} {{service}}, 1 h": "sum by (step, service) (increase(gateway_documents_total"
                f'{{{OWN}, step=~"disputed|expired|overdue"}}[1h])) > 0',
                "faults of the self-check": f"max(gateway_documents_faults{{{OWN}}}) > 0",
            },
            says=QUIET,
        ),
        Panel(
            "Waiting for a second person",
            {"{{agency}}": f"max by (agency) (gateway_approvals_waiting{{{OWN}}})"},
            says=QUIET,
        ),
        Panel(
            "What recipients say",
            {"{{outcome}}": rate("gateway_inbox_outcomes_total", "outcome", OWN)},
            unit="ops",
            says=QUIET,
        ),
        Panel("Files", {"{{direction}}": rate("gateway_attachment_bytes_total", "direction", OWN)}, unit="Bps"),
        Panel(
            "Looked for what is due",
            {"{{instance}}": f"time() - gateway_dispatch_look_timestamp_seconds{{{OWN}}}"},
            unit="s",
            says="Seconds since the last look of each process, which should be one a second.",
        ),
    ),
)
KAFKA = Row(
    "Kafka",
    (
        Panel(
            "Until Kafka acknowledged",
            quantiles("gateway_kafka_handover_seconds", OWN),
            unit="s",
            says="By all replicas that are in sync.",
        ),
        Panel(
            "Acknowledged",
            {"{{instance}}": rate("gateway_kafka_handover_seconds_count", "instance", OWN)},
            unit="ops",
        ),
        Panel(
            "Not acknowledged",
            {"{{recipient}} {{error}}": f"{rate('gateway_kafka_errors_total', 'recipient, error', OWN)} > 0"},
            unit="ops",
            says=f"What failed stands behind the agency's name; it is put there again. {QUIET}",
        ),
        Panel("Brokers are reached", {"{{instance}}": f"gateway_kafka_up{{{OWN}}}"}, width=6, says="0: they are not."),
        Panel(
            "Agencies that wait for Kafka",
            {"": f'count(max by (recipient, way) (gateway_gates_closed{{{OWN}, why="away"}}))'},
            width=6,
            says=f"Because it is away. A topic that is missing is among those that are left alone, above. {QUIET}",
        ),
        Panel(
            "On their way",
            {
                "records {{instance}}": f"gateway_kafka_in_flight_records{{{OWN}}}",
                "MiB {{instance}}": f"gateway_kafka_in_flight_bytes{{{OWN}}} / 1048576",
            },
            width=6,
        ),
        Panel(
            "Producers given up, 15 min",
            {
                "{{instance}} {{why}}": "sum by (instance, why) (increase(gateway_kafka_producer_restarts_total"
                f"{{{OWN}}}[15m]))"
            },
            width=6,
        ),
    ),
)
JOURNAL = Row(
    "Journal",
    (
        Panel("One commit", quantiles("gateway_journal_commit_seconds", OWN), unit="s"),
        Panel("Entries a second", {"{{instance}}": rate("gateway_journal_entries_total", "instance", OWN)}, unit="ops"),
        Panel(
            "Waiting and failing",
            {
                "waiting {{instance}}": f"gateway_journal_waiting{{{OWN}}}",
                "failing {{instance}}": f"gateway_journal_failing{{{OWN}}}",
                "unsettled writes, 1 h": f"sum(increase(gateway_writes_unsettled_total{{{OWN}}}[1h]))",
            },
            says="4096 may wait; while it fails nothing is let through.",
        ),
    ),
)
PROGRAM = Row(
    "Processes",
    (
        Panel(
            "Workers",
            {
                "serving {{instance}}": f"gateway_workers{{{OWN}}}",
                "wanted {{instance}}": f"gateway_workers_wanted{{{OWN}}}",
                "ended, {{reason}}": f"sum by (reason) (increase(gateway_worker_exits_total{{{OWN}}}[15m]))",
            },
            says="Only where a node runs several.",
        ),
        Panel("In progress", {"{{instance}}": f"gateway_exchanges_in_progress{{{OWN}}}"}),
        Panel(
            "Connections",
            {
                "held {{instance}}": f"gateway_connections{{{OWN}}}",
                "refused, {{reason}}": rate("gateway_connections_refused_total", "reason", OWN),
                "cut, {{reason}}": rate("gateway_connections_cut_total", "reason", OWN),
            },
        ),
        Panel(
            "Processor",
            {"{{instance}}": f"rate(process_cpu_seconds_total{{{OWN}}}[$__rate_interval])"},
            unit="percentunit",
        ),
        Panel("Memory", {"{{instance}}": f"process_resident_memory_bytes{{{OWN}}}"}, unit="bytes"),
        Panel(
            "Open files", {"{{instance}}": f"process_open_fds{{{OWN}}} / process_max_fds{{{OWN}}}"}, unit="percentunit"
        ),
    ),
    7,
)
CATALOGUE = Row(
    "Catalogue, suspensions, certificate",
    (
        Panel(
            "In use, and how long",
            {
                "{{instance}} {{digest}}": f"(time() - gateway_catalogue_loaded_timestamp_seconds{{{OWN}}})"
                f" * on (instance) group_right gateway_catalogue_info{{{OWN}}}"
            },
            unit="s",
        ),
        Panel(
            "Reloads",
            {"{{outcome}}": f"sum by (outcome) (increase(gateway_catalogue_reloads_total{{{OWN}}}[15m]))"},
        ),
        Panel(
            "Kept, as the new files are broken",
            {"{{instance}} {{folder}}": f"gateway_catalogue_kept{{{OWN}}}"},
            says=QUIET,
        ),
        Panel("Suspended by operators", {"{{kind}}": f"max by (kind) (gateway_suspensions{{{OWN}}})"}),
        Panel(
            "Certificate ends in",
            {"{{listener}}": f"min by (listener) (gateway_certificate_expiry_timestamp_seconds{{{OWN}}}) - time()"},
            unit="s",
            says=f"Where the gateway itself speaks TLS; elsewhere it is empty. {QUIET}",
        ),
        Panel(
            "Spans that were not delivered",
            {"{{why}}": rate("gateway_spans_dropped_total", "why", OWN)},
            unit="ops",
            says=QUIET,
        ),
    ),
    6,
)
VARIABLES = {
    "job": 'label_values(up{job=~"gateway.*"}, job)',
    "instance": 'label_values(up{job="$job"}, instance)',
    "provider": 'label_values(gateway_endpoint_deadline_seconds{job="$job"}, provider)',
    "service": 'label_values(gateway_endpoint_deadline_seconds{job="$job", provider=~"$provider"}, service)',
}
ROWS = (NOW, FLOW, SPLIT, AGENCIES, CALLERS, DOCUMENTS, KAFKA, JOURNAL, PROGRAM, CATALOGUE)


def text() -> str:
    """The file as it is to be."""
    return (
        json.dumps(
            dashboard(Board("exchange-gateway", "Exchange gateway", VARIABLES, ROWS)), indent=1, ensure_ascii=False
        )
        + "\n"
    )


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
