"""Frames on a blocking socket: whole, in pieces, broken; and a handshake with words right behind it."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pando import limits
from pando.errors import NotReady
from pando.store import applier_protocol as wire
from pando.store.blocking_link import BlockingLink, LinkLost, dial
from pando.store.handshake import NONCE_BYTES, Acceptor, Dialer, LinkKind, Rejected
from pando.store.link import encode_frame, make_decoder

DECODER = make_decoder(wire.ApplierRequest)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, BlockingLink]]:
    theirs, ours = socket.socketpair()
    link = BlockingLink(ours, DECODER)
    yield theirs, link
    theirs.close()
    link.close()


def test_nothing_is_there(pair: tuple[socket.socket, BlockingLink]) -> None:
    assert pair[1].receive() == []


def test_frames_come_in_any_pieces(pair: tuple[socket.socket, BlockingLink]) -> None:
    theirs, link = pair
    sent = [wire.ApplyTo("a", 1), wire.CancelJob(2), wire.ApplyTo("b", 3)]
    data = encode_frame(sent[:2]) + encode_frame(sent[2:])
    got = []
    for at in range(len(data)):
        theirs.sendall(data[at : at + 1])
        got += link.receive()
    assert got == sent


def test_frames_can_be_taken_one_by_one(pair: tuple[socket.socket, BlockingLink]) -> None:
    theirs, link = pair
    theirs.sendall(encode_frame([wire.CancelJob(1)]) + encode_frame([wire.CancelJob(2)]))
    assert link.receive(frames_max=1) == [wire.CancelJob(1)]
    assert link.receive(frames_max=1) == [wire.CancelJob(2)]
    assert link.receive() == []


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        (limits.LINK_FRAME_BYTES_MAX + 1).to_bytes(4, "big"),
        b"\0\0\0\1\xc1",
        b"\0\0\0\2\x91\x05",
        encode_frame([["unknown", 1]]),
    ],
)
def test_garbage_ends_the_link(pair: tuple[socket.socket, BlockingLink], data: bytes) -> None:
    theirs, link = pair
    theirs.sendall(data)
    with pytest.raises(LinkLost):
        link.receive()


def test_the_other_side_is_gone(pair: tuple[socket.socket, BlockingLink]) -> None:
    theirs, link = pair
    theirs.close()
    with pytest.raises(LinkLost):
        link.receive()
    with pytest.raises(LinkLost):
        link.send([wire.JobDone(1)])


def served(path: Path, answers: bytes | None) -> threading.Thread:
    """Accept one connection in a thread; answer the handshake and send a frame right behind it, or else `answers`."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def serve() -> None:
        with listening, listening.accept()[0] as sock:
            hello = sock.recv(4096)
            if answers is not None:
                sock.sendall(answers)
                return
            assert hello
            acceptor = Acceptor(node="n", nonce=bytes(NONCE_BYTES))
            dialer = Dialer(kind=LinkKind.APPLIER, node="n", nonce=bytes(NONCE_BYTES))
            sock.sendall(encode_frame([acceptor.receive(dialer.hello)]) + encode_frame([wire.CancelJob(7)]))

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def dialer() -> Dialer:
    return Dialer(kind=LinkKind.APPLIER, node="n", nonce=bytes(NONCE_BYTES))


def test_what_is_said_right_after_the_welcome_is_not_lost() -> None:
    with tempfile.TemporaryDirectory(prefix="pando-") as folder:
        path = Path(folder) / "s"
        thread = served(path, None)
        link = dial(str(path), dialer(), DECODER)
        thread.join()
        assert link.receive() == [wire.CancelJob(7)]
        link.close()


def test_a_refusal_and_a_silent_end_are_errors() -> None:
    refusal = encode_frame([Rejected(code="NOT_READY", message="not now", retryable=True)])
    for answers, message in ((refusal, "not now"), (b"", "closed")):
        with tempfile.TemporaryDirectory(prefix="pando-") as folder:
            path = Path(folder) / "s"
            thread = served(path, answers)
            with pytest.raises(NotReady, match=message):
                dial(str(path), dialer(), DECODER)
            thread.join()


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(LinkLost):
        dial(str(tmp_path / "none"), dialer(), DECODER)
