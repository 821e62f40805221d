"""Structured events to standard error: stable names from one list, fixed keys, lines of text or JSON.

Programs and tests may rely on the names and keys below. Not here: metrics, and errors that go to a client.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from pando.clock import Clock, SystemClock
from pando.errors import invariant

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
VALUE_SIZE_MAX: Final = 4000
"""Longest value of a key in a line; the rest is cut."""


@dataclass(frozen=True, slots=True)
class EventType:
    """What an event is called by, how much it matters, and which keys it has."""

    level: str
    keys: tuple[str, ...]
    help: str


EVENTS: Final[dict[str, EventType]] = {
    "node.starting": EventType("info", ("dir", "http", "role", "primary"), "The supervisor begins to start a node."),
    "node.foreign_data": EventType(
        "warning", ("path", "advice"), "Data of another program, which a node does not read."
    ),
    "node.ready": EventType("info", ("http", "seconds"), "The node answers requests."),
    "node.stopping": EventType("info", ("reason",), "The supervisor was told to stop."),
    "node.stopped": EventType("info", ("seconds",), "All processes of the node are gone."),
    "process.started": EventType("info", ("child", "pid", "starts"), "A process of the node was started."),
    "process.died": EventType("warning", ("child", "pid", "status", "lived_s", "pause_s"), "It ended unasked."),
    "process.killed": EventType("warning", ("child", "pid", "reason"), "It did not end in time and was killed."),
    "process.failed": EventType("error", ("error",), "It ends because of an error."),
    "store.opened": EventType("info", ("database", "position", "reason"), "A database was opened or recovered."),
    "store.diverged": EventType("error", ("database", "position", "expected"), "A replica's bytes differ."),
    "link.opened": EventType("info", ("kind", "node", "url"), "A link to another node was opened."),
    "link.closed": EventType("warning", ("kind", "node", "url", "reason"), "A link to another node ended."),
    "link.failed": EventType("warning", ("kind", "url", "reason", "retry_s"), "A link could not be opened."),
    "web.topology": EventType("debug", ("role", "primary", "epoch", "ready", "reason"), "The store says who is who."),
    "web.connections_full": EventType("warning", ("open", "limit", "closed"), "Too many connections; idle ones went."),
    "http.problem": EventType("warning", ("message", "error"), "The HTTP server complained."),
    "request.failed": EventType("error", ("method", "path", "error"), "A bug of ours answered a request."),
    "config.unreadable": EventType("error", ("database", "error"), "A configuration; the last one holds on."),
    "files.not_removed": EventType("warning", ("key", "error"), "A file that no record names any more stays."),
    "front.node_up": EventType("info", ("url",), "The front sends requests to this node again."),
    "front.node_down": EventType("warning", ("url", "reason"), "The front leaves this node out."),
    "cluster.node_restarted": EventType("warning", ("node", "status"), "`pando up` starts a dead node again."),
}
"""Every event that there is."""


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class EventLog:
    """Where events of one process go. `write` takes one line without its end."""

    def __init__(
        self,
        process: str,
        *,
        level: str = "info",
        form: str = "text",
        clock: Clock | None = None,
        write: Callable[[str], None] = _to_stderr,
    ) -> None:
        """`process`: the name that every line carries, such as `store` or `web-1`; `form`: text or json."""
        self._process = process
        self._least = LEVELS[level]
        self._format = _json_line if form == "json" else _text_line
        self._clock = clock or SystemClock()
        self._write = write

    def emit(self, event: str, /, **facts: object) -> None:
        """Write an event of the list with exactly its keys (those left out are empty)."""
        kind = EVENTS.get(event)
        invariant(kind is not None, "events are listed in pando.log", event=event)
        assert kind is not None
        invariant(set(facts) <= set(kind.keys), "an event has fixed keys", event=event, given=sorted(facts))
        if LEVELS[kind.level] < self._least:
            return
        time = datetime.fromtimestamp(self._clock.wall_ms() / 1000, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": time, "level": kind.level, "process": self._process, "event": event}
        line.update((key, _plain(facts.get(key, ""))) for key in kind.keys)
        self._write(self._format(line))


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 6)
    return str(value)[:VALUE_SIZE_MAX]


def _json_line(line: dict[str, Any]) -> str:
    return msgspec.json.encode(line).decode()


def _text_line(line: dict[str, Any]) -> str:
    head = f"{line['time'].replace('+00:00', 'Z')} {line['level']:<7} {line['process']:<10} {line['event']}"
    facts = (f"{key}={_quoted(value)}" for key, value in list(line.items())[4:] if value != "")
    return " ".join((head, *facts))


def _quoted(value: object) -> str:
    text = str(value)
    return text if text and not set(' "\n\t=') & set(text) else msgspec.json.encode(text).decode()


class LoggingBridge(logging.Handler):
    """Turns records of a library's logger into events, so that standard error has one form."""

    def __init__(self, log: EventLog, event: str = "http.problem") -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._event = event

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record."""
        error = ""
        if record.exc_info:
            error = logging.Formatter().formatException(record.exc_info)
        self._log.emit(self._event, message=record.getMessage().strip(), error=error)


def bridge_logger(name: str, log: EventLog) -> None:
    """Send warnings and errors of a library's logger to the event log, and nothing anywhere else."""
    logger = logging.getLogger(name)
    logger.handlers = [LoggingBridge(log)]
    logger.propagate = False
    logger.setLevel(logging.WARNING)
