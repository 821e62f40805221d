"""`pando up`: a cluster on one machine, with a front, sample data, a live table and commands to paste.

Without a terminal it prints plain lines, the last one being `ready http://HOST:PORT`. Not here: starting, watching and
ending the nodes (see `pando.node.local_cluster`).
"""

from __future__ import annotations

import hmac
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import Annotated, Protocol

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from pando.cli.access import make_token, own_token, read_secret
from pando.cli.client import Client
from pando.cli.dashboard import ask_nodes, make_table, show_live
from pando.cli.options import DEFAULT_DIRECTORY, JsonOption
from pando.cli.output import console, failures, progress, say, write_json
from pando.cli.pasting import curl_line, list_line, sign_in_line, subscribe_line
from pando.cli.places import require_cluster_place
from pando.cli.sample import USER, load_sample
from pando.cli.sample_api import NO_SAMPLE_DATA
from pando.errors import CallerError

DRAW_S = 1.0
"""How often the live table is drawn anew."""
SHOWN_TOKEN_LIFE_S = 30 * 24 * 3600.0
"""How long the token lasts that is shown: it may stay in a log."""
PASSWORD_CHARS = 16
_SAMPLE_NAMES = ("cities", "cities_fts", "countries")
_SAMPLE_COLLECTION_NAMES = ("cities", "countries")
_SAMPLE_TABLES = f"SELECT count(*) FROM sqlite_schema WHERE name IN {_SAMPLE_NAMES}"
_SAMPLE_COLLECTIONS = f"SELECT count(*) FROM _collections WHERE name IN {_SAMPLE_COLLECTION_NAMES}"
_HAS_RECORDS = "SELECT 1 FROM sqlite_schema WHERE name = '_collections'"


class Cluster(Protocol):
    """What `up` needs of a cluster on this machine."""

    @property
    def front_url(self) -> str:
        """Address of the front."""
        ...

    @property
    def node_urls(self) -> Sequence[str]:
        """Addresses of the nodes."""
        ...

    def start(self) -> None:
        """Start all nodes and the front, and return once they serve."""
        ...

    def restarts(self) -> Mapping[str, int]:
        """How often each node was started again, by its address."""
        ...

    def wait(self, seconds: float) -> None:
        """Watch the nodes for a while, starting again what died."""
        ...

    def stop(self) -> None:
        """End all processes."""
        ...


def up(
    nodes: Annotated[int, typer.Option(min=1, max=16, help="How many nodes; the first is the primary.")] = 3,
    directory: Annotated[Path, typer.Option("--dir", help="Where the nodes keep their data.")] = DEFAULT_DIRECTORY,
    http: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Address of the front; the nodes take the ports after it.")
    ] = "127.0.0.1:8090",
    sample: Annotated[bool, typer.Option("--sample/--no-sample", help="Load sample data, once.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Run a cluster on this machine: a primary, replicas, and a front that spreads requests over them."""
    with failures(as_json=as_json), _stop_on_signals():
        require_cluster_place(directory)
        cluster = make_cluster(directory, nodes, http)
        run_cluster(cluster, directory, sample=sample, as_json=as_json, out=console())


def run_cluster(cluster: Cluster, directory: Path, *, sample: bool, as_json: bool, out: Console) -> None:
    """Start the cluster, tell about it, and watch it until somebody interrupts; ends with all processes gone."""
    try:
        if not as_json:
            out.print(f"starting {len(cluster.node_urls)} nodes in {directory}")
        cluster.start()
        secret = read_secret(directory)
        token = make_token(secret, life_s=SHOWN_TOKEN_LIFE_S)
        shown = _load(cluster, token, sample_password(secret)) if sample else Sample()
        if as_json:
            write_json(_facts(cluster, token, shown))
        else:
            _introduce(cluster, directory, token, shown, out=out)
        _watch(cluster, directory, out if out.is_terminal and not as_json else None)
    except KeyboardInterrupt:
        say("stopping")
    finally:
        cluster.stop()


@dataclass(frozen=True, slots=True)
class Sample:
    """What there is to show. `password`: of the sample user, "" if there is none with the password that we gave it."""

    has_rows: bool = False
    has_collections: bool = False
    password: str = ""


def sample_password(secret: str) -> str:
    """Give the password of the sample user: nobody without the cluster's secret can know it, and it is always the same.

    So it can be shown at each start without being kept anywhere.
    """
    return hmac.new(secret.encode(), USER.encode(), "sha256").hexdigest()[:PASSWORD_CHARS]


def _load(cluster: Cluster, token: str, password: str) -> Sample:
    """Load what is missing, on the primary, and tell what is there afterwards."""
    with Client(cluster.node_urls[0], token=token) as client:
        try:
            with progress("loading sample data") as report:
                load_sample(client, report, password=password)
        except CallerError as error:
            if error.code != NO_SAMPLE_DATA:
                raise
            say(f"starting without sample data: {error.message}")
            return Sample()
        return _find(client, password)


def _find(client: Client, password: str) -> Sample:
    """See what of the sample data is there still."""
    rows = client.execute(_SAMPLE_TABLES).rows[0][0] == len(_SAMPLE_NAMES)
    has_records = bool(client.execute(_HAS_RECORDS).rows)
    if not has_records or client.execute(_SAMPLE_COLLECTIONS).rows[0][0] != len(_SAMPLE_COLLECTION_NAMES):
        return Sample(has_rows=rows)
    body = msgspec.json.encode({"identity": USER, "password": password})
    headers = {"content-type": "application/json"}
    answer = client.request("POST", "/api/collections/users/auth-with-password", body=body, headers=headers)
    return Sample(rows, True, password if answer.status == HTTPStatus.OK else "")


def _facts(cluster: Cluster, token: str, sample: Sample) -> dict[str, object]:
    nodes = [msgspec.to_builtins(report.view) for report in ask_nodes(cluster.node_urls, token)]
    user = {"user": {"identity": USER, "password": sample.password}} if sample.password else {}
    return {"ready": cluster.front_url, "token": token, "nodes": nodes, **user}


def _introduce(cluster: Cluster, directory: Path, token: str, sample: Sample, *, out: Console) -> None:
    """Print the nodes, what to paste, and last of all the line that scripts wait for."""
    url, program, folder = cluster.front_url, own_command(sys.argv[0]), shlex.quote(str(directory))
    out.print(make_table(ask_nodes(cluster.node_urls, token), cluster.restarts()))
    lines = {"SQL:": [curl_line(url, token, sample=sample.has_rows), f"{program} sql --dir {folder} {url}"]}
    if sample.has_collections:
        lines["records, with filter, sort and expand:"] = [list_line(url)]
        lines["changes, as they happen:"] = [subscribe_line(url)]
    if sample.password:
        lines[f"sign in as {USER} with password {sample.password}:"] = [sign_in_line(url, USER, sample.password)]
    lines["an account for everything:"] = [f"{program} superuser upsert EMAIL PASSWORD --dir {folder}"]
    for title, commands in lines.items():
        out.print(f"\n{title}")
        for command in commands:
            out.print(command)
    out.print(f"\nready {url}")


def own_command(program: str) -> str:
    """Say how this program can be called from where the user is: by name where that finds it, else by path."""
    path = Path(program)
    if path.name != "pando":
        return f"{shlex.quote(sys.executable)} -m pando"
    found = shutil.which("pando")
    return "pando" if found and path.exists() and Path(found).samefile(path) else shlex.quote(program)


def _watch(cluster: Cluster, directory: Path, out: Console | None) -> None:
    if out is None:
        while True:
            cluster.wait(DRAW_S)
    out.print()

    def wait() -> bool:
        cluster.wait(DRAW_S)
        return True

    def draw() -> Table:
        return make_table(ask_nodes(cluster.node_urls, own_token(directory)), cluster.restarts())

    show_live(out, draw, wait)


@contextmanager
def _stop_on_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the command as Ctrl-C does, so that no node is left behind."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_cluster(directory: Path, nodes: int, http: str) -> Cluster:
    """Make the cluster of real processes."""
    from pando.node.local_cluster import LocalCluster

    return LocalCluster(directory, nodes=nodes, http=http)
