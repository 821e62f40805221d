"""Event streams with real processes: what is written at the primary is heard at every web process of every node."""

import json
import os
import signal
from contextlib import ExitStack
from urllib.parse import quote

import pytest
from cluster_kit import wait_until
from records_cluster_kit import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TITLE = {"name": "title", "type": "text"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("realtime"))
    try:
        made.start()
        made.collection("posts", TITLE)
        made.collection("mine", TITLE, {"name": "owner", "type": "text"}, listRule="owner = @request.query.who")
        wait_until(lambda: made.replica.ask("GET", "collections/mine/records").status == 200, 10, "the collections")
        yield made
    finally:
        made.stop()


def subscribe(stream, *texts, node=None, token="", status=204):
    body = {"clientId": stream.client_id(), "subscriptions": texts}
    (node or stream.node).json("POST", "realtime", body, token=token, status=status)


def with_options(topic, **query):
    return f"{topic}?options={quote(json.dumps({'query': query}))}"


def write_and_change(node, collection, title, **values):
    """Create, change and delete a record; gives what a subscriber hears of it."""
    path = f"collections/{collection}/records"
    made = node.json("POST", path, {"title": title, **values})
    node.json("PATCH", f"{path}/{made['id']}", {"title": f"{title}!"})
    node.json("DELETE", f"{path}/{made['id']}", status=204)
    return [("create", title), ("update", f"{title}!"), ("delete", f"{title}!")]


def test_all_nodes_hear_of_every_change_in_order(cluster):
    with ExitStack() as stack:
        streams = [stack.enter_context(node.stream()) for node in cluster.nodes for _ in range(4)]
        assert streams[0].headers["content-type"] == "text/event-stream"
        assert streams[0].headers["cache-control"] == "no-store"
        assert streams[0].headers["x-accel-buffering"] == "no"
        for stream in streams:
            subscribe(stream, "posts/*")
        told = []
        for number in range(10):
            told += write_and_change(cluster.nodes[number % 2], "posts", f"post {number}")
        for stream in streams:
            assert [stream.change("posts/*") for _ in told] == told


def test_a_subscription_may_come_to_any_web_process_of_any_node(cluster):
    with ExitStack() as stack:
        streams = [stack.enter_context(node.stream()) for node in cluster.nodes for _ in range(6)]
        for number, stream in enumerate(streams):
            subscribe(stream, "posts/*", node=cluster.nodes[number % 2])
        told = write_and_change(cluster.primary, "posts", "from anywhere")
        for stream in streams:
            assert [stream.change() for _ in told] == told


def test_rules_and_filters_judge_the_row_of_the_change(cluster):
    topic = with_options("mine/*", who="ann", filter="title != 'hidden'")
    with cluster.replica.stream() as stream:
        subscribe(stream, topic)
        write_and_change(cluster.primary, "mine", "not for ann", owner="bob")
        write_and_change(cluster.primary, "mine", "hidden", owner="ann")
        told = write_and_change(cluster.primary, "mine", "for ann", owner="ann")
        # Of the second record she hears only what was true of it after its title had changed.
        assert [stream.change(topic) for _ in range(5)] == [("update", "hidden!"), ("delete", "hidden!"), *told]


def test_who_subscribes_to_a_dead_process_is_told_and_may_come_back(cluster):
    with cluster.replica.stream() as stream:
        client_id = stream.client_id()
        killed = [cluster.replica.pid_of(f"web-{index}") for index in range(2)]
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        assert stream.lines() == []
        wait_until(cluster.replica.is_ready, 20, cluster.replica.logs)
        body = {"clientId": client_id, "subscriptions": ["posts/*"]}
        for node in cluster.nodes:
            node.json("POST", "realtime", body, status=404)
    with cluster.replica.stream() as stream:
        subscribe(stream, "posts/*")
        told = write_and_change(cluster.primary, "posts", "after it")
        assert [stream.change() for _ in told] == told


def test_a_stream_with_places_goes_on_at_another_node_where_it_ended(cluster):
    with cluster.replica.stream("realtime?places=true") as stream:
        subscribe(stream, "posts/*")
        told = write_and_change(cluster.primary, "posts", "seen")
        assert [stream.change() for _ in told] == told
        last_id = stream.last_id
    missed = write_and_change(cluster.primary, "posts", "missed")
    for node in cluster.nodes:
        with node.stream(headers={"Last-Event-ID": last_id}) as again:
            subscribe(again, "posts/*")
            assert [again.change() for _ in missed] == missed
