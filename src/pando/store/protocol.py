"""Messages on a link to a store process, one tagged union each way.

A link is a byte stream (a unix socket from a web process or the applier of the same node, or a TCP connection that a
web process handed over after `GET /cluster/link`). Frames are a 4-byte big-endian length and a msgpack array of
messages: what was said in one turn of the event loop travels together. New fields get defaults; nothing is renamed or
retyped.

Replication messages are in `pando.replication.messages` and travel on the same kind of link. Not here: sockets.
"""

from __future__ import annotations

import msgspec

from pando.store.requests import Request, Result

PROTOCOL_VERSION = 1


# -- asked of the store --


class Run(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Run requests in order on the writer of a database. Answered by Ran or Refused.

    `session` 0: what is left open at the end is rolled back. Otherwise the number, chosen by the client of the link,
    names a session that may keep a transaction open from one Run to the next.

    `read_only`: nothing may be written, and nothing stays open. It runs beside the writer, so it waits for no
    transaction and ends none. `is_patient`: it can do without the writer, so no open transaction is ended for it.
    """

    id: int
    database: str
    session: int
    requests: tuple[Request, ...]
    durability: str = ""
    read_only: bool = False
    is_patient: bool = False


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Stop the Run of this id if it still waits or runs; it is answered by Refused."""

    id: int


class EndSession(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Roll back and forget a session. Not answered."""

    session: int


class OpenDatabase(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Open a database so that it can be read. Answered by Opened."""

    id: int
    database: str


class ListDatabases(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Answered by Listed."""

    id: int


class CreateDatabase(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Make an empty database. Answered by Opened."""

    id: int
    database: str


class ImportDatabase(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Take the SQLite file at `path` (on this machine) as the content of a database. Answered by Opened."""

    id: int
    database: str
    path: str
    replace: bool = False


class DeleteDatabase(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Remove a database and its log. Answered by Finished."""

    id: int
    database: str


class WaitPosition(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Answer Finished once the database shows this commit, Refused after the time. Epoch first, then txid."""

    id: int
    database: str
    epoch: int
    txid: int
    timeout_s: float


class GetStatus(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Answered by NodeStatus."""

    id: int


class VerifyDatabase(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Read every page and compare with the rolling checksum. Answered by Verified."""

    id: int
    database: str


class SyncNow(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """On a replica with a sync interval: fetch what is missing now. Answered by Finished when up to date."""

    id: int


class Watch(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """From a web process of the node: push Committed for a database from now on, or no more. Answered by Finished.

    If the database is open, its position follows at once: a link that was lost has missed no commit unheard.
    """

    id: int
    database: str
    wanted: bool = True


class WaitShown(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """To the primary: answer Finished once every replica that keeps up shows this commit, or nobody waits any longer.

    It is answered at once by a store that cannot tell: a replica's, or one in another epoch.
    """

    id: int
    database: str
    epoch: int
    txid: int


class CheckpointDatabase(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """To the primary: move a database's WAL into its file now, as far as readers allow. Answered by Finished."""

    id: int
    database: str


StoreRequest = (
    Run
    | Cancel
    | EndSession
    | OpenDatabase
    | ListDatabases
    | CreateDatabase
    | ImportDatabase
    | DeleteDatabase
    | WaitPosition
    | GetStatus
    | VerifyDatabase
    | SyncNow
    | Watch
    | WaitShown
    | CheckpointDatabase
)


# -- answered by the store --


class Ran(msgspec.Struct, array_like=True, tag=101):
    """Results in the order of the requests; `epoch` and `txid` make the bookmark of what this run read and wrote."""

    id: int
    results: list[Result]
    epoch: int
    txid: int
    is_autocommit: bool


class Refused(msgspec.Struct, array_like=True, tag=102):
    """The whole request failed. Fields as in `pando.errors`."""

    id: int
    code: str
    message: str
    status: int
    retryable: bool


class Opened(msgspec.Struct, array_like=True, tag=103):
    """Where to read the database: its file, and its slot in the positions table (see `pando.store.positions`)."""

    id: int
    path: str
    slot: int
    generation: int


class Listed(msgspec.Struct, array_like=True, tag=104):
    """Names of all databases of the node."""

    id: int
    names: tuple[str, ...]


class Finished(msgspec.Struct, array_like=True, tag=105):
    """Done, nothing to tell."""

    id: int


class Verified(msgspec.Struct, array_like=True, tag=106):
    """Checksum computed from the pages at a position, beside the one that the node believes."""

    id: int
    epoch: int
    txid: int
    checksum: int
    believed: int
    pages: int


class DatabaseStatus(msgspec.Struct, kw_only=True):
    """One database of a node, as it stands. Lag is against the newest position that the node has heard of."""

    name: str
    epoch: int = 0
    txid: int = 0
    checksum: str = ""
    head_txid: int = 0
    lag_txids: int = 0
    lag_bytes: int = 0
    lag_s: float = 0.0
    size_bytes: int = 0
    wal_size_bytes: int = 0
    log_size_bytes: int = 0
    state: str = "open"
    reason: str = ""


class ReplicaStatus(msgspec.Struct, kw_only=True):
    """One replica as its upstream sees it. `have` is fsynced in its log, `applied` is visible to its readers."""

    node: str
    url: str = ""
    connected: bool = False
    lag_txids: int = 0
    lag_bytes: int = 0
    lag_s: float = 0.0
    databases: dict[str, list[int]] = {}


class NodeStatus(msgspec.Struct, array_like=True, tag=107):
    """What a node says of itself."""

    id: int
    node: str
    role: str
    epoch: int
    primary_url: str
    upstream_connected: bool
    databases: list[DatabaseStatus]
    replicas: list[ReplicaStatus]
    processes: dict[str, int] = {}


class Topology(msgspec.Struct, array_like=True, tag=108):
    """Pushed at the start of a link and when it changes: who is who.

    `stopping`: the store stops. It answers what it was asked, or refuses it, and waits for the other side to end the
    link once it has all answers.
    """

    node: str
    role: str
    epoch: int
    primary_url: str
    ready: bool
    reason: str = ""
    stopping: bool = False


class Committed(msgspec.Struct, array_like=True, tag=109):
    """Pushed to links that asked (`Watch`) after commits became visible: these tables changed (empty: any).

    One notice may stand for many commits; `txid` is that of the last.
    """

    database: str
    epoch: int
    txid: int
    tables: tuple[str, ...] = ()


StoreAnswer = Ran | Refused | Opened | Listed | Finished | Verified | NodeStatus | Topology | Committed
