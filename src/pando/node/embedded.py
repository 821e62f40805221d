"""The supervisor as a program that uses Pando starts it: a process of its own, which the program's end ends too.

    python -m pando.node.embedded OWNER_FD HAS_PORT FLAGS

It leaves its starter's session, so that a terminal's Ctrl-C is for the program alone, and is nobody's child, so that
nobody has to wait for it. Not here: starting and finding it (`pando.embedded.attaching`).
"""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import replace
from typing import TextIO

NOWHERE = ("127.0.0.1", 0)
"""The address of a node without a port: what other nodes are told of it reaches nobody."""
OURS = "PANDO_"
"""How the environment names begin that count: a program's own DATA_DIR or JWT_SECRET is not meant for us."""


def main(arguments: list[str]) -> int:
    """Run a node for whoever holds the other end of the descriptor; gives the exit status."""
    owner_fd, has_port, flags = int(arguments[0]), arguments[1] == "1", json.loads(arguments[2])
    if os.fork():
        os._exit(0)
    os.setsid()
    sys.stderr = _Deaf(sys.stderr)

    from pando.errors import PandoError
    from pando.node.children import node_children, store_children
    from pando.node.owners import tell_failure
    from pando.node.supervisor import run
    from pando.settings import load_settings

    owner = socket.socket(fileno=owner_fd)
    owner.set_inheritable(False)
    try:
        environ = {name: value for name, value in os.environ.items() if name.startswith(OURS)}
        settings = load_settings(flags=flags, environ=environ)
        if not has_port:
            settings = replace(settings, http=NOWHERE)
        make = node_children if has_port else store_children
        return run(settings, make_children=make, owner=owner, has_port=has_port)
    except PandoError as error:
        tell_failure(owner, error)
        return 1


class _Deaf:
    """Standard error for processes that outlive whoever reads it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write if anybody reads."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        """Write what is held back, if anybody reads."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
