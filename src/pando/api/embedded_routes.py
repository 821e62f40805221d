"""Makes what answers clients that keep a local file, for one process. Not here: the protocols."""

from __future__ import annotations

from pando.api.embedded_node import EmbeddedNode, EmbeddedServices
from pando.api.embedded_v2 import EmbeddedV2
from pando.api.http import Handler
from pando.sql.embedded_table import GenerationTable
from pando.sql.system import SystemDatabase


class Embedded:
    """All routes of these protocols."""

    def __init__(self, services: EmbeddedServices, system: SystemDatabase) -> None:
        self._node = EmbeddedNode(services)
        self._v2 = EmbeddedV2(self._node, GenerationTable(system))

    def routes(self) -> dict[str, Handler]:
        """Give the handlers by the first name of their paths."""
        return self._v2.routes()

    def close(self) -> None:
        """End what runs."""
        self._node.close()
