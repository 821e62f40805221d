"""`pando superuser`: accounts that may do everything in the records API, made beside a running node or without one.

A node that runs on the directory is asked over its own socket; else one is started for the moment, so that the change
is a commit like any other. Not here: signing in (`pando.records`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from pando.cli.access import UP_LOCK_FILE, find_secret, make_token, own_token
from pando.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption
from pando.cli.output import failures, show
from pando.clock import SystemClock, random_bytes, sleep_blocking, system_random
from pando.errors import InvalidRequest, NotReady, PandoError, PrimaryUnavailable, SqlError

app = typer.Typer(no_args_is_help=True, help="Accounts that may do everything in the records API.")
EmailArgument = Annotated[str, typer.Argument(metavar="EMAIL", help="The address to sign in with.")]
PasswordArgument = Annotated[str, typer.Argument(metavar="PASSWORD", help="8 to 71 characters.")]
NODE_FILE = Path(".pando", "node.json")
"""Tells that a node has run on a directory."""
START_S = 60.0
"""How long a node that is started for this may take."""
ANSWER_S = 30.0
PASSWORD_CHARS_MIN, PASSWORD_CHARS_MAX = 8, 71
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")


@app.command()
def upsert(
    email: EmailArgument,
    password: PasswordArgument,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    as_json: JsonOption = False,
) -> None:
    """Make an account, or give an existing one another password."""
    _save(email, password, directory, as_json=as_json, may_exist=True, may_be_new=True)


@app.command()
def create(
    email: EmailArgument,
    password: PasswordArgument,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    as_json: JsonOption = False,
) -> None:
    """Make an account."""
    _save(email, password, directory, as_json=as_json, may_exist=False, may_be_new=True)


@app.command()
def update(
    email: EmailArgument,
    password: PasswordArgument,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    as_json: JsonOption = False,
) -> None:
    """Give an account another password; who is signed in with it is signed out."""
    _save(email, password, directory, as_json=as_json, may_exist=True, may_be_new=False)


@app.command()
def delete(email: EmailArgument, directory: DirectoryOption = DEFAULT_DIRECTORY, as_json: JsonOption = False) -> None:
    """Remove an account; the last one stays."""
    with failures(as_json=as_json), _node(directory) as node:
        if not node.sql("SELECT 1 FROM _superusers WHERE email = ?", email):
            raise InvalidRequest(f"there is no superuser {email}")
        if node.sql("SELECT count(*) FROM _superusers")[0][0] == "1":
            raise InvalidRequest(f"{email} is the only superuser; make another one first")
        node.sql("DELETE FROM _superusers WHERE email = ?", email)
    show({"deleted": email}, as_json=as_json, human=lambda out: out.print(f"deleted superuser {email}"))


def _save(email: str, password: str, directory: Path, *, as_json: bool, may_exist: bool, may_be_new: bool) -> None:
    with failures(as_json=as_json):
        _check(email, password)
        with _node(directory) as node:
            exists = bool(node.sql("SELECT 1 FROM _superusers WHERE email = ?", email))
            if exists and not may_exist:
                raise InvalidRequest(f"there is a superuser {email} already; `superuser update` changes the password")
            if not exists and not may_be_new:
                raise InvalidRequest(f"there is no superuser {email}; `pando superuser create` makes one")
            node.save(email, password, exists=exists)
    done = "updated" if exists else "created"
    show({done: email}, as_json=as_json, human=lambda out: out.print(f"{done} superuser {email}"))


def _check(email: str, password: str) -> None:
    if not _EMAIL.fullmatch(email) or len(email) > 255:
        raise InvalidRequest(f"{email[:100]!r} is no e-mail address")
    if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
        raise InvalidRequest(f"a password has {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters")


class _Node:
    """A running node, over the socket of one of its web processes."""

    def __init__(self, web_socket: Path, token: str) -> None:
        self._target = str(web_socket)
        self._headers = [(b"authorization", f"Bearer {token}".encode()), (b"content-type", b"application/json")]

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Send a request; gives status and JSON. Raises PandoError."""
        from pando.node.http_client import exchange

        data = b"" if body is None else msgspec.json.encode(body)
        asking = exchange(self._target, method, path, self._headers, data, timeout_s=ANSWER_S)
        status, _, answer = asyncio.run(asking)
        return status, msgspec.json.decode(answer) if answer else None

    def sql(self, text: str, *args: str) -> list[list[str]]:
        """Run one statement; gives rows as texts. Raises SqlError."""
        statement = {"sql": text, "args": [{"type": "text", "value": value} for value in args]}
        requests = [{"type": "execute", "stmt": statement}, {"type": "close"}]
        status, answer = self.ask("POST", "/v2/pipeline", {"requests": requests})
        if status != 200:
            raise NotReady(str(answer.get("message", status)))
        result = answer["results"][0]
        if result["type"] != "ok":
            raise SqlError(result["error"]["message"])
        return [[cell.get("value", "") for cell in row] for row in result["response"]["result"]["rows"]]

    def save(self, email: str, password: str, *, exists: bool) -> None:
        """Write the account; a new token key ends all its tokens."""
        from pando.records.auth.passwords import hash_password
        from pando.records.fields.autogenerate import random_text, record_id
        from pando.records.fields.dates import from_unix_ms

        random = system_random()
        hashed, key, now = (
            hash_password(password, random_bytes(16)),
            random_text(random, 50),
            from_unix_ms(SystemClock().wall_ms()),
        )
        if exists:
            self.sql(
                "UPDATE _superusers SET password = ?, tokenKey = ?, updated = ? WHERE email = ?",
                hashed,
                key,
                now,
                email,
            )
            return
        sql = (
            "INSERT INTO _superusers (id, email, password, tokenKey, verified, emailVisibility, created, updated)"
            " VALUES (?, ?, ?, ?, 1, 0, ?, ?)"
        )
        self.sql(sql, record_id(random), email, hashed, key, now, now)


@contextlib.contextmanager
def _node(directory: Path) -> Iterator[_Node]:
    """Give the node that runs on a directory, started for the moment if none does. Raises PandoError."""
    from pando.node.runtime import sockets_directory

    place = _own_directory(directory)
    is_of_cluster = place != directory or (directory.absolute().parent / UP_LOCK_FILE).exists()
    secret = find_secret(directory) if is_of_cluster else None
    directory = place
    sockets = sockets_directory(directory)
    running = next(filter(_listens, sorted(sockets.glob("web-*.sock"))), None)  # a program's, if it has no others
    web_socket = running or sockets / "web-0.sock"
    if not running and secret is None and (directory / NODE_FILE).exists() and find_secret(directory) is None:
        raise NotReady(  # a node that was given its secret, often a replica: it must not make another one
            f"the secret of {directory} is not at hand: set PANDO_SECRET; on a replica, name the primary's directory"
        )
    with contextlib.nullcontext() if running else _started(directory, web_socket, secret):
        token = make_token(secret) if secret else own_token(directory)  # one that was started has made its secret
        if token is None:
            raise NotReady(f"the secret of {directory} is not at hand; set PANDO_SECRET")
        node = _Node(web_socket, token)
        status, answer = node.ask("GET", "/api/collections/_superusers/auth-methods")  # makes the tables if need be
        if status != 200:
            raise NotReady(f"the node does not serve records: {answer}")
        yield node


def _own_directory(directory: Path) -> Path:
    """Give the directory itself, or that of the primary if it is one of `pando up`."""
    first = directory / "node1"
    is_of_up = (directory / UP_LOCK_FILE).exists() or not (directory / ".pando").exists()
    return first if is_of_up and (first / ".pando").exists() else directory


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


@contextlib.contextmanager
def _started(directory: Path, web_socket: Path, secret: str | None) -> Iterator[None]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "pando", "serve", "--dir", str(directory), "--http", f"127.0.0.1:{port}"]
    environment = os.environ | ({"PANDO_SECRET": secret} if secret else {})
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        _wait(process, web_socket)
        yield
    finally:
        process.terminate()
        process.wait(ANSWER_S)


def _wait(process: subprocess.Popen[bytes], web_socket: Path) -> None:
    clock = SystemClock()
    deadline = clock.monotonic() + START_S
    while True:
        if process.poll() is not None:
            said = process.stdout.read()[-2000:].decode("utf-8", "replace") if process.stdout else ""
            raise NotReady(f"no node can be started on the directory: {said.strip().removeprefix('error: ')}")
        with contextlib.suppress(PrimaryUnavailable, PandoError):
            if _listens(web_socket) and _Node(web_socket, "").ask("GET", "/health")[0] == 200:
                return
        if clock.monotonic() > deadline:
            raise NotReady(f"a node on the directory was not ready after {START_S:g} s")
        sleep_blocking(0.05)
