"""Programs that use Pando, as processes of their own, and what tests ask about the processes around them."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from cluster_kit import is_alive, wait_until

READY_S = 60.0
PROGRAM = """
import asyncio, json, sys
from pando import Pando, PandoError

FIELDS = [{"name": "title", "type": "text", "required": True}]
HEARD = []


async def lines():
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        yield line


async def main():
    app = Pando(sys.argv[1], **json.loads(sys.argv[2]))
    async with app:
        print("ready", flush=True)
        async for line in lines():
            try:
                print(json.dumps(await do(app, *json.loads(line))), flush=True)
            except PandoError as error:
                print(json.dumps({"error": error.code, "message": error.message}), flush=True)


async def do(app, word, *args):
    if word == "sql":
        return (await app.sql(*args)).rows
    if word == "listen":
        await app.subscribe(f"{args[0]}/*", lambda event: HEARD.append(event.record.id))
        return None
    if word == "heard":
        return HEARD
    if word == "send":
        return await app.send(args[0], args[1], body=args[2])
    if word == "define":
        await app.send("POST", "/api/collections", body={"name": args[0], "fields": FIELDS})
        return None
    return await getattr(app.collection(args[0]), word)(*args[1:])


asyncio.run(main())
"""


class Program:
    """A process that uses a directory, and does what it is told."""

    def __init__(self, directory, **settings):
        self.directory = Path(directory)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(directory), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self):
        assert self.process.stdout.readline() == "ready\n", f"it ended with {self.process.wait(READY_S)}"
        return self

    def ask(self, *words):
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def works(self, *words):
        answer = self.ask(*words)
        return not (isinstance(answer, dict) and "error" in answer)

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(READY_S) == 0
        self.process.stdout.close()

    def kill(self):
        self.process.kill()
        self.process.wait(READY_S)
        self.process.stdin.close()
        self.process.stdout.close()


@contextmanager
def programs(directory, count=1, **settings):
    found = [Program(directory, **settings) for _ in range(count)]
    try:
        yield [one.ready() for one in found]
    finally:
        for one in found:
            if not one.process.stdin.closed:
                one.kill()
        wait_until(lambda: not running(directory), READY_S, lambda: f"still there: {running(directory)}")


def running(directory):
    """The processes of the node by role, those that live."""
    try:
        pids = json.loads((Path(directory) / ".pando" / "processes.json").read_text())
    except FileNotFoundError:
        return {}
    return {role: pid for role, pid in pids.items() if is_alive(pid) and is_python(pid)}


def is_python(pid):
    try:
        return b"pando" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def kill(pid, number):
    os.kill(pid, number)
