"""GET /metrics: what the node says of itself, in Prometheus' text form. Gauges are made anew for each scrape."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from pando.store.protocol import NodeStatus

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()
_DATABASE_GAUGES = {
    "txid": ("pando_database_txid", "Number of the newest commit that readers see."),
    "lag_txids": ("pando_database_lag_txids", "Commits behind the newest one that the node has heard of."),
    "lag_bytes": ("pando_database_lag_bytes", "Log bytes behind."),
    "lag_s": ("pando_database_lag_seconds", "Age of the oldest missing commit, or how long the upstream is silent."),
    "size_bytes": ("pando_database_size_bytes", "Size of the SQLite file."),
    "wal_size_bytes": ("pando_database_wal_size_bytes", "Size of the WAL file."),
    "log_size_bytes": ("pando_database_log_size_bytes", "Size of the retained log."),
}
_REPLICA_GAUGES = {
    "lag_txids": ("pando_replica_lag_txids", "Commits that a replica has not applied yet."),
    "lag_bytes": ("pando_replica_lag_bytes", "Log bytes that a replica does not have yet."),
    "lag_s": ("pando_replica_lag_seconds", "Age of the oldest commit that a replica has not applied."),
    "connected": ("pando_replica_connected", "1 if the replica is connected."),
}


class _Collector:
    def __init__(self, facts: dict[str, float], status: NodeStatus | None) -> None:
        self._facts = facts
        self._status = status

    def collect(self) -> Iterator[Metric]:
        for name, value in self._facts.items():
            yield GaugeMetricFamily(name, name.replace("_", " "), value)
        if self._status is None:
            return
        yield from _gauges(_DATABASE_GAUGES, ("database",), [((one.name,), one) for one in self._status.databases])
        yield from _gauges(_REPLICA_GAUGES, ("node",), [((one.node,), one) for one in self._status.replicas])


def _gauges(
    gauges: dict[str, tuple[str, str]], labels: tuple[str, ...], rows: list[tuple[tuple[str, ...], object]]
) -> Iterator[Metric]:
    for field, (name, help_text) in gauges.items():
        family = GaugeMetricFamily(name, help_text, labels=labels)
        for values, row in rows:
            family.add_metric(values, float(getattr(row, field)))
        yield family


def render_metrics(*, is_ready: bool, is_primary: bool, connections: int, status: NodeStatus | None) -> bytes:
    """Give the text. `connections` are those of the web process that answers; `status` None: the store is away."""
    facts = {
        "pando_ready": float(is_ready),
        "pando_primary": float(is_primary),
        "pando_web_connections": float(connections),
    }
    if status is not None:
        facts["pando_epoch"] = float(status.epoch)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(facts, status))
    return generate_latest(registry)
