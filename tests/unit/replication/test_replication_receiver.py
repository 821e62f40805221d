import random

import pytest
from replication_kit import entry_after, filled_log, of, only, position, sent

from pando import limits
from pando.errors import InvariantError
from pando.replication import actions as act
from pando.replication.following_state import LocalLog, Phase
from pando.replication.messages import (
    Applied,
    CaughtUp,
    DatabaseDropped,
    DatabaseList,
    Entries,
    Follow,
    Have,
    Head,
    Heartbeat,
    Refuse,
    RefuseCode,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    SnapshotHave,
    Subscribe,
    position_fields,
)
from pando.replication.receiver import Receiver
from pando.testing.sim_log import describe_toy
from pando.types import NO_POSITION, TXID

LOG = filled_log(6)


def entries(after, *found, stream=1, epoch=1, database="data"):
    """The message that carries these entries."""
    return Entries(epoch, database, stream, *position_fields(after), tuple(entry.data for entry in found))


class Replica:
    """A receiver whose log is at an entry of LOG; every transition is checked."""

    def __init__(self, held=3, *, applied=None, distrust="", link=True, listed=("data",), epoch=1, **options):
        at = LOG.positions()[held]
        logs = (
            {"data": LocalLog(durable=at, applied=TXID(held if applied is None else applied), distrust=distrust)}
            if held
            else {}
        )
        self.machine = Receiver(
            node="r1",
            url="http://r1",
            is_voter=True,
            epoch=epoch,
            logs=logs,
            describe=describe_toy,
            random=random.Random(1),
            **options,
        )
        self.started = self.do(self.machine.start(0.0))
        self.subscribed = self.do(self.machine.link_up(0.0)) if link else []
        self.listed = self.receive(DatabaseList(epoch, listed, True)) if link else []

    def do(self, actions):
        self.machine.check_invariants()
        return actions

    def receive(self, message, now=0.0):
        return self.do(self.machine.receive(message, now))

    def append(self, *numbers, now=0.0):
        """Take entries of LOG (by TXID), fsync at once; gives the actions of the fsync."""
        for number in numbers:
            self.receive(entries(LOG.positions()[number - 1], LOG.entries[number - 1], stream=self.stream), now)
        return self.do(self.machine.appended("data", LOG.positions()[numbers[-1]], now))

    @property
    def state(self):
        return self.machine.databases["data"]

    @property
    def stream(self):
        return self.state.stream


def test_subscribes_with_the_durable_position_of_every_database():
    replica = Replica(3, applied=2, omit=["big"])
    message = sent(replica.subscribed, Subscribe)[0]
    at = LOG.positions()[3]
    assert message.follows == (Follow("data", 1, at.epoch, at.txid, at.checksum, 2),)
    assert (message.omit, message.until_head, message.sender_epoch) == (("big",), False, 1)
    assert replica.started == [
        act.ApplyTo(database="data", txid=3),
        act.Reconnect(after_s=0.0, reason="start"),
    ]


def test_entry_that_follows_is_appended_then_fsynced_then_acknowledged_and_applied():
    replica = Replica(3)
    actions = replica.receive(entries(LOG.positions()[3], LOG.entries[3]))
    assert actions == [act.AppendEntries(database="data", entries=(LOG.entries[3],))]
    actions = replica.do(replica.machine.appended("data", LOG.positions()[4], 0.0))
    assert actions == [act.Send(Have("data", 1, 1, 4), "fsynced"), act.ApplyTo(database="data", txid=4)]
    actions = replica.do(replica.machine.applied("data", 4))
    assert sent(actions) == [Applied("data", 1, 4)]
    assert replica.do(replica.machine.applied("data", 3)) == []


def test_several_batches_may_be_fsynced_at_once():
    replica = Replica(3)
    actions = replica.append(4, 5, 6)
    assert sent(actions) == [Have("data", 1, 1, 6)]
    assert replica.state.pending.is_empty


OTHER = filled_log(6, mark=b"other")
NEWER = filled_log(6, epoch=1)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (entries(LOG.positions()[4], LOG.entries[4]), "gap"),
        (entries(OTHER.positions()[3], OTHER.entries[3]), "another commit"),
        (entries(position(0, 3, LOG.positions()[3].checksum), LOG.entries[3]), "another commit"),
        (CaughtUp(1, "data", 1, 1, 4, 0), "gap"),
        (Heartbeat(1, 0, (Head("data", 1, 5, 1, 5),)), "gap"),
        (SnapshotChunk(1, "data", 1, 0, b"x"), "gap"),
        (SnapshotEnd(1, "data", 1, 5, 5), "gap"),
    ],
)
def test_gap_or_other_history_makes_it_ask_again_from_its_durable_end(message, why):
    replica = Replica(3)
    assert of(replica.receive(message), act.AppendEntries) == []
    assert replica.state.phase is Phase.IDLE
    assert why in replica.state.reason
    due = replica.machine.next_deadline
    assert 0.0 < due <= limits.RECONNECT_S_MIN
    asked = sent(replica.do(replica.machine.tick(due, 0)), Follow)[0]
    assert (asked.stream, asked.txid, asked.fresh) == (2, 3, False)
    assert replica.receive(entries(LOG.positions()[3], LOG.entries[3], stream=1)) == []
    assert of(replica.receive(entries(LOG.positions()[3], LOG.entries[3], stream=2)), act.AppendEntries)


@pytest.mark.parametrize(
    "message",
    [
        entries(LOG.positions()[2], LOG.entries[2]),
        entries(LOG.positions()[3], LOG.entries[3], stream=7),
        entries(LOG.positions()[3], LOG.entries[3], database="unknown"),
        Heartbeat(1, 0, (Head("unknown", 1, 5, 1, 5), Head("data", 1, 5, 9, 5))),
    ],
)
def test_duplicates_and_what_is_not_meant_for_the_stream_are_ignored(message):
    replica = Replica(3)
    assert replica.receive(message) == []
    assert replica.state.phase is Phase.FOLLOWING


def test_question_waits_until_nothing_is_being_appended():
    replica = Replica(3)
    replica.receive(entries(LOG.positions()[3], LOG.entries[3]))
    replica.receive(entries(LOG.positions()[5], LOG.entries[5]))
    assert sent(replica.do(replica.machine.tick(1.0, 0)), Follow) == []
    actions = replica.do(replica.machine.appended("data", LOG.positions()[4], 1.5))
    assert sent(actions, Have) == []
    assert only(actions, act.ApplyTo).txid == 4
    assert sent(actions, Follow)[0].txid == 4


def broken(entry):
    return entry.data[:-1] + bytes([entry.data[-1] ^ 1])


@pytest.mark.parametrize(
    "data",
    [
        (broken(LOG.entries[3]),),
        (LOG.entries[3].data[:40],),
        (b"",),
        (LOG.entries[3].data, LOG.entries[5].data),
        (OTHER.entries[3].data,),
        (entry_after(LOG.positions()[3], epoch=2).data,),
    ],
)
def test_entries_that_cannot_be_right_end_the_link(data):
    replica = Replica(3)
    actions = replica.receive(Entries(1, "data", 1, *position_fields(LOG.positions()[3]), data))
    assert sent(actions, Refuse)[0].code == RefuseCode.CORRUPT
    assert only(actions, act.Reconnect)
    assert of(actions, act.AppendEntries) == []
    assert replica.state.tail == LOG.positions()[3]


def test_upstream_that_overruns_the_window_is_refused():
    replica = Replica(3)
    at = LOG.positions()[3]
    for _ in range(60):
        entry = entry_after(at, payload=b"z" * limits.MIB)
        actions = replica.receive(entries(at, entry))
        at = entry.position
        if of(actions, act.Reconnect):
            break
    assert sent(actions, Refuse)[0].code == RefuseCode.PROTOCOL


def test_failed_append_is_asked_for_again_from_what_is_durable():
    replica = Replica(3)
    replica.receive(entries(LOG.positions()[3], LOG.entries[3]))
    replica.do(replica.machine.append_failed("data", LOG.positions()[3], "disk full", 0.0))
    assert replica.state.tail == LOG.positions()[3]
    pauses = []
    now = 0.0
    for _ in range(8):
        due = replica.machine.next_deadline
        pauses.append(due - now)
        now = due
        replica.machine.receive(Heartbeat(1, 0), now)
        actions = replica.do(replica.machine.tick(now, 0))
        if sent(actions, Follow):
            replica.receive(entries(LOG.positions()[3], LOG.entries[3], stream=replica.stream), now)
            replica.do(replica.machine.append_failed("data", LOG.positions()[3], "disk full", now))
    assert replica.state.follow_at - now > 4 * pauses[0]


def test_older_epoch_ends_the_link_and_newer_is_adopted_first():
    replica = Replica(3, epoch=5)
    actions = replica.receive(Heartbeat(4, 0))
    assert sent(actions, Refuse) == [Refuse(RefuseCode.STALE_EPOCH, sent(actions)[0].message, 5)]
    assert only(actions, act.Reconnect)
    replica = Replica(3, epoch=5)
    after = LOG.positions()[3]
    actions = replica.receive(entries(after, entry_after(after, epoch=6), epoch=6))
    assert [type(a) for a in actions] == [act.AdoptEpoch, act.AppendEntries]
    assert replica.machine.epoch == 6
    actions = replica.receive(Refuse(RefuseCode.STALE_EPOCH, "", 9))
    assert [type(a) for a in actions] == [act.AdoptEpoch, act.Reconnect]


def test_nothing_is_taken_before_the_list_of_databases():
    replica = Replica(3, link=False)
    replica.machine.link_up(0.0)
    actions = replica.receive(entries(LOG.positions()[3], LOG.entries[3]))
    assert sent(actions, Refuse)[0].code == RefuseCode.PROTOCOL


def test_new_databases_are_followed_from_nothing_and_unlisted_ones_dropped():
    replica = Replica(3, listed=("other",))
    assert only(replica.listed, act.DropDatabase).database == "data"
    asked = sent(replica.listed, Follow)[0]
    assert (asked.database, asked.epoch, asked.txid, asked.checksum) == ("other", *position_fields(NO_POSITION))
    assert replica.receive(DatabaseList(1, ("more",), False)) != []
    assert set(replica.machine.databases) == {"other", "more"}
    assert only(replica.receive(DatabaseDropped(1, "more")), act.DropDatabase).database == "more"


def test_complete_list_that_was_overtaken_drops_nothing_that_was_named_since():
    replica = Replica(3, listed=("data",))
    replica.receive(DatabaseList(1, ("new",), False))
    assert of(replica.receive(DatabaseList(1, (), True)), act.DropDatabase) == []


def test_incomplete_list_drops_nothing():
    replica = Replica(3, link=False)
    replica.machine.link_up(0.0)
    assert replica.receive(DatabaseList(1, (), False)) == []
    assert set(replica.machine.databases) == {"data"}
    assert not replica.machine.knows_all


def test_omitted_databases_are_left_alone():
    replica = Replica(0, listed=("data", "big"), omit=["big"])
    assert set(replica.machine.databases) == {"data"}
    assert of(replica.listed, act.DropDatabase) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", ".hidden", "-x", "default", "x" * 129])
def test_name_that_could_leave_the_directory_is_refused(name):
    replica = Replica(0, listed=(name,))
    assert sent(replica.listed, Refuse)[0].code == RefuseCode.CORRUPT
    assert not replica.machine.databases


def begin(at, *, size=10, stream=1, is_divergent=False, reason="because"):
    return SnapshotBegin(at.epoch, "data", stream, *position_fields(at), size, 4096, is_divergent, reason)


def take_snapshot(replica, at, **options):
    """Receive a whole snapshot of ten bytes; gives the InstallSnapshot."""
    stream = replica.stream
    begun = replica.receive(begin(at, stream=stream, **options))
    assert only(begun, act.BeginSnapshot).size == 10
    for offset in (0, 5):
        written = replica.receive(SnapshotChunk(at.epoch, "data", stream, offset, b"12345"))
        assert only(written, act.WriteSnapshot).offset == offset
        have = replica.do(replica.machine.snapshot_written("data", stream, offset + 5))
        assert sent(have) == [SnapshotHave("data", stream, offset + 5)]
    return only(replica.receive(SnapshotEnd(at.epoch, "data", stream, 10, 99)), act.InstallSnapshot)


def test_snapshot_is_written_installed_and_followed_by_entries():
    replica = Replica(3)
    install = take_snapshot(replica, LOG.positions()[5])
    assert (install.position, install.checksum, install.evidence) == (LOG.positions()[5], 99, "")
    actions = replica.do(replica.machine.snapshot_installed("data", 1, 0.0))
    assert sent(actions) == [Have("data", 1, 1, 5), Applied("data", 1, 5)]
    actions = replica.receive(entries(LOG.positions()[5], LOG.entries[5]))
    assert only(actions, act.AppendEntries).entries == (LOG.entries[5],)


@pytest.mark.parametrize(
    ("at", "is_divergent", "has_evidence"),
    [
        (LOG.positions()[5], False, False),
        (LOG.positions()[5], True, True),
        (LOG.positions()[3], False, False),
        (LOG.positions()[2], False, True),
        (OTHER.positions()[3], False, True),
        (position(2, 2), False, True),
        (position(2, 4), False, False),
    ],
)
def test_what_a_snapshot_would_take_away_is_kept_first(at, is_divergent, has_evidence):
    replica = Replica(3)
    assert bool(take_snapshot(replica, at, is_divergent=is_divergent).evidence) is has_evidence


def test_replica_without_data_keeps_no_evidence():
    replica = Replica(0)
    assert take_snapshot(replica, LOG.positions()[5], is_divergent=True).evidence == ""


def test_snapshot_is_given_up_when_the_link_is_lost_but_an_install_goes_on():
    replica = Replica(3)
    replica.receive(begin(LOG.positions()[5]))
    actions = replica.do(replica.machine.link_down(0.0, "cut"))
    assert only(actions, act.DropSnapshot).stream == 1
    replica = Replica(3)
    take_snapshot(replica, LOG.positions()[5])
    actions = replica.do(replica.machine.link_down(0.0, "cut"))
    assert of(actions, act.DropSnapshot) == []
    assert sent(replica.do(replica.machine.link_up(1.0)), Subscribe)[0].follows == ()
    replica.receive(DatabaseList(1, ("data",), True), 1.0)
    actions = replica.do(replica.machine.snapshot_installed("data", 1, 2.0))
    assert sent(actions, Follow)[0].txid == 5


def test_failed_snapshot_is_asked_for_again():
    replica = Replica(3)
    take_snapshot(replica, LOG.positions()[5])
    replica.do(replica.machine.snapshot_failed("data", 1, LOG.positions()[3], "disk", 0.0))
    actions = replica.do(replica.machine.tick(1.0, 0))
    assert sent(actions, Follow)[0].txid == 3


def test_after_a_broken_install_the_file_is_not_trusted_and_there_is_nothing_to_keep():
    """The log has begun anew, an applier that died has left the file at no position of it."""
    replica = Replica(3)
    take_snapshot(replica, LOG.positions()[5])
    replica.do(replica.machine.snapshot_failed("data", 1, LOG.positions()[5], "the applier died", 0.0))
    actions = replica.do(replica.machine.tick(1.0, 0))
    asked = sent(actions, Follow)[0]
    assert (asked.txid, asked.fresh) == (5, True)
    assert replica.do(replica.machine.diverged("data", "the file is at no position of the log")) == []
    assert take_snapshot(replica, LOG.positions()[6]).evidence == ""
    replica.do(replica.machine.snapshot_installed("data", replica.stream, 2.0))
    assert replica.state.distrust == ""
    assert replica.do(replica.machine.diverged("data", "page 7")) == [act.Freeze(database="data", reason="page 7")]


def test_more_snapshot_bytes_than_announced_are_refused():
    replica = Replica(3)
    replica.receive(begin(LOG.positions()[5], size=4))
    actions = replica.receive(SnapshotChunk(1, "data", 1, 0, b"12345"))
    assert sent(actions, Refuse)[0].code == RefuseCode.PROTOCOL
    assert only(actions, act.DropSnapshot)


def test_divergence_freezes_keeps_evidence_and_takes_a_fresh_snapshot():
    replica = Replica(3)
    actions = replica.do(replica.machine.diverged("data", "page 7"))
    assert actions == [act.Freeze(database="data", reason="page 7")]
    assert replica.do(replica.machine.diverged("data", "page 8")) == []
    assert replica.receive(entries(LOG.positions()[3], LOG.entries[3])) == []
    actions = replica.do(replica.machine.evidence_saved("data", 1.0))
    asked = sent(actions, Follow)[0]
    assert (asked.fresh, asked.reason) == (True, "page 7")
    assert take_snapshot(replica, LOG.positions()[2]).evidence == ""
    replica.do(replica.machine.snapshot_installed("data", replica.stream, 1.0))
    assert replica.state.distrust == ""


def test_distrust_outlives_the_link():
    replica = Replica(3)
    replica.do(replica.machine.diverged("data", "page 7"))
    replica.do(replica.machine.link_down(0.0, "cut"))
    assert sent(replica.do(replica.machine.link_up(1.0)), Subscribe)[0].follows == ()
    replica.receive(DatabaseList(1, ("data",), True), 1.0)
    assert sent(replica.do(replica.machine.evidence_saved("data", 2.0)), Follow)[0].fresh


def test_file_that_is_at_no_position_of_its_log_needs_a_snapshot_from_the_start():
    replica = Replica(3, distrust="install broken off", applied=0)
    assert replica.started == [act.Reconnect(after_s=0.0, reason="start")]
    asked = sent(replica.subscribed, Subscribe)[0].follows[0]
    assert (asked.txid, asked.fresh, asked.reason) == (3, True, "install broken off")
    assert take_snapshot(replica, LOG.positions()[5]).evidence
    replica.do(replica.machine.snapshot_installed("data", replica.stream, 0.0))
    replica.receive(entries(LOG.positions()[5], LOG.entries[5], stream=replica.stream))
    assert only(replica.do(replica.machine.appended("data", LOG.positions()[6], 0.0)), act.ApplyTo).txid == 6


def test_frozen_database_applies_nothing_that_is_still_being_appended():
    replica = Replica(3)
    replica.receive(entries(LOG.positions()[3], LOG.entries[3]))
    replica.do(replica.machine.diverged("data", "page 7"))
    assert replica.do(replica.machine.appended("data", LOG.positions()[4], 0.0)) == []


def test_reconnects_with_growing_jittered_pauses():
    replica = Replica(3, link=False)
    pauses = [only(replica.machine.link_down(float(i), "refused"), act.Reconnect).after_s for i in range(12)]
    for number, pause in enumerate(pauses):
        most = min(limits.RECONNECT_S_MAX, limits.RECONNECT_S_MIN * 2**number)
        assert most / 2 <= pause <= most
    assert len(set(pauses)) == len(pauses)


def test_pause_is_short_again_after_everything_worked():
    replica = Replica(3, link=False)
    for _ in range(10):
        replica.machine.link_down(0.0, "refused")
    replica.machine.link_up(0.0)
    replica.receive(DatabaseList(1, ("data",), True))
    at = LOG.positions()[3]
    replica.receive(CaughtUp(1, "data", 1, *position_fields(at)))
    assert only(replica.machine.link_down(1.0, "cut"), act.Reconnect).after_s <= limits.RECONNECT_S_MIN


def test_silence_ends_the_link_and_heartbeats_are_sent():
    replica = Replica(3)
    assert sent(replica.do(replica.machine.tick(1.0, 55)), Heartbeat) == [Heartbeat(1, 55)]
    actions = replica.do(replica.machine.tick(limits.LINK_SILENCE_S, 0))
    assert "silent" in only(actions, act.Reconnect).reason
    assert replica.machine.next_deadline == float("inf")


@pytest.mark.parametrize(("interval", "pause"), [(30.0, 30.0), (0.0, None)])
def test_run_to_the_head_leaves_when_everything_is_fsynced(interval, pause):
    replica = Replica(3, sync_interval_s=interval, link=False)
    assert only(replica.started, act.Reconnect).after_s == (0.0 if interval else None)
    assert replica.machine.sync_now(0.0) == [act.Reconnect(after_s=0.0, reason="asked for")]
    assert replica.machine.sync_now(0.0) == []
    assert sent(replica.do(replica.machine.link_up(0.0)), Subscribe)[0].until_head
    replica.receive(DatabaseList(1, ("data",), True))
    replica.receive(entries(LOG.positions()[3], LOG.entries[3]))
    assert replica.receive(CaughtUp(1, "data", 1, *position_fields(LOG.positions()[4]))) == []
    actions = replica.do(replica.machine.appended("data", LOG.positions()[4], 0.0))
    assert actions[-1] == act.Reconnect(after_s=pause, reason="up to date", is_done=True)
    assert not replica.machine.is_connected


def test_run_to_the_head_without_databases_ends_at_once():
    replica = Replica(0, sync_interval_s=5.0, listed=())
    assert only(replica.listed, act.Reconnect).after_s == 5.0


def test_caught_up_means_every_database():
    replica = Replica(3, listed=("data", "other"))
    at = LOG.positions()[3]
    replica.receive(CaughtUp(1, "data", 1, *position_fields(at)))
    assert not replica.machine.is_caught_up
    replica.receive(CaughtUp(1, "other", 2, *position_fields(NO_POSITION)))
    assert replica.machine.is_caught_up
    assert replica.machine.knows_all
    replica.machine.link_down(0.0, "cut")
    assert not replica.machine.is_caught_up


def test_heads_of_the_upstream_are_remembered_for_the_lag():
    replica = Replica(3)
    replica.receive(Heartbeat(1, 0, (Head("data", 1, 9, 1, 3, 777),)))
    assert (replica.state.head, replica.state.unsent_bytes) == (9, 777)


def test_notice_of_something_that_was_not_asked_for_is_a_bug_of_the_shell():
    replica = Replica(3)
    with pytest.raises(InvariantError):
        replica.machine.appended("data", LOG.positions()[4], 0.0)
    with pytest.raises(InvariantError):
        replica.machine.link_up(0.0)


def test_messages_after_the_link_is_down_are_ignored():
    replica = Replica(3)
    replica.machine.link_down(0.0, "cut")
    assert replica.receive(entries(LOG.positions()[3], LOG.entries[3])) == []
