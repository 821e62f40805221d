"""The HTTP server's protocol class: uvicorn's, with a gate in front.

The gate hands link upgrades over to the store, bounds open connections, and ends those that never finish a request
header. What it costs a normal request is two comparisons.

A request that came in whole, in one piece, on a connection with nothing else under way is offered to `Gate.prompts`:
what can be answered without waiting goes out within the same call; what has to wait does so without ASGI's scope and
events, which are most of what a short request costs. While it waits a `PromptCycle` stands where uvicorn keeps the
request under way, so that everything else behaves as ever. What is declined takes uvicorn's way. Not here: requests and
answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pando import limits
from pando.errors import NotReady
from pando.log import EventLog
from pando.node.ending import READING, STOPS, STOPS_IN_BODY, STOPS_IN_READ, STOPS_IN_REQUEST
from pando.node.plain_answers import full_answer, plain_answer
from pando.store.adopt import HANDOVER_BYTES_MAX, Giver
from pando.store.link_open import LINK_PATH, UPGRADE_NAME

LINK_PREFIX: Final = f"GET {LINK_PATH} ".encode()
HEAD_BYTES_MAX: Final = 64 * limits.KIB
"""Longest request header."""
HEAD_S: Final = 30.0
"""A connection that has not sent a whole request header by then is closed."""
BODY_PAUSE_S: Final = 60.0
"""A connection that has sent nothing of an unfinished request body for so long is closed (as the front has it)."""
SWEEP_S: Final = 5.0
PROMPTS_MAX: Final = 16
"""Requests in one piece of data that are answered at once; who sends more of them ahead has to wait for others."""
CROWDED_SCAN_S: Final = 0.05
"""Least time between two searches for idle connections; each looks at every connection."""
CUT: Final = "pando.cut"
"""Key of ASGI's scope: a function for answers without an end, which closes the connection if its client does not read.
It gets the scope."""
_STATUS_LINE: Final = b"HTTP/1.1 "
_UPGRADE: Final = f"upgrade: {UPGRADE_NAME}".encode()
_END_OF_HEAD: Final = b"\r\n\r\n"

_TOO_MANY: Final = full_answer("this one was idle the longest", is_unread=True)
_TOO_MANY_BEGUN: Final = full_answer("this one was idle the longest, within its request", is_unread=False)
_NO_ROOM: Final = full_answer("try again later", is_unread=True)
_TOO_SLOW: Final = plain_answer(
    "408 Request Timeout",
    f"no complete request header within {HEAD_S:g} seconds, or nothing of the body for {BODY_PAUSE_S:g}",
    "REQUEST_TIMEOUT",
    retryable=True,
)
_HEAD_TOO_LARGE: Final = plain_answer(
    "431 Request Header Fields Too Large",
    f"the request header is larger than {HEAD_BYTES_MAX} bytes",
    "REQUEST_TOO_LARGE",
    retryable=False,
)
_NO_STORE: Final = plain_answer(
    "503 Service Unavailable", "the store process of this node does not take links now", "NOT_READY", retryable=True
)


RequestHeaders = list[tuple[bytes, bytes]]
WholeAnswer = tuple[int, bytes, bytes]
"""Status, header lines with `content-length`, body."""
Prompt = Callable[[RequestHeaders, bytes], WholeAnswer | Coroutine[Any, Any, WholeAnswer] | None]
"""Gets headers and body of a request; gives an answer, or what waits for one (it never raises), or None to decline."""
Peer = tuple[str, int]
"""Address and port of the other end of a connection; of unix sockets there is none."""
PromptUnder = Callable[
    [bytes, bytes, RequestHeaders, bytes, Peer | None], WholeAnswer | Coroutine[Any, Any, WholeAnswer] | None
]
"""The same for all requests under a path; gets method and URL first, and who asks last."""


_FAILED: Final = plain_answer("500 Internal Server Error", "an error that nobody expected", "INTERNAL", retryable=False)


def _declines(_method: bytes, _url: bytes, _headers: RequestHeaders, _body: bytes, _peer: Peer | None) -> None:
    return None


class Gate:
    """What the connections of one web process share."""

    def __init__(self, *, connections_max: int, giver: Giver, log: EventLog, keep_alive_s: float) -> None:
        """`connections_max`: open connections of this process; `keep_alive_s`: the HTTP server's."""
        self._connections_max = connections_max
        self._giver = giver
        self._log = log
        self._idle: deque[tuple[float, NodeProtocol]] = deque()
        self._scanned_at = 0.0
        self._refused = 0
        self.keep_alive_s = keep_alive_s
        self.connections: set[Any] = set()
        self.prompts: dict[bytes, Prompt] = {}
        """What answers at once, by the path of POST requests."""
        self.prefix = b""
        """URLs that begin so are offered to `prompt_under`; empty: none are."""
        self.prompt_under: PromptUnder = _declines
        self.is_stopping = False
        """Whether each answer is the last one of its connection."""
        self._default_headers: RequestHeaders | None = None
        self._head = b""

    def stop(self) -> None:
        """From now on each answer is the last one of its connection, and says so."""
        self.is_stopping = True
        self.prompts, self.prefix = {}, b""  # these answer without looking

    def opened(self, connection: NodeProtocol, connections: set[Any], now: float) -> bool:
        """Take note of a new connection; False: there is no room, it is closed already."""
        self.connections = connections
        if len(connections) <= self._connections_max:
            return True
        self._refused += 1
        longest = self._longest_idle(connection, now)
        if longest is None:
            connection.dismiss(_NO_ROOM)
            return False
        longest.dismiss(_TOO_MANY_BEGUN if longest.is_in_flight() else _TOO_MANY)
        return True

    def _longest_idle(self, newest: NodeProtocol, now: float) -> NodeProtocol | None:
        for _ in range(2):
            while self._idle:
                since, connection = self._idle.popleft()
                if connection.idle_since(self.keep_alive_s) == since and not connection.transport.is_closing():
                    return connection
            if now - self._scanned_at < CROWDED_SCAN_S:
                return None
            self._scan(newest, now)
        return None

    def _scan(self, newest: NodeProtocol, now: float) -> None:
        """List the idle connections, the longest idle first; they are looked at again when their turn comes."""
        self._scanned_at = now
        found = []
        for connection in self.connections:
            since = connection.idle_since(self.keep_alive_s)
            if since is not None and connection is not newest:
                found.append((since, connection))
        found.sort(key=_first)
        self._idle = deque(found)

    def sweep(self, now: float) -> None:
        """Close connections that take too long over a request; call every SWEEP_S."""
        for connection in list(self.connections):
            if connection.waits_too_long(now):
                connection.dismiss(_TOO_SLOW)
            elif connection.has_idled(now):
                connection.transport.close()
        if self._refused:
            self._log.emit(
                "web.connections_full", open=len(self.connections), limit=self._connections_max, closed=self._refused
            )
            self._refused = 0

    def head(self, default_headers: RequestHeaders) -> bytes:
        """Give what each answer has in its header; uvicorn makes the list of default headers anew each second."""
        if default_headers is not self._default_headers:
            self._default_headers = default_headers
            self._head = b"".join(b"%b: %b\r\n" % pair for pair in default_headers)
        return self._head

    def failed(self, url: bytes, error: BaseException) -> None:
        """Tell the operator of a bug."""
        self._log.emit("request.failed", method="POST", path=url.decode("latin-1"), error=repr(error))

    def hand_over(self, connection: NodeProtocol, data: bytes) -> None:
        """Give a link's connection to the store."""
        if self.is_stopping:
            connection.dismiss(_NO_STORE)
            return
        descriptor = connection.transport.get_extra_info("socket").fileno()
        try:
            self._giver.give(descriptor, data)
        except NotReady:
            connection.dismiss(_NO_STORE)
            return
        connection.transport.abort()  # closes our descriptor; the store's own keeps the connection


def _first(item: tuple[float, NodeProtocol]) -> float:
    return item[0]


class JoiningTransport:
    """Sends the header of an answer together with what follows in the same turn of the loop.

    Uvicorn writes header and body apart; each is a system call, a packet and a wake-up of the client: a quarter of what
    a short answer costs. Everything but writing goes straight to the transport.
    """

    __slots__ = (
        "_head",
        "_loop",
        "_transport",
        "get_extra_info",
        "get_write_buffer_size",
        "is_closing",
        "is_reading",
        "pause_reading",
        "resume_reading",
        "set_protocol",
        "set_write_buffer_limits",
    )

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.is_closing = transport.is_closing
        self.is_reading = transport.is_reading
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.set_protocol = transport.set_protocol
        self.set_write_buffer_limits = transport.set_write_buffer_limits

    @property
    def inner(self) -> asyncio.Transport:
        """The transport itself, with nothing kept back."""
        self._flush()
        return self._transport

    def write(self, data: bytes) -> None:
        """Write, or keep the header of an answer until the end of this turn."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif data.startswith(_STATUS_LINE):
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def write_answer(self, data: bytes) -> None:
        """Write a whole answer."""
        self._flush()
        self._transport.write(data)

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Send what is kept, then close."""
        self._flush()
        self._transport.close()

    def write_eof(self) -> None:
        """Send what is kept, then close for sending."""
        self._flush()
        self._transport.write_eof()

    def abort(self) -> None:
        """Close at once."""
        self._head = b""
        self._transport.abort()


class _NoEvent:
    def set(self) -> None:
        """Nobody waits for it."""


class PromptCycle:
    """What uvicorn asks of a request under way; see `uvicorn.protocols.http.httptools_impl.RequestResponseCycle`."""

    __slots__ = ("disconnected", "keep_alive", "response_complete", "response_started")
    message_event: Final = _NoEvent()

    def __init__(self) -> None:
        self.response_started = False
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True


class NodeProtocol(HttpToolsProtocol):
    """One connection. Use `bind_gate` to get the class that uvicorn is given."""

    gate: Gate

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as uvicorn calls it
        super().__init__(*args, **options)
        self._is_new = True
        self._first_bytes = b""
        self._head_bytes = 0
        self._is_past_head = False
        """Whether the bytes that just came in were not all part of an unfinished header."""
        self._is_in_body = False
        self._body_at = 0.0
        """When the last bytes of an unfinished body came."""
        self._waiting_since = 0.0
        """Since when a request header is waited for; 0: none is, or only since the last answer."""
        self._offered: list[bytes] | None = None
        """Body of a request that `Gate.prompts` may answer; never set between two calls of `data_received`."""
        self._prompts_left = 0
        self._answered_at = 0.0
        """When the last answer went out, if it was a prompt one and nothing came in since."""
        self._has_left = False
        """Whether the last words were said: what still comes in is thrown away."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection was accepted."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self.transport = JoiningTransport(self.transport, self.loop)  # type: ignore[assignment]
        self._waiting_since = self.loop.time()
        self.gate.opened(self, self.connections, self._waiting_since)

    def data_received(self, data: bytes) -> None:
        """Bytes came in."""
        if self._has_left:
            return
        if self._is_new:
            data = self._look_for_link(data)
            if not data:
                return
        self._prompts_left = PROMPTS_MAX
        self._answered_at = 0.0
        super().data_received(data)
        if self._offered is not None and not self.transport.is_closing():
            self._take_back()
        if not self._answered_at and not self._waiting_since and not self.is_in_flight():
            self._waiting_since = self.loop.time()
        if self._is_past_head:
            self._head_bytes = 0
            self._is_past_head = self._is_in_body
            if self._is_in_body:
                self._body_at = self.loop.time()
        else:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.dismiss(_HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Called by the parser. What uvicorn does here is put off, since prompt requests do without it."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._answered_at = 0.0

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._is_past_head = self._is_in_body = True
        self._waiting_since = 0.0
        if self._has_prompt() and self._may_be_prompt():
            self._offered = []
        else:
            self._begin()

    def _begin(self) -> None:
        """Do what uvicorn does when a message begins, and when its header is complete."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        self.scope[CUT] = self._cut  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()
        if self.gate.is_stopping and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        if self._offered is not None:
            self._offered.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._is_in_body = False
        if self._offered is not None:
            if self._answer_at_once(b"".join(self._offered)):
                self._offered = None
                return
            self._take_back()
        super().on_message_complete()

    def _has_prompt(self) -> bool:
        if self.url in self.gate.prompts:
            return bool(self.parser.get_method() == b"POST")
        prefix = self.gate.prefix
        return bool(prefix) and self.url.startswith(prefix)

    def _may_be_prompt(self) -> bool:
        parser = self.parser
        return (
            parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.is_in_flight()
            and not self.expect_100_continue
            and not self.flow.write_paused
            and self._prompts_left > 0
            and parser.get_http_version() == "1.1"  # clients of 1.0 wait for the end of the connection
        )

    def _answer_at_once(self, body: bytes) -> bool:
        try:
            answer = self._prompt(body)
        except Exception as error:  # noqa: BLE001 - a request handler: the client must hear of it, and not of bad HTTP
            self.gate.failed(self.url, error)
            self.dismiss(_FAILED)
            return True
        if answer is None:
            return False
        if type(answer) is tuple:
            self._prompts_left -= 1
            self._send_whole(answer)
            self._answered_at = self.loop.time()
        else:
            self._await(answer)  # type: ignore[arg-type]
        return True

    def _prompt(self, body: bytes) -> WholeAnswer | Coroutine[Any, Any, WholeAnswer] | None:
        prompt = self.gate.prompts.get(self.url)
        if prompt is not None:
            return prompt(self.headers, body)
        return self.gate.prompt_under(self.parser.get_method(), self.url, self.headers, body, self.client)

    def _await(self, answer: Coroutine[Any, Any, WholeAnswer]) -> None:
        cycle: Any = PromptCycle()
        self.cycle = cycle
        task: Any = self.loop.create_task(answer)
        self.tasks.add(task)
        task.add_done_callback(partial(self._prompt_done, cycle, self.url))

    def _prompt_done(self, cycle: PromptCycle, url: bytes, task: asyncio.Task[WholeAnswer]) -> None:
        """Answer. By now `self.cycle` and `self.url` may be those of a request that came behind this one."""
        self.tasks.discard(task)
        cycle.response_complete = True
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.gate.failed(url, error)
        if task.cancelled() or error is not None:
            self.dismiss(_FAILED)
            return
        if cycle.disconnected:
            return
        self._send_whole(task.result(), b"" if cycle.keep_alive else b"connection: close\r\n")
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _send_whole(self, answer: WholeAnswer, more: bytes = b"") -> None:
        status, lines, body = answer
        if not self.transport.is_closing():
            head = self.gate.head(self.server_state.default_headers)
            data = b"%b%b%b%b\r\n%b" % (STATUS_LINE[status], head, lines, more, body)
            self.transport.write_answer(data)  # type: ignore[attr-defined]

    def _take_back(self) -> None:
        """Have uvicorn begin the request that was held back, with what is there of its body."""
        parts, self._offered = self._offered, None
        self._begin()
        if parts:
            super().on_body(b"".join(parts))

    def handle_websocket_upgrade(self) -> None:
        """Give the connection to the WebSocket protocol, with its own transport."""
        if self.is_in_flight():
            self.send_400_response("An upgrade has to wait for the answers before it.")
            return
        if self.gate.is_stopping:
            self.dismiss(STOPS)
            return
        if isinstance(self.transport, JoiningTransport):
            self.transport = self.transport.inner
        super().handle_websocket_upgrade()

    def _look_for_link(self, data: bytes) -> bytes:
        """Give the bytes that are for the HTTP parser; none while a link's header comes in."""
        if self.transport.is_closing():
            return b""
        seen = self._first_bytes + data
        if not seen.startswith(LINK_PREFIX) and not LINK_PREFIX.startswith(seen):
            return self._not_new(seen)
        head, end, _ = seen.partition(_END_OF_HEAD)
        if not end and len(seen) < HANDOVER_BYTES_MAX:
            self._first_bytes = seen
            return b""
        if not end or len(seen) > HANDOVER_BYTES_MAX or _UPGRADE not in head.lower():
            return self._not_new(seen)
        self._is_new = False
        self.transport.pause_reading()
        self.gate.hand_over(self, seen)
        return b""

    def _not_new(self, seen: bytes) -> bytes:
        self._is_new = False
        self._first_bytes = b""
        return seen

    def is_in_flight(self) -> bool:
        """Tell whether a request was begun and not yet answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _waits_for_body(self) -> bool:
        """Tell whether a request cannot go on since its client does not, and not since we do not read."""
        return self._is_in_body and not self.flow.read_paused

    def idle_since(self, keep_alive_s: float) -> float | None:
        """Give the loop time since which we wait for the client; None when the client waits for us."""
        if self.is_in_flight():
            return self._body_at if self._waits_for_body() else None
        timer = self.timeout_keep_alive_task
        if timer is not None:
            return timer.when() - keep_alive_s
        return self._answered_at or self._waiting_since

    def waits_too_long(self, now: float) -> bool:
        """Tell whether a request has been on its way for too long; to be asked regularly."""
        if self.is_in_flight() and self._waits_for_body() and now - self._body_at > BODY_PAUSE_S:
            return True
        return 0 < self._waiting_since < now - HEAD_S and not self.is_in_flight() and not self.transport.is_closing()

    def has_idled(self, now: float) -> bool:
        """Tell whether a connection is to be closed that uvicorn's own timer does not watch."""
        return 0 < self._answered_at < now - self.gate.keep_alive_s

    def _cut(self, scope: Any) -> None:  # noqa: ANN401 - ASGI's
        """Close the connection at once if the client of this request does not take what is sent; see `CUT`."""
        if self.scope is scope and self.flow.write_paused:
            self.transport.abort()

    def dismiss(self, answer: bytes) -> None:
        """Say why, and close."""
        if not self.transport.is_closing():
            if not (self.is_in_flight() and self.cycle.response_started):
                self.transport.write(answer)
            self.transport.close()

    # -- the end of the server; see `pando.node.ending` --

    def end_after_answer(self) -> None:
        """The next answer is the last one, that to a request under way or to one that comes."""
        if self.is_in_flight():
            self.cycle.keep_alive = False

    def leave(self) -> None:
        """Say that nothing was read, and end the connection, if no request is under way."""
        if not self.is_in_flight():
            self._leave(STOPS)

    def has_unsent(self) -> bool:
        """Tell whether the kernel has not yet taken all of an answer."""
        return self.transport.get_write_buffer_size() > 0

    def give_up(self) -> None:
        """Say what is known of the request under way, and end the connection."""
        if not self.is_in_flight():
            return
        if self.pipeline or isinstance(self.cycle, PromptCycle):
            self._leave(STOPS_IN_REQUEST)
        elif self._is_in_body:
            self._leave(STOPS_IN_BODY)
        else:
            self._leave(STOPS_IN_READ if self.scope["method"] in READING else STOPS_IN_REQUEST)

    def _leave(self, answer: bytes) -> None:
        """Say why, and close for sending: closed at once, what the client sends now would wipe the answer out."""
        if self.transport.is_closing() or self._has_left:
            return
        self._has_left = True
        if not (self.is_in_flight() and self.cycle.response_started):
            self.transport.write(answer)
        if self.cycle is not None:
            self.cycle.disconnected = True  # what it still has to say goes nowhere
            self.cycle.message_event.set()
        self.flow.resume_reading()
        self.transport.write_eof()


def bind_gate(gate: Gate) -> type[NodeProtocol]:
    """Give the protocol class whose connections share this gate."""
    return type("GatedProtocol", (NodeProtocol,), {"gate": gate})
