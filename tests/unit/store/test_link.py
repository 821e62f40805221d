import asyncio
import socket
import struct

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from pando import limits
from pando.store.link import Link, LinkEnd, LinkEndKind, encode_frame, make_decoder
from pando.store.protocol import EndSession, Finished, OpenDatabase, Ran, Refused, Run, StoreAnswer, StoreRequest
from pando.store.requests import Execute, Statement, StatementResult

REQUESTS = make_decoder(StoreRequest)
ANSWERS = make_decoder(StoreAnswer)


class FakeTransport(asyncio.Transport):
    """Remembers what was written; the test decides about backpressure."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.writes = 0
        self.closed = ""
        self.unsent = 0
        self.reading = True

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def get_write_buffer_size(self):
        return self.unsent

    def write(self, data):
        self.writes += 1
        self.written += data

    def writelines(self, parts):
        self.write(b"".join(parts))

    def close(self):
        self.closed = self.closed or "close"

    def abort(self):
        self.closed = "abort"

    def is_reading(self):
        return self.reading

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


class Ends:
    """A link on a fake transport, and what its owner was told."""

    def __init__(self, decoder=REQUESTS, **options):
        self.loop = asyncio.new_event_loop()
        self.got: list = []
        self.ended: list[LinkEnd] = []
        self.link = Link(decoder, self.got.extend, self.ended.append, loop=self.loop, **options)
        self.transport = FakeTransport()
        self.link.connection_made(self.transport)

    def turn(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.loop.close()


def run_message(number=1, sql="insert into t values (?, ?)", args=(1, "x")):
    return Run(id=number, database="data", session=0, requests=(Execute(Statement(sql, args)),))


def frames_of(data):
    at, frames = 0, []
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        frames.append(REQUESTS.decode(bytes(data[at + 4 : at + 4 + size])))
        at += 4 + size
    return frames


def test_what_is_sent_in_one_turn_travels_as_one_frame():
    with Ends() as ends:
        for number in range(5):
            ends.link.send(run_message(number))
        assert ends.transport.writes == 0
        ends.turn()
        ends.link.send(EndSession(9))
        ends.turn()
        assert [[type(m).__name__ for m in frame] for frame in frames_of(ends.transport.written)] == [
            ["Run"] * 5,
            ["EndSession"],
        ]


def test_flush_now_writes_before_the_turn_ends_and_only_once():
    with Ends() as ends:
        ends.link.send(EndSession(1))
        ends.link.flush_now()
        assert ends.transport.writes == 1
        ends.turn()
        assert ends.transport.writes == 1


@given(st.data(), st.lists(st.integers(min_value=0, max_value=2**40), max_size=12))
def test_messages_survive_any_cutting_of_the_stream(data, sessions):
    messages = [
        EndSession(number) if number % 3 else run_message(number, args=(number, "ä" * (number % 50), b"\0"))
        for number in sessions
    ]
    stream = b"".join(encode_frame([message]) for message in messages)
    with Ends() as ends:
        at = 0
        while at < len(stream):
            size = data.draw(st.integers(min_value=1, max_value=len(stream)))
            ends.link.data_received(stream[at : at + size])
            at += size
        assert ends.got == messages
        ends.link.eof_received()
        ends.link.connection_lost(None)
        assert [end.kind for end in ends.ended] == [LinkEndKind.CLEAN]


def test_every_truncation_of_a_frame_is_a_torn_end():
    frame = encode_frame([run_message()])
    for size in range(1, len(frame)):
        with Ends() as ends:
            ends.link.data_received(frame[:size])
            ends.link.eof_received()
            ends.link.connection_lost(None)
            assert ends.ended[0].kind is LinkEndKind.TORN
            assert ends.got == []


def test_every_flipped_byte_ends_the_link_or_is_a_message_of_the_protocol():
    frame = encode_frame([run_message()])
    for at in range(len(frame)):
        for bit in (0x01, 0x80, 0xFF):
            broken = bytearray(frame)
            broken[at] ^= bit
            with Ends() as ends:
                ends.link.data_received(bytes(broken))
                ends.link.eof_received()
                ends.link.connection_lost(None)
                assert len(ends.ended) == 1
                assert all(isinstance(message, StoreRequest) for message in ends.got)


def test_garbage_aborts_the_link_with_a_reason():
    with Ends() as ends:
        ends.link.data_received(b"\0\0\0\3abc")
        assert ends.transport.closed == "abort"
        ends.link.connection_lost(None)
        assert ends.ended[0].kind is LinkEndKind.GARBAGE
        ends.link.send(EndSession(1))
        ends.turn()
        assert ends.transport.writes == 0


def test_deep_nesting_is_garbage_not_a_crash():
    nested = b"\x92\xa3not" * 20_000 + b"\x91\xadis_autocommit"
    payload = b"\x91\x97\x01\x01\xa4data\x00\x91\x92\xa5batch\x91\x92\x91\xa1x" + nested + b"\xa0\xc2"
    with Ends() as ends:
        ends.link.data_received(len(payload).to_bytes(4, "big") + payload)
        ends.link.connection_lost(None)
        assert ends.ended[0].kind is LinkEndKind.GARBAGE


def test_text_that_is_not_utf8_is_garbage():
    payload = b"\x91\x93\x04\x01\xa2\xff\xfe"
    with Ends() as ends:
        ends.link.data_received(len(payload).to_bytes(4, "big") + payload)
        ends.link.connection_lost(None)
        assert ends.ended[0].kind is LinkEndKind.GARBAGE


def test_an_announced_frame_over_the_limit_is_refused_before_it_comes():
    with Ends() as ends:
        ends.link.data_received((limits.LINK_FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
        assert ends.transport.closed == "abort"
        ends.link.connection_lost(None)
        assert ends.ended[0].kind is LinkEndKind.TOO_LARGE


def test_a_turn_of_messages_over_the_frame_limit_is_split():
    with Ends() as ends:
        ends.link.frame_bytes_max = 300
        messages = [run_message(number, args=("y" * 60,)) for number in range(7)]
        for message in messages:
            ends.link.send(message)
        ends.turn()
        frames = frames_of(ends.transport.written)
        assert [message for frame in frames for message in frame] == messages
        assert len(frames) > 1


def test_a_single_oversized_message_is_replaced_by_the_owner():
    def replace(message):
        return Refused(id=message.id, code="RESPONSE_TOO_LARGE", message="too large", status=413, retryable=False)

    with Ends(replace_oversized=replace) as ends:
        ends.link.frame_bytes_max = 200
        rows = StatementResult(columns=(("a", None),), rows=[("z" * 500,)])
        ends.link.send(Finished(id=1))
        ends.link.send(Ran(id=2, results=[rows], epoch=1, txid=1, is_autocommit=True))
        ends.turn()
        with Ends(ANSWERS) as other:
            other.link.data_received(bytes(ends.transport.written))
            assert [(type(m).__name__, m.id) for m in other.got] == [("Finished", 1), ("Refused", 2)]


def test_an_oversized_message_without_replacement_ends_the_link():
    with Ends() as ends:
        ends.link.frame_bytes_max = 100
        ends.link.send(run_message(args=("z" * 500,)))
        ends.turn()
        ends.link.connection_lost(None)
        assert ends.ended[0].kind is LinkEndKind.TOO_LARGE


def test_congestion_is_told_and_drain_waits_for_its_end():
    with Ends() as ends:
        ends.link.pause_writing()
        assert ends.link.is_congested
        waiting = ends.loop.create_task(ends.link.drain())
        ends.turn()
        ends.turn()
        assert not waiting.done()
        drained = []
        ends.link.on_drained = lambda: drained.append(True)
        ends.link.resume_writing()
        ends.loop.run_until_complete(waiting)
        assert not ends.link.is_congested
        assert drained == [True]


def test_a_receiver_that_never_reads_is_cut_off():
    with Ends() as ends:
        ends.link.pause_writing()
        ends.transport.unsent = limits.LINK_BACKLOG_BYTES_MAX + 1
        ends.link.send(EndSession(1))
        ends.turn()
        assert ends.transport.closed == "abort"


def test_drain_ends_when_the_link_is_lost():
    with Ends() as ends:
        ends.link.pause_writing()
        waiting = ends.loop.create_task(ends.link.drain())
        ends.turn()
        ends.link.connection_lost(ConnectionResetError("reset"))
        ends.loop.run_until_complete(waiting)
        assert ends.ended[0].kind is LinkEndKind.BROKEN
        assert not ends.link.is_open


def test_close_sends_what_is_queued_and_reports_once():
    with Ends() as ends:
        ends.link.send(EndSession(5))
        ends.link.close("enough")
        assert frames_of(ends.transport.written) == [[EndSession(5)]]
        ends.link.connection_lost(None)
        ends.link.connection_lost(None)
        assert ends.ended == [LinkEnd(LinkEndKind.LOCAL, "enough")]


def test_handlers_may_be_replaced_between_two_frames():
    with Ends() as ends:
        later = []

        def first(messages):
            ends.got.extend(messages)
            ends.link.decoder, ends.link.on_messages = ANSWERS, later.extend

        ends.link.on_messages = first
        ends.link.data_received(encode_frame([OpenDatabase(1, "data")]) + encode_frame([Finished(id=1)]))
        assert ends.got == [OpenDatabase(1, "data")]
        assert later == [Finished(id=1)]


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_large_messages_pass_a_real_socket_in_both_directions(factory):
    async def scenario():
        left_socket, right_socket = socket.socketpair()
        loop = asyncio.get_running_loop()
        done: asyncio.Future = loop.create_future()
        echo = Link(REQUESTS, lambda messages: [echo.send(message) for message in messages], lambda end: None)
        received: list = []

        def on_messages(messages):
            received.extend(messages)
            if len(received) == 20:
                done.set_result(None)

        ended: asyncio.Future = loop.create_future()
        link = Link(REQUESTS, on_messages, ended.set_result)
        await loop.create_connection(lambda: echo, sock=left_socket)
        await loop.create_connection(lambda: link, sock=right_socket)
        sent = [run_message(number, args=(b"\x07" * (number * 50_000),)) for number in range(20)]
        for message in sent:
            link.send(message)
            await link.drain()
        await done
        assert received == sent
        echo.close("done")
        end = await ended
        assert end.kind is LinkEndKind.CLEAN

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(scenario(), 20))
