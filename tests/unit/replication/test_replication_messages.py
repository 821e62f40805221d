import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.replication import messages as m

natural = st.integers(0, 2**64 - 1)
name = st.text(st.characters(codec="utf-8"), min_size=1, max_size=m.NAME_LENGTH_MAX)
text = st.text(st.characters(codec="utf-8"), max_size=50)


def build(kind, **special):
    """Any message of a type."""
    by_field = {"database": name, "node": name, "reason": text, "url": text, "code": text, "message": text, **special}
    by_type = {"bool": st.booleans(), "bytes": st.binary(max_size=100), "int": st.integers(-(2**63), 2**63)}
    fields = {
        field.name: by_field.get(field.name, by_type.get(getattr(field.type, "__name__", ""), natural))
        for field in msgspec.structs.fields(kind)
    }
    return st.builds(kind, **fields)


follow = build(m.Follow)
REPLICA = st.one_of(
    follow,
    build(m.Subscribe, omit=st.lists(name).map(tuple), follows=st.lists(follow, max_size=3).map(tuple)),
    *(build(kind) for kind in (m.Have, m.Applied, m.SnapshotHave, m.Refuse)),
    build(m.Heartbeat, heads=st.just(())),
)
UPSTREAM = st.one_of(
    build(m.DatabaseList, names=st.lists(name).map(tuple)),
    build(m.Entries, entries=st.lists(st.binary(max_size=100)).map(tuple)),
    *(build(k) for k in (m.DatabaseDropped, m.SnapshotBegin, m.SnapshotChunk, m.SnapshotEnd, m.CaughtUp, m.Refuse)),
    build(m.Heartbeat, heads=st.lists(build(m.Head), max_size=3).map(tuple)),
)


@given(st.lists(REPLICA))
def test_replica_messages_survive_the_wire(messages):
    data = msgspec.msgpack.encode(messages)
    assert msgspec.msgpack.decode(data, type=list[m.ReplicaMessage]) == messages


@given(st.lists(UPSTREAM))
def test_upstream_messages_survive_the_wire(messages):
    data = msgspec.msgpack.encode(messages)
    assert msgspec.msgpack.decode(data, type=list[m.UpstreamMessage]) == messages


def test_tags_are_numbers_from_201_and_each_is_used_once():
    kinds = {*m.ReplicaMessage.__args__, *m.UpstreamMessage.__args__}
    tags = sorted(kind.__struct_config__.tag for kind in kinds)
    assert len(tags) == len(set(tags)) == len(kinds)
    assert tags[0] == 201
    assert tags[-1] < 300


@pytest.mark.parametrize(
    "raw",
    [
        [203, "", 1, 1, 1],
        [203, "x" * 129, 1, 1, 1],
        [203, "data", -1, 1, 1],
        [203, "data", 1, 1],
        [203, "data", 1, 1, "1"],
        [204, "data", 1, 1.5],
        [299, "data"],
        [213, 1, "data", 1, 1, 1, 1, [b"a"]],
    ],
)
def test_replica_messages_that_break_a_rule_are_not_decoded(raw):
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode([raw]), type=list[m.ReplicaMessage])


def test_fields_added_later_are_ignored_and_missing_ones_have_defaults():
    old = msgspec.msgpack.encode([[202, "data", 1, 1, 1, 1]])
    assert msgspec.msgpack.decode(old, type=list[m.ReplicaMessage])[0].fresh is False
    new = msgspec.msgpack.encode([[203, "data", 1, 1, 1, "more"]])
    assert msgspec.msgpack.decode(new, type=list[m.ReplicaMessage]) == [m.Have("data", 1, 1, 1)]
