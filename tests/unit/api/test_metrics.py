from pando.api.metrics import render_metrics
from pando.store.protocol import DatabaseStatus, NodeStatus, ReplicaStatus


def lines(**options):
    return render_metrics(is_ready=True, is_primary=True, connections=3, **options).decode().splitlines()


def test_gauges_carry_databases_and_replicas_as_labels():
    status = NodeStatus(
        id=1,
        node="n1",
        role="primary",
        epoch=4,
        primary_url="",
        upstream_connected=False,
        databases=[DatabaseStatus(name="data", txid=9, lag_s=0.25), DatabaseStatus(name="shop", txid=2)],
        replicas=[ReplicaStatus(node="n2", connected=True, lag_txids=5)],
    )
    found = lines(status=status)
    for line in (
        "pando_ready 1.0",
        "pando_epoch 4.0",
        'pando_database_txid{database="data"} 9.0',
        'pando_database_txid{database="shop"} 2.0',
        'pando_database_lag_seconds{database="data"} 0.25',
        'pando_replica_connected{node="n2"} 1.0',
        'pando_replica_lag_txids{node="n2"} 5.0',
    ):
        assert line in found


def test_without_a_store_there_are_the_gauges_of_the_process():
    found = [line for line in lines(status=None) if not line.startswith("#")]
    assert found == ["pando_ready 1.0", "pando_primary 1.0", "pando_web_connections 3.0"]
