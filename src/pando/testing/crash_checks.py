"""What must hold on every node of a crash test once nothing is written any more.

Rows against the ledger, `integrity_check`, equal bytes at equal positions, and nothing in the logs or in the folder of
evidence that a crash alone explains badly: a divergence that heals by itself is a bug all the same. Not here: killing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pando.clock import Clock, sleep_blocking
from pando.testing.crash_ledger import Ledger, compare
from pando.testing.sql_client import Json, NoAnswer, NotSent, SqlClient
from pando.types import DEFAULT_DATABASE

LOCAL: Final = {"Pando-Freshness": "eventual"}
"""Reads with this header are answered by the node itself, never by the primary."""
PAUSE_S: Final = 0.02
_BAD_LINES: Final = re.compile(
    r"Traceback|process\.failed|request\.failed|store\.diverged|INVARIANT|INTERNAL|CORRUPT|MISMATCH|never awaited"
)
_LINE_SIZE_MAX: Final = 600


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as the checks see it."""

    name: str
    url: str
    directory: Path
    log: Path


class Checks:
    """Compares nodes with the ledger and with each other; every method gives the violations it found."""

    def __init__(self, nodes: Sequence[NodeView], token: str, ledger: Ledger, clock: Clock) -> None:
        """`nodes`: the primary first."""
        self._nodes = nodes
        self._client = SqlClient(token, timeout_s=30.0)
        self._ledger = ledger
        self._clock = clock
        self._log_sizes: dict[Path, int] = {}
        self.epoch = 0
        """Epoch of the history; 0: not known yet. A crash never begins a new one."""
        self.may_diverge = False
        """Whether a divergence that heals is what the test provokes."""

    def wait_caught_up(self, seconds: float) -> list[str]:
        """Wait until every node is at the primary's position."""
        self._client.close()  # connections from before a kill lead nowhere
        deadline = self._clock.monotonic() + seconds
        while True:
            positions = {node.name: self._position(node) for node in self._nodes}
            if None not in positions.values() and len(set(positions.values())) == 1:
                return []
            if self._clock.monotonic() > deadline:
                return [f"not caught up after {seconds:g} s: {positions}"]
            sleep_blocking(PAUSE_S)

    def _position(self, node: NodeView) -> tuple[int, int] | None:
        try:
            status = self._client.ask(node.url, "GET", "/cluster/status").json
        except (NotSent, NoAnswer):
            return None
        for database in status.get("databases", []):
            if database["name"] == DEFAULT_DATABASE:
                return database["epoch"], database["txid"]
        return None

    def check_primary(self) -> list[str]:
        """Acknowledged rows must be on the primary at once."""
        self._client.close()
        return self._guarded(self._rows, self._nodes[:1])

    def check_all(self) -> list[str]:
        """Everything, on all nodes, which must have caught up."""
        wrong = self._guarded(self._rows, self._nodes)
        wrong += self._guarded(self._integrity, self._nodes)
        wrong += self._verify()
        if not self.may_diverge:
            wrong += [line for node in self._nodes for line in self._left_behind(node)]
        return wrong

    def _guarded(self, check: Callable[[NodeView], list[str]], nodes: Sequence[NodeView]) -> list[str]:
        wrong = []
        for node in nodes:
            try:
                wrong += check(node)
            except (NotSent, NoAnswer, ValueError) as error:
                wrong.append(f"{node.name} cannot be checked: {error}")
        return wrong

    def _query(self, node: NodeView, sql: str, *args: str | int) -> list[list[str | int]]:
        return self._client.run(node.url, sql, *args, pando_freshness=LOCAL["Pando-Freshness"]).rows

    def _rows(self, node: NodeView) -> list[str]:
        wrong = []
        for cycle in self._ledger.cycles():
            found = self._query(node, "SELECT grp, count(*) FROM kept WHERE cycle = ? GROUP BY grp", cycle)
            counts = {str(name): int(count) for name, count in found}
            wrong += compare(self._ledger.fates(cycle), counts, f"{node.name}, cycle {cycle}")
        made, gone, there = self._query(node, "SELECT made, gone, (SELECT count(*) FROM kept) FROM total")[0]
        if int(made) - int(gone) != there:
            wrong.append(f"{node.name}: {made} rows made, {gone} deleted, but {there} are there")
        return wrong

    def _integrity(self, node: NodeView) -> list[str]:
        found = self._query(node, "PRAGMA integrity_check")
        return [] if found == [["ok"]] else [f"{node.name}: integrity_check says {found[:5]}"]

    def _verify(self) -> list[str]:
        """Equal positions and equal bytes, as each node finds them in its own file."""
        wrong, seen = [], {}
        for node in self._nodes:
            try:
                answer = self._client.ask(node.url, "GET", f"/cluster/verify?database={DEFAULT_DATABASE}")
            except (NotSent, NoAnswer) as error:
                wrong.append(f"{node.name} cannot be verified: {error}")
                continue
            found = answer.json
            if answer.status != 200:
                wrong.append(f"{node.name} cannot be verified: {answer.status} {found}")
                continue
            if found["checksum"] != found["believed"]:
                wrong.append(f"{node.name} holds other bytes than it believes: {found}")
            seen[node.name] = (found["epoch"], found["txid"], found["checksum"], found["pages"])
        if len(set(seen.values())) > 1:
            wrong.append(f"nodes differ: {seen}")
        return wrong + self._check_epoch(seen)

    def _check_epoch(self, seen: dict[str, tuple[int, int, str, int]]) -> list[str]:
        epochs = {found[0] for found in seen.values()}
        if len(epochs) != 1:
            return []  # has been told
        (epoch,) = epochs
        before, self.epoch = self.epoch or epoch, epoch
        return [] if epoch == before else [f"a new history began: epoch {before} before, {epoch} now"]

    def _left_behind(self, node: NodeView) -> list[str]:
        """Evidence of divergences, and lines in the log that no crash explains."""
        wrong = [f"{node.name} kept evidence: {path.name}" for path in (node.directory / ".pando/evidence").glob("*")]
        size = node.log.stat().st_size if node.log.exists() else 0
        before, self._log_sizes[node.log] = self._log_sizes.get(node.log, 0), size
        with node.log.open("rb") as file:
            file.seek(before if size >= before else 0)
            text = file.read().decode(errors="replace")
        return wrong + [
            f"{node.name} logged: {line[:_LINE_SIZE_MAX]}" for line in text.splitlines() if _BAD_LINES.search(line)
        ]

    # -- housekeeping --

    def drop_old_cycles(self, keep: int) -> None:
        """Delete the rows of all but the newest cycles, so that a long run does not grow. Raises ValueError."""
        old = self._ledger.cycles()[:-keep]
        if not old:
            return
        answer = self._client.run(self._nodes[0].url, "DELETE FROM kept WHERE cycle <= ?", old[-1])
        if answer.error is not None:
            raise ValueError(f"old rows cannot be deleted: {answer.error}")
        for cycle in old:
            self._ledger.forget(cycle)

    def status(self, node: NodeView) -> Json:
        """What a node says of itself; empty when it does not answer."""
        try:
            return self._client.ask(node.url, "GET", "/cluster/status").json
        except (NotSent, NoAnswer):
            return {}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
