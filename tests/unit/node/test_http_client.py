import asyncio
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pando.errors import OutcomeUnknown, PrimaryUnavailable
from pando.node.http_client import download, exchange, passed_headers
from pando.testing.waiting import run


@asynccontextmanager
async def server(answer, path=None, read_body=True):
    """Serves one connection: keeps the request's bytes, answers with the given bytes."""
    got: asyncio.Future = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        body = b""
        if read_body and b"content-length" in head:
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
        elif read_body:
            body = await reader.readuntil(b"0\r\n\r\n")
        got.set_result((head.decode(), body))
        writer.write(answer)
        writer.close()

    if path is None:
        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        target = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    else:
        listening = await asyncio.start_unix_server(serve, path)
        target = path
    try:
        yield target, got
    finally:
        listening.close()


OK = (
    b"HTTP/1.1 201 Created\r\ncontent-type: a/b\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
)


def test_a_request_and_its_answer_pass_without_headers_of_the_connection():
    async def scenario():
        async with server(OK) as (target, got):
            headers = [(b"authorization", b"Bearer x"), (b"expect", b"100-continue"), (b"connection", b"keep-alive")]
            status, answer, body = await exchange(target, "POST", "/p?q=1", headers, b"hello", timeout_s=5)
            assert (status, body) == (201, b"abcde")
            assert answer == [(b"content-type", b"a/b")]
            head, sent = await got
            assert sent == b"hello"
            assert head.startswith("POST /p?q=1 HTTP/1.1\r\nauthorization: Bearer x\r\nhost: 127.0.0.1")
            assert "expect" not in head
            assert "connection: close" in head

    run(scenario())


@pytest.mark.parametrize(("length", "expected"), [(b"6", b"abcdef"), (None, b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")])
def test_a_streamed_body_goes_with_its_length_or_in_chunks(length, expected):
    async def pieces():
        yield b"abc"
        yield b"def"

    async def scenario():
        with tempfile.TemporaryDirectory() as directory:
            async with server(OK, path=str(Path(directory) / "s")) as (target, got):
                headers = [] if length is None else [(b"content-length", length)]
                status, _, _ = await exchange(target, "POST", "/", headers, pieces(), timeout_s=5)
                assert status == 201
                head, sent = await got
                assert sent == expected
                assert "connection:" not in head  # who answers early must not close: that may destroy the answer

    run(scenario())


def test_an_early_answer_counts_even_if_the_body_was_not_taken():
    async def endless():
        for _ in range(200):
            yield bytes(1 << 20)

    async def scenario():
        refused = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"
        async with server(refused, read_body=False) as (target, _):
            try:
                status, _, body = await exchange(target, "POST", "/", [], endless(), timeout_s=5)
            except OutcomeUnknown:
                return  # the reset overtook the answer: that is all that can be known
            assert (status, body) == (413, b"no")

    run(scenario())


def test_a_body_that_breaks_off_is_told_as_what_broke_it():
    class Gone(Exception):
        pass

    async def broken():
        yield b"abc"
        raise Gone

    async def scenario():
        async def silent(reader, writer):
            await reader.read()
            writer.close()

        listening = await asyncio.start_server(silent, "127.0.0.1", 0)
        target = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        with pytest.raises(Gone):
            await exchange(target, "POST", "/", [(b"content-length", b"1000000")], broken(), timeout_s=5)
        listening.close()

    run(scenario())


def test_a_download_comes_piece_by_piece():
    content = bytes(range(256)) * 20_000

    async def scenario():
        head = b"HTTP/1.1 200 OK\r\nEtag: x\r\ncontent-length: %d\r\n\r\n" % len(content)
        async with server(head + content) as (target, got):
            async with download(target, "/big", [(b"pando", b"me")], pause_s=5) as found:
                assert (found.status, found.header(b"etag"), found.header(b"none")) == (200, b"x", b"")
                pieces = [piece async for piece in found.chunks()]
            assert b"".join(pieces) == content and len(pieces) > 1
            assert (await got)[0].startswith("GET /big HTTP/1.1\r\npando: me\r\n")

    run(scenario())


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", b"nonsense\r\n\r\n"])
def test_a_download_that_breaks_off_is_an_error(answer):
    async def scenario():
        async with server(answer) as (target, _):
            with pytest.raises(PrimaryUnavailable):
                async with download(target, "/", [], pause_s=5) as found:
                    assert [piece async for piece in found.chunks()] == [b"abc"]

    run(scenario())


def test_nobody_there_means_that_nothing_was_done():
    async def scenario():
        with tempfile.TemporaryDirectory() as directory, pytest.raises(PrimaryUnavailable):
            await exchange(str(Path(directory) / "none"), "GET", "/", [], b"", timeout_s=5)

    run(scenario())


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", b"nonsense\r\n\r\n"])
def test_a_broken_answer_leaves_the_outcome_unknown(answer):
    async def scenario():
        async with server(answer) as (target, _):
            with pytest.raises(OutcomeUnknown):
                await exchange(target, "POST", "/", [], b"x", timeout_s=5)

    run(scenario())


def test_a_late_answer_is_not_waited_for():
    async def scenario():
        async def silent(reader, writer):
            await reader.read()
            writer.close()

        listening = await asyncio.start_server(silent, "127.0.0.1", 0)
        target = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        with pytest.raises(OutcomeUnknown, match="no answer in time"):
            await exchange(target, "GET", "/", [], b"", timeout_s=0.02)
        listening.close()

    run(scenario())


def test_headers_of_one_connection_are_not_passed_on():
    assert passed_headers([(b"te", b"x"), (b"upgrade", b"x"), (b"x", b"y")]) == [(b"x", b"y")]
