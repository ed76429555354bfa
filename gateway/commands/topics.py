"""``gateway topics``: what the Kafka cluster must have for the agencies that read it, and what it has."""

import os
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Annotated, Protocol

import typer

from gateway.catalogue import files, kafka
from gateway.commands.kafka_tools import script
from gateway.commands.terminal import Root, accepted, fail, read_settings
from gateway.core.comparison import difference
from gateway.core.kafka import Connection, Sasl
from gateway.core.topics import Change, Difference, Found, Wanted, in_words, wanted
from gateway.protocols.kafka_link import ClusterFailed
from gateway.settings import Settings

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Topics, access and quotas on the Kafka cluster of kafka.yaml."
)

User = Annotated[
    str | None, typer.Option(help="Who logs in, instead of the gateway: somebody who may look and change.")
]
Password = Annotated[
    str | None, typer.Option(help="The secret with the user's password, by its name in the keys folder.")
]
Client = Annotated[
    str | None, typer.Option(help="The secret with a key and certificate, instead of the gateway's own.")
]
Taking = Annotated[
    bool,
    typer.Option(
        "--revoke", help="Also what takes something away: access and quotas that nobody needs, older records."
    ),
]


class Cluster(Protocol):
    """A cluster that was reached (``edge.cluster``)."""

    def found(self, wanted: Wanted) -> Found:
        """What it has. Raises ClusterFailed."""

    def carry_out(self, change: Change) -> None:
        """Make one change. Raises ClusterFailed."""

    def settled(self, wanted: Wanted, made: Collection[Change]) -> bool:
        """Whether the brokers tell of them. Raises ClusterFailed."""


class Opened(Protocol):
    """How it is reached."""

    def __call__(self, connection: Connection, files: files.Files) -> AbstractContextManager[Cluster]:
        """Raises ClusterFailed and ValueError."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks, where it is not the gateway."""

    user: str | None
    password: str | None
    client: str | None


@app.command()
def plan(*, root: Root = None, user: User = None, password: Password = None, client: Client = None) -> None:
    """Print what `apply` would change, and what no program changes."""
    with _reached(root, Login(user, password, client)) as (needed, cluster):
        between = difference(needed, cluster.found(needed))
    _print(between)
    typer.echo(_summary(between))


@app.command()
def apply(
    *,
    root: Root = None,
    user: User = None,
    password: Password = None,
    client: Client = None,
    revoke: Taking = False,
) -> None:
    """Create what is missing and set what differs; nothing is deleted, and no topic gets other partitions."""
    with _reached(root, Login(user, password, client)) as (needed, cluster):
        between = difference(needed, cluster.found(needed))
        chosen = [each for each in between.changes if revoke or not each.takes]
        made = [each for each in chosen if _carried_out(cluster, each)]
        if not cluster.settled(needed, made):
            typer.echo("the brokers do not tell of all changes yet: look again with gateway topics check", err=True)
    left = [each for each in between.changes if each not in chosen]
    _print(replace(between, changes=tuple(left)))
    failed = len(chosen) - len(made)
    typer.echo(f"{len(made)} changes made, {failed} failed, {len(left)} left (with --revoke)")
    raise typer.Exit(1 if failed else 0)


@app.command()
def check(*, root: Root = None, user: User = None, password: Password = None, client: Client = None) -> None:
    """Name what a running cluster lacks of what the agencies' documents need; exit code 1 where it lacks anything."""
    with _reached(root, Login(user, password, client)) as (needed, cluster):
        between = difference(needed, cluster.found(needed))
    _print(between)
    count = len(between.changes) + len(between.refused) + len(between.amiss)
    typer.echo(f"{'accepted' if between.sound else 'refused'}: {count} findings; {_needed(needed)}")
    raise typer.Exit(0 if between.sound else 1)


@app.command()
def export(*, root: Root = None) -> None:
    """Print Apache Kafka's own commands for everything that is needed; no cluster is asked."""
    typer.echo(script(_wanted(read_settings(root))), nl=False)


def _wanted(chosen: Settings) -> Wanted:
    catalogue = accepted(chosen)
    if catalogue.kafka is None:
        fail(f"The catalogue names no Kafka cluster: describe it in {chosen.catalogue / kafka.FILE}.")
    return wanted(catalogue, catalogue.kafka)


@contextmanager
def _reached(root: Root, login: Login) -> Iterator[tuple[Wanted, Cluster]]:
    """What is needed, and the cluster; the command ends where it cannot be asked."""
    chosen = read_settings(root)
    needed = _wanted(chosen)
    # by name: this client of Kafka is heavy, and nothing that serves needs it
    opened: Opened = import_module("gateway.edge.cluster").opened
    try:
        connection = _as(login, kafka.located(needed.cluster.connection, os.environ))
        with opened(connection, files.read(chosen.catalogue, chosen.keys)) as cluster:
            yield needed, cluster
    except (ClusterFailed, ValueError) as error:
        fail(str(error))


def _as(login: Login, connection: Connection) -> Connection:
    """The connection as somebody else's. Raises ValueError."""
    if (login.user is None) != (login.password is None):
        raise ValueError("Name both --user and --password, or neither.")
    if login.user is not None and login.password is not None:
        if connection.sasl is None:
            raise ValueError("--user needs to know how to log in: write sasl into kafka.yaml.")
        connection = replace(connection, sasl=Sasl(connection.sasl.mechanism, login.user, login.password))
    if login.client is not None:
        if connection.tls is None:
            raise ValueError("--client needs tls: write it into kafka.yaml.")
        connection = replace(connection, tls={**connection.tls, "client": login.client})
    return connection


def _carried_out(cluster: Cluster, change: Change) -> bool:
    sign, words = in_words(change)
    try:
        cluster.carry_out(change)
    except ClusterFailed as error:
        typer.echo(f"failed: {words}\n    {error}", err=True)
        return False
    typer.echo(f"{sign} {words}")
    return True


def _print(between: Difference) -> None:
    for change in between.changes:
        sign, words = in_words(change)
        typer.echo(f"{sign} {words}{' (with --revoke)' if change.takes else ''}")
    for sentence in (*between.refused, *between.amiss):
        typer.echo(f"! {sentence}")
    for note in between.notes:
        typer.echo(f"  {note}")


def _summary(between: Difference) -> str:
    signs = [in_words(each)[0] for each in between.changes]
    mended = len(between.refused) + len(between.amiss)
    if between.sound:
        return "nothing to do"
    added, changed, taken = (signs.count(sign) for sign in "+~-")
    return f"{added} to add, {changed} to change, {taken} to take away (with --revoke), {mended} that no program mends"


def _needed(needed: Wanted) -> str:
    agencies = {each.agency for each in needed.topics.values()}
    return f"topics needed: {len(needed.topics)}, agencies: {len(agencies)}"
