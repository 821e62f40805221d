"""What the parts of a store process share, made once at its start."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

from pando.clock import Clock
from pando.store.applier_client import ApplierClient
from pando.store.files import FileSystem
from pando.store.layout import Layout
from pando.store.node_state import NodeState


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreContext:
    """What the parts of a store process share."""

    layout: Layout
    fs: FileSystem
    clock: Clock
    executor: Executor
    state: NodeState
    applier: ApplierClient
    sync_executor: Executor | None = None
    """Threads for the fsyncs of logs, so that long statements do not keep them waiting; None: `executor` does them."""
    read_executor: Executor | None = None
    """Threads for long reads of other nodes, so that they keep no writer waiting; None: `executor` does them."""
