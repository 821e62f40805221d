"""Makes what answers clients that keep a local file, for one process. Not here: the protocols."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from pando.api.embedded_node import EmbeddedNode, EmbeddedServices
from pando.api.embedded_node import Service as CopyService
from pando.api.embedded_sessions import ProxySessions, remove_old_marks
from pando.api.embedded_sessions import Service as RunService
from pando.api.embedded_v1 import EmbeddedV1
from pando.api.embedded_v2 import EmbeddedV2
from pando.api.http import Handler
from pando.sql.embedded_table import GenerationTable
from pando.sql.system import SystemDatabase

MARKS_FOLDER: Final = "proxied"


class Service(CopyService, RunService, Protocol):
    """What is needed of the SQL service."""


class Embedded:
    """All routes of these protocols."""

    def __init__(
        self,
        services: EmbeddedServices,
        service: Service,
        system: SystemDatabase,
        *,
        index: int,
        web_socket: Callable[[int], Path],
        processes_file: Path,
    ) -> None:
        table = GenerationTable(system)
        marks = services.layout.own / MARKS_FOLDER
        clock = services.clock
        remove_old_marks(marks, lambda: clock.wall_ms() / 1000)
        self._node = EmbeddedNode(services)
        self._sessions = ProxySessions(service, clock, marks)
        self._v2 = EmbeddedV2(self._node, table)
        self._v1 = EmbeddedV1(
            self._node, table, self._sessions, index=index, web_socket=web_socket, processes_file=processes_file
        )

    def routes(self) -> dict[str, Handler]:
        """Give the handlers by the first name of their paths."""
        return {**self._v2.routes(), **self._v1.routes()}

    def close(self) -> None:
        """End what runs."""
        self._sessions.close()
        self._node.close()
