"""What the commands know of a cluster: `/cluster/status` of one node, and of each node that it names.

Not here: printing (see `cli.status`), the server's side (see `pando.node`).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from pando.cli.client import Client
from pando.errors import CallerError, PandoError
from pando.store.protocol import DatabaseStatus, ReplicaStatus
from pando.types import Role

NODE_TIMEOUT_S = 5.0
"""How long one node may take to tell its status before it counts as away."""
HEALTHY_STATES = frozenset({"open", "closed"})
"""States of a database that need nobody's attention."""


class KnownNode(msgspec.Struct, kw_only=True):
    """A node as another one names it."""

    node: str = ""
    url: str = ""
    role: str = ""


class NodeView(msgspec.Struct, kw_only=True):
    """What a node answers to GET /cluster/status."""

    node: str
    role: str
    url: str = ""
    epoch: int = 0
    primary_url: str = ""
    ready: bool = True
    reason: str = ""
    upstream_connected: bool = True
    databases: list[DatabaseStatus] = []
    replicas: list[ReplicaStatus] = []
    processes: dict[str, object] = {}
    nodes: list[KnownNode] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """One node as it was found: its view, or why there is none."""

    url: str
    view: NodeView | None
    error: str = ""


def read_view(client: Client) -> NodeView:
    """Ask one node for its status; raises the server's error, Unreachable, or NOT_PANDO."""
    found = client.get_json("/cluster/status")
    try:
        view = msgspec.convert(found, NodeView)
    except msgspec.ValidationError as error:
        raise CallerError(f"{client.url} does not answer as a Pando server: {error}", code="NOT_PANDO") from error
    return view


def read_cluster(url: str, token: str | None) -> list[NodeReport]:
    """Ask a node, then each node that it names; the primary first. Raises when the first one cannot be asked."""
    with Client(url, token=token, timeout_s=NODE_TIMEOUT_S) as client:
        first = read_view(client)
    others = [node for node in first.nodes if node.url and node.node != first.node]
    own_url = next((node.url for node in first.nodes if node.node == first.node and node.url), first.url or url)
    reports = [NodeReport(url=own_url.rstrip("/"), view=first)]
    reports += [_read_node(node, token) for node in others]
    return sorted(reports, key=lambda report: (report.view is None, not _is_primary(report), report.url))


def _read_node(node: KnownNode, token: str | None) -> NodeReport:
    url = node.url.rstrip("/")
    try:
        with Client(url, token=token, timeout_s=NODE_TIMEOUT_S) as client:
            return NodeReport(url=url, view=read_view(client))
    except PandoError as error:
        return NodeReport(url=url, view=None, error=error.message)


def _is_primary(report: NodeReport) -> bool:
    return report.view is not None and report.view.role == Role.PRIMARY


def complaints(reports: list[NodeReport]) -> list[str]:
    """Say what is not as it should be; empty when all is well."""
    found: list[str] = []
    if not any(_is_primary(report) for report in reports):
        found.append("no primary can be reached: writes fail until it is back")
    primaries = {report.view.node for report in reports if report.view and _is_primary(report)}
    for report in reports:
        found += _node_complaints(report, primaries)
    return found


def _node_complaints(report: NodeReport, primaries: set[str]) -> list[str]:
    view = report.view
    if view is None:
        return [f"{report.url}: {report.error}"]
    found: list[str] = []
    if not view.ready:
        found.append(f"{report.url} is not ready: {view.reason or 'still starting'}")
    if view.role == Role.REPLICA and not view.upstream_connected:
        found.append(f"{report.url} has no connection to the primary {view.primary_url}")
    for database in view.databases:
        if database.state not in HEALTHY_STATES:
            found.append(f"{report.url} database {database.name} is {database.state}: {database.reason}")
    for replica in view.replicas:  # one that has become the primary since follows nobody
        if not replica.connected and replica.node not in primaries:
            found.append(f"replica {replica.node} is not connected")
    return found
