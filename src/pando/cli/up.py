"""`pando up`: a cluster on one machine, with a front, sample data, a live table and a query to paste.

Without a terminal it prints plain lines, the last one being `ready http://HOST:PORT`. Not here: starting, watching and
ending the nodes (see `pando.node.local_cluster`).
"""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from pando.cli.sample import QUERY, QUERY_WORDS, load_sample
from pando.errors import CallerError

DRAW_S = 1.0
"""How often the live table is drawn anew."""
SHOWN_TOKEN_LIFE_S = 30 * 24 * 3600.0
"""How long the token lasts that is shown: it may stay in a log."""


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
        cluster = make_cluster(directory, nodes, http)
        run_cluster(cluster, directory, sample=sample, as_json=as_json, out=console())


def run_cluster(cluster: Cluster, directory: Path, *, sample: bool, as_json: bool, out: Console) -> None:
    """Start the cluster, tell about it, and watch it until somebody interrupts; ends with all processes gone."""
    try:
        if not as_json:
            out.print(f"starting {len(cluster.node_urls)} nodes in {directory}")
        cluster.start()
        token = make_token(read_secret(directory), life_s=SHOWN_TOKEN_LIFE_S)
        if sample:
            _load(cluster.front_url, token)
        if as_json:
            write_json(_facts(cluster, token))
        else:
            _introduce(cluster, directory, token, sample=sample, out=out)
        _watch(cluster, directory, out if out.is_terminal and not as_json else None)
    except KeyboardInterrupt:
        say("stopping")
    finally:
        cluster.stop()


def _load(url: str, token: str) -> None:
    with Client(url, token=token) as client, progress("loading sample data") as report:
        try:
            load_sample(client, report)
        except CallerError as error:
            if error.code != "NO_SAMPLE_DATA":
                raise
            say(f"starting without sample data: {error.message}")


def _facts(cluster: Cluster, token: str) -> dict[str, object]:
    nodes = [msgspec.to_builtins(report.view) for report in ask_nodes(cluster.node_urls, token)]
    return {"ready": cluster.front_url, "token": token, "nodes": nodes}


def _introduce(cluster: Cluster, directory: Path, token: str, *, sample: bool, out: Console) -> None:
    """Print the nodes, a query to paste, and last of all the line that scripts wait for."""
    out.print(make_table(ask_nodes(cluster.node_urls, token), cluster.restarts()))
    out.print()
    out.print(curl_line(cluster.front_url, token, sample=sample))
    out.print()
    out.print(f"{own_command(sys.argv[0])} sql --dir {shlex.quote(str(directory))} {cluster.front_url}")
    out.print(f"ready {cluster.front_url}")


def own_command(program: str) -> str:
    """Say how this program can be called from where the user is: by name where that finds it, else by path."""
    path = Path(program)
    if path.name != "pando":
        return f"{shlex.quote(sys.executable)} -m pando"
    found = shutil.which("pando")
    return "pando" if found and path.exists() and Path(found).samefile(path) else shlex.quote(program)


def curl_line(url: str, token: str, *, sample: bool) -> str:
    """Give a command for any shell that asks the cluster something."""
    if sample:
        stmt: dict[str, object] = {"sql": QUERY, "args": [{"type": "text", "value": QUERY_WORDS}]}
    else:
        stmt = {"sql": "SELECT sqlite_version()"}
    body = msgspec.json.encode({"requests": [{"type": "execute", "stmt": stmt}, {"type": "close"}]}).decode()
    return f"curl -s {url}/v2/pipeline -H 'Authorization: Bearer {token}' -d {shlex.quote(body)}"


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
