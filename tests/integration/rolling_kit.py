"""Well-behaved clients that read and write while nodes are stopped and started, and what each of them met."""

import http.client
import json
import select
import threading
from collections import Counter
from contextlib import contextmanager
from urllib.parse import urlsplit

OK = "ok"
REFUSED = "connection refused"
"""Nobody listens there: nothing was sent."""
BROKEN = "broken"
"""A connection that ended where an answer was due."""
RETRYABLE = frozenset({"PRIMARY_UNAVAILABLE", "NOT_READY", "RETRY_LATER"})
"""Codes of errors that say that nothing was done."""


class KeepingClient:
    """One kept connection; a new one after an answer with `Connection: close`, or when it was ended meanwhile."""

    def __init__(self, url, token):
        self._address = urlsplit(url)
        self._headers = {"Authorization": f"Bearer {token}"}
        self._connection = None

    def run(self, sql, *args):
        """Gives what became of a statement: one of the above, or the code of an error."""
        if self._connection is not None and self._has_ended():
            self.close()
        if self._connection is None and not self._connect():
            return REFUSED
        body = {"sql": sql, "args": [{"type": "text", "value": arg} for arg in args]}
        text = json.dumps({"requests": [{"type": "execute", "stmt": body}, {"type": "close"}]})
        try:
            self._connection.request("POST", "/v2/pipeline", text, self._headers)
            answer = self._connection.getresponse()
            found = json.loads(answer.read())
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return f"{BROKEN}: {error!r}"
        if answer.will_close:
            self.close()
        if answer.status != 200:
            return found["code"]
        result = found["results"][0]
        return OK if result["type"] == "ok" else result["error"]["code"]

    def _has_ended(self):
        """As pools of connections do: whether the node has ended the connection since the last answer."""
        looking = select.poll()
        looking.register(self._connection.sock, select.POLLIN)
        return bool(looking.poll(0))

    def _connect(self):
        connection = http.client.HTTPConnection(self._address.hostname, self._address.port, timeout=30)
        try:
            connection.connect()
        except ConnectionRefusedError:
            return False
        self._connection = connection
        return True

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Load:
    """Clients in threads, each busy or pausing between requests for as long as a pool of connections does."""

    def __init__(self, token):
        self._token = token
        self._end = threading.Event()
        self._threads = []
        self._lock = threading.Lock()
        self.phase = ""
        self.met = Counter()
        """(name of the client, phase, what became of a statement) -> how often."""
        self.keys = {}
        """Keys of rows by what became of their INSERT."""

    def add(self, name, url, *, writes, pause_s=0.002):
        thread = threading.Thread(target=self._run, args=(name, url, writes, pause_s), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, name, url, writes, pause_s):
        client = KeepingClient(url, self._token)
        number = 0
        while not self._end.is_set():
            number += 1
            key = f"{threading.get_ident()} {number}"
            phase = self.phase
            found = client.run(*(("INSERT INTO kept VALUES (?)", key) if writes else ("SELECT count(*) FROM kept",)))
            with self._lock:
                self.met[name, phase if found == OK else f"{phase} / {self.phase}", found] += 1
                if writes:
                    self.keys.setdefault(found, []).append(key)
            self._end.wait(pause_s if found == OK else 0.02)
        client.close()

    def count(self, name, found=OK):
        with self._lock:
            return sum(number for (who, _, what), number in self.met.items() if (who, what) == (name, found))

    def failures(self, name, phase=""):
        """What a client met beside answers: {(phase, what): how often}."""
        return {
            (when, what): number
            for (who, when, what), number in self.met.items()
            if who == name and what != OK and phase in when
        }

    def stop(self):
        self._end.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


@contextmanager
def load_on(token):
    load = Load(token)
    try:
        yield load
    finally:
        load.stop()
