import pytest
from replication_kit import SMALL, entry_after, filled_log, follow, of, only, position, sent, subscribe

from pando import limits
from pando.errors import InvariantError
from pando.replication import actions as act
from pando.replication.messages import (
    Applied,
    CaughtUp,
    DatabaseDropped,
    DatabaseList,
    Entries,
    Have,
    Heartbeat,
    Refuse,
    RefuseCode,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    SnapshotHave,
)
from pando.replication.sender import Sender
from pando.replication.stream_state import Mode
from pando.replication.windows import DEFAULT_WINDOWS
from pando.testing.sim_log import ToyLog
from pando.types import NO_POSITION


class Upstream:
    """A sender over toy logs whose reads are answered at once, unless `answers` is off."""

    def __init__(self, logs, *, windows=DEFAULT_WINDOWS, epoch=1, answers=True, **options):
        self.logs = logs
        self.answers = answers
        heads = {name: log.durable for name, log in logs.items()}
        self.machine = Sender(epoch=epoch, heads=heads, now=0.0, windows=windows, **options)

    def do(self, actions):
        """Check, and answer ReadLog as a shell does; gives all actions, those that the answers caused too."""
        self.machine.check_invariants()
        done = list(actions)
        if self.answers:
            for action in of(actions, act.ReadLog):
                done += self.read(action)
        return done

    def read(self, action):
        log = self.logs[action.database]
        if not log.holds(action.after):
            return self.do(self.machine.log_lacks(action.database, action.stream, log.base))
        entries = log.read(action.after.txid, max_bytes=action.max_bytes)
        return self.do(self.machine.log_read(action.database, action.stream, entries, 0))

    def receive(self, message, now=0.0):
        return self.do(self.machine.receive(message, now))

    def commit(self, database="data", **options):
        log = self.logs[database]
        entry = entry_after(log.last, **options)
        log.append(entry)
        log.sync()
        return entry, self.do(self.machine.log_advanced(database, log.durable, (entry,)))


def live(count=3, **options):
    """An upstream whose replica has everything."""
    upstream = Upstream({"data": filled_log(count)}, **options)
    upstream.receive(subscribe(follow(upstream.logs["data"].durable)))
    assert upstream.machine.mode("data") is Mode.LIVE
    return upstream


def test_replica_at_the_head_is_live_at_once_and_counts_as_having_it():
    log = filled_log(3)
    upstream = Upstream({"data": log}, answers=False)
    actions = upstream.receive(subscribe(follow(log.durable, applied_txid=2)))
    assert [type(m) for m in sent(actions)] == [DatabaseList, CaughtUp]
    assert of(actions, act.ReadLog) == []
    assert only(actions, act.Acknowledged) == act.Acknowledged(database="data", epoch=1, txid=3)
    assert only(actions, act.ReplicaApplied).txid == 2


def test_live_entry_goes_out_in_the_same_transition_without_reading_the_log():
    upstream = live(answers=False)
    before = upstream.logs["data"].durable
    entry, actions = upstream.commit()
    assert actions == [act.Send(sent(actions)[0], "live")]
    assert sent(actions) == [
        Entries(1, "data", 1, before.epoch, before.txid, before.checksum, (entry.data,)),
    ]


def test_replica_behind_gets_entries_after_exactly_its_position():
    log = filled_log(5)
    upstream = Upstream({"data": log}, answers=False)
    at = log.positions()[2]
    read = only(upstream.receive(subscribe(follow(at))), act.ReadLog)
    assert (read.after, read.max_bytes) == (at, limits.SEND_BATCH_BYTES)
    actions = upstream.read(read)
    assert only(actions, act.Acknowledged).txid == 2
    message = sent(actions, Entries)[0]
    assert message.entries == tuple(entry.data for entry in log.entries[2:])
    assert sent(actions, CaughtUp)[0].txid == 5
    assert upstream.machine.mode("data") is Mode.LIVE


LOG = filled_log(6, epoch=2)
LOG.drop_before(2)
OTHER = filled_log(6, epoch=2, mark=b"other")


@pytest.mark.parametrize(
    ("at", "is_divergent"),
    [
        (NO_POSITION, True),  # epoch 0: nothing is known of it; there is nothing to keep either
        (filled_log(1, epoch=2).durable, False),  # before the log's begin, of the same epoch: was on our line
        (filled_log(1, epoch=1).durable, True),  # of an older epoch: who knows
        (OTHER.positions()[4], True),  # within the log, other bytes
        (OTHER.durable, True),  # at the head, other bytes
        (position(2, 9), True),  # ahead of the primary
        (position(1, 9), True),
    ],
)
def test_position_that_the_log_does_not_hold_means_a_snapshot(at, is_divergent):
    upstream = Upstream({"data": LOG}, epoch=2)
    actions = upstream.receive(subscribe(follow(at), epoch=2))
    assert only(actions, act.StartSnapshot).reason
    assert sent(actions, Entries) == []
    assert of(actions, act.Acknowledged) == []
    ready = upstream.machine.snapshot_ready("data", 1, position=LOG.durable, size=0, page_size=512, checksum=1)
    assert sent(ready, SnapshotBegin)[0].is_divergent is is_divergent


def test_base_of_the_log_is_a_position_that_it_holds():
    log = filled_log(4)
    log.drop_before(2)
    upstream = Upstream({"data": log})
    actions = upstream.receive(subscribe(follow(log.base)))
    assert len(sent(actions, Entries)[0].entries) == 2


def test_what_is_not_durable_is_not_sent():
    log = filled_log(3)
    upstream = Upstream({"data": log}, answers=False)
    read = only(upstream.receive(subscribe(follow(log.positions()[1]))), act.ReadLog)
    entries = [*log.entries[1:], entry_after(log.durable)]
    actions = upstream.do(upstream.machine.log_read("data", read.stream, entries))
    assert len(sent(actions, Entries)[0].entries) == 2


def test_snapshot_travels_in_chunks_and_entries_follow_when_it_is_installed():
    log = filled_log(3)
    upstream = Upstream({"data": log}, windows=SMALL)
    started = only(upstream.receive(subscribe(follow(NO_POSITION, fresh=True, reason="why"))), act.StartSnapshot)
    assert started.reason == "why"
    at = log.durable
    actions = upstream.do(upstream.machine.snapshot_ready("data", 1, position=at, size=150, page_size=512, checksum=7))
    assert sent(actions)[0].txid == 3
    read = only(actions, act.ReadSnapshot)
    assert (read.offset, read.max_bytes) == (0, 100)
    _, nothing = upstream.commit()
    assert nothing == []
    actions = upstream.do(upstream.machine.snapshot_read("data", 1, 0, b"a" * 100))
    assert only(actions, act.ReadSnapshot).max_bytes == 50
    actions = upstream.do(upstream.machine.snapshot_read("data", 1, 100, b"b" * 50))
    assert [type(m) for m in sent(actions)] == [SnapshotChunk, SnapshotEnd]
    assert only(actions, act.EndSnapshot).reason == "sent"
    assert upstream.machine.mode("data") is Mode.SNAP_INSTALL
    actions = upstream.receive(Have("data", 1, at.epoch, at.txid))
    assert only(actions, act.Acknowledged).txid == 3
    assert [type(m) for m in sent(actions)] == [Entries, CaughtUp]
    assert upstream.machine.mode("data") is Mode.LIVE


def test_windows_bound_what_is_in_flight_and_acknowledgements_open_them():
    log = filled_log(40, size=100)
    upstream = Upstream({"data": log}, windows=SMALL)
    actions = upstream.receive(subscribe(follow(NO_POSITION)))
    assert 400 < upstream.machine.in_flight_bytes <= 800
    last = sent(actions, Entries)[-1]
    got = last.after_txid + len(last.entries)
    while got < 40:
        actions = upstream.receive(Have("data", 1, 1, got))
        batches = sent(actions, Entries)
        assert batches and batches[0].after_txid == got
        got = batches[-1].after_txid + len(batches[-1].entries)
        assert upstream.machine.in_flight_bytes <= 800
    upstream.receive(Have("data", 1, 1, 40))
    assert upstream.machine.in_flight_bytes == 0


def test_slow_replica_grows_nothing_and_goes_back_to_reading_the_log():
    upstream = live(windows=SMALL)
    for _ in range(100):
        upstream.commit(payload=b"y" * 200)
    assert upstream.machine.mode("data") is Mode.LOG
    assert upstream.machine.in_flight_bytes <= 800
    received = 3
    while received < 103:
        actions = upstream.receive(Have("data", 1, 1, received + 1))
        received += 1
    assert upstream.machine.mode("data") is Mode.LIVE
    _, actions = upstream.commit()
    assert len(sent(actions, Entries)) == 1


def test_databases_that_catch_up_take_turns():
    logs = {name: filled_log(30, size=100, mark=name.encode()) for name in ("a", "b", "c")}
    upstream = Upstream(logs, windows=SMALL, answers=False)
    follows = [follow(NO_POSITION, database=name, stream=i) for i, name in enumerate(logs, 1)]
    waiting = of(upstream.receive(subscribe(*follows)), act.ReadLog)
    order = []
    while waiting and len(order) < 30:
        read = waiting.pop(0)
        order.append(read.database)
        actions = upstream.read(read)
        waiting += of(actions, act.ReadLog)
        for message in sent(actions, Entries):
            actions = upstream.receive(
                Have(message.database, message.stream, 1, message.after_txid + len(message.entries))
            )
            waiting += of(actions, act.ReadLog)
    for start in range(0, 27, 3):
        assert sorted(order[start : start + 3]) == ["a", "b", "c"]


def test_live_entries_of_one_database_pass_a_snapshot_of_another():
    log, other = filled_log(3), filled_log(3)
    upstream = Upstream({"data": log, "other": other}, windows=SMALL)
    upstream.receive(subscribe(follow(log.durable), follow(position(1, 2, 5), database="other", stream=2)))
    upstream.do(
        upstream.machine.snapshot_ready("other", 2, position=other.durable, size=10_000, page_size=512, checksum=1)
    )
    _, actions = upstream.commit("data")
    assert [m.database for m in sent(actions, Entries)] == ["data"]
    upstream.do(upstream.machine.snapshot_read("other", 2, 0, b"z" * 100))
    _, actions = upstream.commit("data")
    assert [m.database for m in sent(actions, Entries)] == ["data"]


def test_only_so_many_snapshots_at_once():
    logs = {name: filled_log(2, mark=name.encode()) for name in ("a", "b")}
    upstream = Upstream(logs, windows=SMALL)
    follows = [follow(position(1, 1, 9), database=name, stream=i) for i, name in enumerate(logs, 1)]
    assert only(upstream.receive(subscribe(*follows)), act.StartSnapshot).database == "a"
    at = logs["a"].durable
    upstream.do(upstream.machine.snapshot_ready("a", 1, position=at, size=0, page_size=512, checksum=1))
    actions = upstream.receive(Have("a", 1, at.epoch, at.txid))
    assert only(actions, act.StartSnapshot).database == "b"


def test_snapshot_that_cannot_be_made_is_tried_again_after_a_heartbeat():
    upstream = Upstream({"data": filled_log(2)})
    upstream.receive(subscribe(follow(position(1, 1, 9))))
    assert upstream.do(upstream.machine.snapshot_failed("data", 1, "disk")) == []
    actions = upstream.do(upstream.machine.tick(limits.HEARTBEAT_S, 0))
    assert "disk" in only(actions, act.StartSnapshot).reason


def test_entry_too_long_for_a_frame_becomes_a_snapshot():
    upstream = live(windows=SMALL)
    _, actions = upstream.commit(payload=b"z" * 600)
    assert "frame" in only(actions, act.StartSnapshot).reason
    assert sent(actions) == []


def test_new_history_means_a_snapshot():
    upstream = live()
    base = position(2, 4, 77)
    upstream.logs["data"].reset(base)
    upstream.do(upstream.machine.epoch_changed(2))
    actions = upstream.do(upstream.machine.log_advanced("data", base))
    assert only(actions, act.StartSnapshot)


def test_replica_asks_anew_and_what_belonged_to_the_old_stream_is_ignored():
    upstream = live()
    upstream.commit()
    at = upstream.logs["data"].positions()[2]
    actions = upstream.receive(follow(at, stream=2, reason="gap"))
    assert only(actions, act.Disowned).database == "data"
    assert upstream.receive(Have("data", 1, 1, 4)) == []
    assert upstream.receive(Applied("data", 1, 4)) == []
    assert upstream.receive(follow(at, stream=1)) == []
    assert upstream.receive(follow(at, stream=2)) == []
    assert only(upstream.receive(Have("data", 2, 1, 4)), act.Acknowledged).txid == 4


def test_answers_to_an_old_stream_are_ignored():
    log = filled_log(5)
    upstream = Upstream({"data": log}, answers=False)
    upstream.receive(subscribe(follow(log.positions()[1])))
    upstream.receive(follow(log.positions()[2], stream=2))
    assert upstream.do(upstream.machine.log_read("data", 1, log.entries[1:])) == []
    assert upstream.do(upstream.machine.log_lacks("data", 1, log.base)) == []
    assert only(
        upstream.machine.snapshot_ready("data", 1, position=log.base, size=1, page_size=1, checksum=1), act.EndSnapshot
    )


def test_answer_that_was_never_asked_for_is_a_bug_of_the_shell():
    upstream = live()
    with pytest.raises(InvariantError):
        upstream.machine.log_read("data", 1, ())
    with pytest.raises(InvariantError):
        upstream.machine.snapshot_read("data", 1, 0, b"x")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Have("data", 1, 1, 4), RefuseCode.PROTOCOL),
        (subscribe(), RefuseCode.PROTOCOL),
    ],
)
def test_what_cannot_be_is_refused(message, code):
    upstream = live()
    actions = upstream.receive(message)
    assert sent(actions, Refuse)[0].code == code
    assert isinstance(actions[-1], act.Close)
    assert upstream.machine.is_closed
    assert upstream.receive(Heartbeat(1, 0)) == []


def test_first_message_must_be_subscribe_of_our_version():
    actions = Upstream({}).receive(Have("data", 1, 1, 1))
    assert sent(actions, Refuse)[0].code == RefuseCode.PROTOCOL
    stranger = subscribe()
    stranger = type(stranger)("r", "", True, 99, 1)
    actions = Upstream({}).receive(stranger)
    assert sent(actions, Refuse)[0].code == RefuseCode.VERSION


@pytest.mark.parametrize(
    "message", [subscribe(epoch=2), Heartbeat(2, 0), Refuse("STALE_EPOCH", "", 2), follow(position(2, 9), stream=5)]
)
def test_whoever_knows_a_newer_epoch_makes_us_stale(message):
    upstream = Upstream({"data": filled_log(1)})
    if not isinstance(message, type(subscribe())):
        upstream.receive(subscribe())
    actions = upstream.receive(message)
    assert only(actions, act.Stale).epoch == 2
    assert sent(actions, Refuse)[0].code == RefuseCode.STALE_EPOCH
    assert isinstance(actions[-1], act.Close)


def test_replica_ahead_of_an_upstream_that_is_itself_a_replica_waits_for_it():
    long, short = filled_log(5), filled_log(3)
    upstream = Upstream({"data": short}, is_primary=False)
    actions = upstream.receive(subscribe(follow(long.durable)))
    assert upstream.machine.mode("data") is Mode.AHEAD
    assert of(actions, act.StartSnapshot) == []
    for number in range(3, 5):
        short.append(long.entries[number])
        short.sync()
        actions = upstream.do(upstream.machine.log_advanced("data", short.durable, (long.entries[number],)))
    assert only(actions, act.Acknowledged).txid == 5
    assert upstream.machine.mode("data") is Mode.LIVE


def test_until_head_ends_with_caught_up_and_then_says_nothing_more():
    log = filled_log(3)
    upstream = Upstream({"data": log})
    actions = upstream.receive(subscribe(follow(log.positions()[1]), until_head=True))
    assert [type(m) for m in sent(actions)] == [DatabaseList, Entries, CaughtUp]
    assert upstream.machine.mode("data") is Mode.DONE
    _, actions = upstream.commit()
    assert actions == []


def test_omitted_databases_are_neither_listed_nor_sent():
    log = filled_log(2)
    upstream = Upstream({"data": log, "big": filled_log(2)})
    actions = upstream.receive(subscribe(follow(log.durable), omit=("big",)))
    assert sent(actions, DatabaseList)[0].names == ("data",)
    assert upstream.receive(follow(NO_POSITION, database="big", stream=9)) == []
    assert upstream.commit("big")[1] == []
    assert upstream.do(upstream.machine.database_dropped("big")) == []


def test_new_and_dropped_databases_are_told():
    upstream = live()
    log = upstream.logs["new"] = ToyLog()
    actions = upstream.do(upstream.machine.log_advanced("new", log.durable))
    assert sent(actions) == [DatabaseList(1, ("new",))]
    upstream.receive(follow(NO_POSITION, database="new", stream=2))
    assert len(sent(upstream.commit("new")[1], Entries)) == 1
    assert sent(upstream.do(upstream.machine.database_dropped("new"))) == [DatabaseDropped(1, "new")]
    assert upstream.receive(Have("new", 2, 1, 1)) == []


def test_database_that_was_asked_for_before_it_exists_is_sent_when_it_does():
    upstream = Upstream({}, is_primary=False, knows_all=False)
    actions = upstream.receive(subscribe(follow(NO_POSITION)))
    assert sent(actions) == [DatabaseList(1, (), False)]
    log = upstream.logs["data"] = filled_log(2)
    actions = upstream.do(upstream.machine.log_advanced("data", log.durable, log.entries))
    assert len(sent(actions, Entries)[0].entries) == 2
    assert sent(upstream.do(upstream.machine.list_completed())) == [DatabaseList(1, ("data",), True)]


def test_heartbeat_tells_heads_that_changed_and_silence_ends_the_link():
    upstream = live()
    assert upstream.machine.next_deadline == limits.HEARTBEAT_S
    upstream.commit()
    actions = upstream.do(upstream.machine.tick(1.0, 123))
    beat = sent(actions, Heartbeat)[0]
    assert (beat.wall_ms, [(h.database, h.txid, h.sent_txid, h.stream) for h in beat.heads]) == (
        123,
        [("data", 4, 4, 1)],
    )
    assert sent(upstream.do(upstream.machine.tick(2.0, 0)), Heartbeat)[0].heads == ()
    actions = upstream.do(upstream.machine.tick(limits.LINK_SILENCE_S, 0))
    assert "silent" in only(actions, act.Close).reason


def test_end_of_the_link_gives_snapshots_back():
    upstream = Upstream({"data": filled_log(2)})
    upstream.receive(subscribe(follow(position(1, 1, 9))))
    assert only(upstream.do(upstream.machine.close()), act.EndSnapshot).database == "data"
    assert upstream.machine.in_flight_bytes == 0
    assert upstream.do(upstream.machine.close()) == []


def test_retention_is_told_what_the_replica_still_needs():
    upstream = live()
    assert upstream.machine.hold("data") == 3
    upstream.commit()
    assert upstream.machine.hold("data") == 3
    upstream.receive(Have("data", 1, 1, 4))
    assert upstream.machine.hold("data") == 4
    assert upstream.machine.hold("unknown") is None
    assert upstream.machine.progress() == {"data": (4, 0)}


def test_snapshot_bytes_are_acknowledged_by_offset():
    log = filled_log(2)
    upstream = Upstream({"data": log}, windows=SMALL)
    upstream.receive(subscribe(follow(position(1, 1, 9))))
    actions = upstream.machine.snapshot_ready("data", 1, position=log.durable, size=5000, page_size=1, checksum=1)
    while reads := of(upstream.do(actions), act.ReadSnapshot):
        actions = upstream.machine.snapshot_read("data", 1, reads[0].offset, b"x" * 100)
    assert upstream.machine.in_flight_bytes == 800
    actions = upstream.receive(SnapshotHave("data", 1, 100))
    assert only(actions, act.ReadSnapshot).offset == 800
    actions = upstream.receive(SnapshotHave("data", 1, 900))
    assert sent(actions, Refuse)
