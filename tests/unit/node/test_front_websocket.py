"""WebSockets through the front."""

import asyncio

import aiohttp
import pytest
from front_kit import websocket_node

from pando.limits import MIB
from pando.testing.waiting import run


def test_messages_of_a_websocket_go_both_ways():
    async def echo(request):
        socket = aiohttp.web.WebSocketResponse(protocols=("hrana3", "hrana2"))
        await socket.prepare(request)
        async for message in socket:
            if message.data == "end":
                await socket.close(code=4001, message=b"enough")
            elif message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data + request.query_string)
            else:
                await socket.send_bytes(message.data)
        return socket

    async def scenario():
        async with (
            websocket_node(echo) as (_, client),
            client.ws_connect("/s?q=1", protocols=("hrana2", "x")) as socket,
        ):
            assert socket.protocol == "hrana2"
            await socket.send_str("hello ")
            assert await socket.receive_str() == "hello q=1"
            await socket.send_bytes(bytes(MIB))
            assert await socket.receive_bytes() == bytes(MIB)
            await socket.send_str("end")
            message = await socket.receive()
            assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "enough")

    run(scenario())


def test_a_client_that_leaves_closes_the_websocket_at_the_node():
    ended = asyncio.Event()

    async def listen(request):
        socket = aiohttp.web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        ended.set()
        return socket

    async def scenario():
        async with websocket_node(listen) as (_, client):
            async with client.ws_connect("/") as socket:
                await socket.send_str("x")
                socket._response.connection.transport.abort()
            await asyncio.wait_for(ended.wait(), 5)

    run(scenario())


def test_a_websocket_whose_request_was_not_read_is_asked_for_again():
    asked = []

    async def handler(request):
        asked.append(request)
        if len(asked) == 1:
            return aiohttp.web.Response(status=503, headers={"Pando-Unread": "1", "Connection": "close"})
        socket = aiohttp.web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("here")
        await socket.receive()
        return socket

    async def scenario():
        async with websocket_node(handler) as (_, client), client.ws_connect("/") as socket:
            assert await socket.receive_str() == "here"
            assert len(asked) == 2

    run(scenario())


def test_a_refused_websocket_is_refused():
    async def refuse(request):
        return aiohttp.web.Response(status=401)

    async def scenario():
        async with websocket_node(refuse) as (_, client):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await client.ws_connect("/")
            assert caught.value.status == 401

    run(scenario())
