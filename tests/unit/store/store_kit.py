"""A primary's database with everything real but the applier's process, and a plain model of what its log says."""

import asyncio
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import sqlean

from pando.clock import SystemClock
from pando.errors import PandoError
from pando.ltx import decode_ltx, normalise_page_one, page_checksum
from pando.store.commands import Command
from pando.store.context import StoreContext
from pando.store.files import RealFileSystem
from pando.store.history import Slot
from pando.store.layout import Layout
from pando.store.node_state import NodeState
from pando.store.positions import PositionTable
from pando.store.primary import Hearers, PrimaryDatabase, PrimaryOptions
from pando.store.protocol import Ran, Run
from pando.store.requests import Batch, Execute, Failure, Sequence, Statement, Step, StepOk
from pando.store.writer import WriterOptions
from pando.testing.inline_applier import InlineApplier
from pando.types import Checksum, lock_pgno

RUN_LIMIT_S = 60


def run(coroutine):
    """Run a test's coroutine with a limit, so that a wait that never ends is a failure and not a hang."""

    async def limited():
        return await asyncio.wait_for(coroutine, RUN_LIMIT_S)

    return asyncio.run(limited())


async def wait_until(condition, *, timeout_s=10.0):
    """Wait for something that another thread does."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.001)


def sql(text, *args):
    return Execute(Statement(text, args))


LONG = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) SELECT count(*) FROM n"
"""A statement that is for a thread."""


def insert(value):
    """For the table that `table` makes."""
    return sql("INSERT INTO t VALUES (?)", value)


async def table(db):
    await db.ask(sql("CREATE TABLE t (v)"))


async def values(db):
    return [value for (value,) in await db.rows("SELECT v FROM t ORDER BY rowid")]


def script(text):
    return Sequence(text)


def transaction(*statements):
    """A batch that runs statements in a transaction, each if the one before succeeded."""
    texts = ["BEGIN", *statements, "COMMIT"]
    return Batch(tuple(Step(Statement(text), StepOk(index - 1) if index else None) for index, text in enumerate(texts)))


class Node:
    """What the databases of one store process share, in a directory."""

    def __init__(self, directory, *, fs=None, clock=None, executor=None):
        self.layout = Layout(Path(directory))
        self.layout.make_folders()
        self.fs = fs or RealFileSystem()
        self.clock = clock or SystemClock()
        self.executor = executor or ThreadPoolExecutor(4)
        self.positions = PositionTable.create(self.layout.positions, 8)
        self.applier = InlineApplier(self.positions)
        self.context = StoreContext(
            layout=self.layout,
            fs=self.fs,
            clock=self.clock,
            executor=self.executor,
            state=NodeState.load(self.fs, self.layout.node_state, chance=random.Random(1), node="n1"),
            applier=self.applier,
        )

    def close(self):
        self.executor.shutdown()
        self.positions.close()


class Client:
    """Talks to an open database the way a link does; keeps count of answers."""

    def __init__(self, database, link=1):
        self.database = database
        self.link = link
        self.ids = 0
        self.answers = {}

    def send(self, *requests, session=0, **fields):
        """Submit; gives a future of the answer, which may be an error as a value."""
        self.ids += 1
        number = self.ids
        self.answers[number] = 0
        future = asyncio.get_running_loop().create_future()

        def answer(outcome):
            self.answers[number] += 1
            if not future.done():
                future.set_result(outcome)

        command = Command(
            run=Run(number, self.database.name, session, requests, **fields), key=(self.link, session), answer=answer
        )
        try:
            self.database.submit(command)
        except PandoError as error:
            answer(error)
        return future

    async def ask(self, *requests, session=0, **fields):
        """Submit and wait; raises errors, of the whole or of a request."""
        answer = await self.send(*requests, session=session, **fields)
        if not isinstance(answer, Ran):
            raise answer
        for result in answer.results:
            assert not isinstance(result, Failure), result
            assert not any(getattr(result, "errors", ())), result
        return answer

    async def rows(self, text, *args):
        return (await self.ask(sql(text, *args))).results[0].rows

    def assert_one_answer_each(self):
        wrong = {number: count for number, count in self.answers.items() if count != 1}
        assert not wrong, f"answers that came never or twice: {wrong}"


class Opened:
    """An open primary with what it told the outside."""

    def __init__(self, node):
        self.node = node
        self.database = None
        self.client = None
        self.entries = []
        self.bases = []
        self.confirmed = []

    def __getattr__(self, name):
        return getattr(self.client, name)


@asynccontextmanager
async def opened_primary(node, *, name="data", feed=False, keep_open=False, slot=0, **writer):
    """Open a database as the primary; closes it at the end."""
    opened = Opened(node)
    node.positions.claim(slot, 1)

    def confirm(outcome, ran):
        opened.confirmed.append((outcome.command.run.id, ran.txid))
        outcome.command.answer(ran)

    database = await PrimaryDatabase.open(
        name,
        node.context,
        PrimaryOptions(writer=WriterOptions(**writer), change_feed=frozenset({name}) if feed else frozenset()),
        Slot(table=node.positions, number=slot),
        Hearers(
            confirm=confirm,
            on_durable=lambda _, entry: opened.entries.append(entry),
            on_new_base=lambda _, position: opened.bases.append(position),
        ),
    )
    opened.database = database
    opened.client = Client(database)
    try:
        yield opened
    finally:
        if not keep_open:
            await database.close()


class Image:
    """Pages of a database as a replica in plain Python would hold them: entries are applied with every check."""

    def __init__(self, pages, page_size):
        self.pages = dict(pages)
        self.page_size = page_size

    @property
    def checksum(self):
        value = 0
        for pgno, data in self.pages.items():
            value ^= page_checksum(pgno, data)
        return Checksum(value | 1 << 63)

    def apply(self, entry):
        assert entry.pre_checksum == self.checksum, f"entry {entry.min_txid} does not fit the state before it"
        file = decode_ltx(entry.payload)
        file.check_growth(max(self.pages))
        assert file.header.page_size == self.page_size
        self.pages.update(file.pages)
        self.pages = {pgno: data for pgno, data in self.pages.items() if pgno <= file.header.commit}
        assert max(self.pages) in {file.header.commit, file.header.commit - 1}
        assert entry.post_checksum == self.checksum, f"entry {entry.min_txid} does not give the state that it says"


def copy_database(database, directory):
    """Copy file and WAL of an open database through its raw descriptors (closing others would drop SQLite's locks)."""
    target = Path(directory) / "copy.db"
    raw = database._raw
    for suffix, fd in (("", raw._file), ("-wal", raw._wal)):
        Path(f"{target}{suffix}").write_bytes(os.pread(fd, os.fstat(fd).st_size, 0))
    Path(f"{target}-shm").unlink(missing_ok=True)
    return target


def read_pages(path):
    """Read all pages of a closed database (or a copy) through SQLite's own eyes; gives them and the page size."""
    connection = sqlean.connect(str(path))
    try:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        skip = lock_pgno(size)
        pages = {
            number: normalise_page_one(data) if number == 1 else data
            for number, data in connection.execute("SELECT pgno, data FROM sqlite_dbpage")
            if number != skip
        }
    finally:
        connection.close()
    return pages, size


def image_of(database, directory):
    """What readers of an open database see."""
    pages, size = read_pages(copy_database(database, directory))
    return Image(pages, size)


def check_copy(database, directory):
    """Let SQLite look for damage."""
    path = copy_database(database, directory)
    connection = sqlean.connect(str(path))
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


FOREIGN = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
for line in sys.argv[2:]:
    for row in connection.execute(line).fetchall():
        print(row)
"""


def foreign(path, *statements):
    """Run statements in another process with another SQLite, as somebody with the `sqlite3` program would."""
    done = subprocess.run(
        [sys.executable, "-c", FOREIGN, str(path), *statements], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def foreign_shell(path):
    """Another process that stays connected: gives a function that runs one statement in it."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-uc",
            "import sqlite3, sys\n"
            "c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)\n"
            "for line in sys.stdin:\n"
            "    print(c.execute(line).fetchall())\n",
            str(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run_one(statement):
        process.stdin.write(statement + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, f"{statement!r} failed"
        return line.strip()

    try:
        yield run_one
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def copy_node(source, target):
    """Copy a stopped node's directory."""
    shutil.copytree(source, target)
    return target
