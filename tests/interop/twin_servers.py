"""The same request to PocketBase and to Pando, and what their answers have in common.

A request may name what an earlier answer said: `{step:path.to.value}` in its path, headers and body stands for that
value, on each side for its own.
"""

import contextlib
import http.client
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pocketbase_program import ROOT, served_pando, served_pocketbase
from twin_answers import ABSENT, Answer, Comparer, Number

TIMEOUT_S = 30
LABEL_MAX = 1500
SHUFFLED = ("fields=", "/meta/scaffolds", "/api/health")
"""Where PocketBase gives keys in any order."""
PLACEHOLDER = re.compile(r"\{(\w+):([\w.-]+)\}")


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request. `by` names who asks: a step that signed somebody in, "" for a guest. `step` names the answer."""

    method: str
    path: str
    body: Any = None
    by: str = "root"
    headers: dict[str, str] = field(default_factory=dict)
    step: str = ""

    @property
    def label(self):
        text = (
            ""
            if self.body is None
            else f" {self.body if isinstance(self.body, str | bytes) else json.dumps(self.body)}"
        )
        who = "" if self.by == "root" else f" by {self.by or 'guest'}"
        return f"{self.method} {self.path}{who}{text}"[:LABEL_MAX]


class Side:
    """One of the two servers, a connection to it, and what it has answered."""

    def __init__(self, served):
        self.served = served
        self.kept = {}
        host, _, port = served.address.partition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S)

    def ask(self, ask):
        body = self._body(ask)
        headers = {name: self._filled(value) for name, value in ask.headers.items()}
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        if ask.by and "Authorization" not in headers:
            headers["Authorization"] = str(self._kept(ask.by, "token"))
        answer = self._exchange(ask.method, self._filled(ask.path), body, headers)
        if ask.step and answer.value is not ABSENT:
            self.kept[ask.step] = answer.value
        return answer

    def _exchange(self, method, path, body, headers):
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
        except (ConnectionError, http.client.RemoteDisconnected):
            self._connection.close()  # it was kept open for longer than the server wanted
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())

    def _body(self, ask):
        if ask.body is None or isinstance(ask.body, bytes):
            return ask.body
        text = ask.body if isinstance(ask.body, str) else json.dumps(ask.body)
        return self._filled(text).encode()

    def _filled(self, text):
        return PLACEHOLDER.sub(lambda found: str(self._kept(found[1], found[2])), text)

    def _kept(self, step, path):
        value = self.kept.get(step)
        for part in path.split("."):
            if isinstance(value, dict):
                value = value.get(part)
            else:
                value = value[int(part)] if isinstance(value, list) and int(part) < len(value) else None
        return value if isinstance(value, (str, Number)) else json.dumps(value)

    def close(self):
        self._connection.close()


class Twins:
    """Both servers. `ask` gives the differences of their answers."""

    def __init__(self, theirs, ours):
        self.theirs, self.ours = Side(theirs), Side(ours)
        self.comparer = Comparer()
        self.asked = 0
        self._pool = ThreadPoolExecutor(2)

    def ask(self, ask):
        answers = self.answers(ask)
        self.comparer.is_any_order = any(each in ask.path for each in SHUFFLED)
        return self.comparer.differences(*answers)

    def answers(self, ask):
        self.asked += 1
        return tuple(self._pool.map(lambda side: side.ask(ask), (self.theirs, self.ours)))

    def sign_in(self, step="root", identity=ROOT[0], password=ROOT[1], collection="_superusers"):
        """Sign in on both sides, for `by`."""
        path = f"/api/collections/{collection}/auth-with-password"
        body = {"identity": identity, "password": password}
        return self.ask(Ask(method="POST", path=path, body=body, by="", step=step))

    def close(self):
        self.theirs.close()
        self.ours.close()
        self._pool.shutdown()


@contextlib.contextmanager
def twins(folder):
    """Start both with empty data directories, end them afterwards."""
    with contextlib.ExitStack() as stack:
        theirs = stack.enter_context(served_pocketbase(folder / "pocketbase"))
        ours = stack.enter_context(served_pando(folder / "pando"))
        found = Twins(theirs, ours)
        stack.callback(found.close)
        found.sign_in()
        yield found
