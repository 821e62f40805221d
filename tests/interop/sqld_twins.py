"""The same pipeline to sqld and to Pando, and where their answers differ.

A pipeline names a stream; each side keeps its own baton for it, so a transaction may go over several requests. Not
compared: durations, positions, batons, extended codes (only Pando has them), the wording of errors that are not
SQLite's, the order of rows that no ORDER BY fixes, and long reals in texts digit by digit.
"""

import contextlib
import http.client
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from served_nodes import served_nodes
from sqld_program import served_sqld

TIMEOUT_S = 30
NOT_COMPARED = frozenset({"query_duration_ms", "replication_index", "rows_read", "rows_written"})
ORDERED = re.compile(r"\border\s+by\b|^\s*pragma", re.IGNORECASE)
REAL = re.compile(r"-?\d+\.\d+(?:e[+-]\d+)?")
CLOSE = {"type": "close"}


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One pipeline. Without a stream it is closed at its end. `body`: what is sent instead, as it is."""

    requests: tuple = ()
    stream: str = ""
    path: str = "/v3/pipeline"
    body: str | None = None

    @property
    def label(self):
        text = self.body if self.body is not None else json.dumps(self.requests, ensure_ascii=False)
        return f"{self.path} {text}"[:1500]


@dataclass(frozen=True)
class Entry:
    """What a difference is said of: a statement with its arguments, or a whole request."""

    label: str


@dataclass(frozen=True)
class Difference:
    """Where two answers differ, and what each says there."""

    where: str
    theirs: object
    ours: object

    def __str__(self):
        return f"{self.where}: {self.theirs!r} | {self.ours!r}"


@dataclass
class Side:
    """One server, with the batons that it gave."""

    address: str
    token: str = ""
    batons: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        host, _, port = self.address.partition(":")
        self.connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S)

    def ask(self, ask):
        """Send a pipeline; gives status and decoded answer."""
        status, text = self.exchange(ask.path, self.body_of(ask))
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if ask.stream:
            baton = answer.get("baton") if status == 200 else None
            self.batons.pop(ask.stream, None)
            if baton is not None:
                self.batons[ask.stream] = baton
        return status, answer

    def body_of(self, ask):
        if ask.body is not None:
            return ask.body.encode("utf-8", "surrogatepass")
        requests = [*ask.requests] if ask.stream or ask.path.startswith("/v1") else [*ask.requests, CLOSE]
        return json.dumps({"baton": self.batons.get(ask.stream), "requests": requests}).encode()

    def exchange(self, path, body):
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            self.connection.request("POST", path, body, headers)
            response = self.connection.getresponse()
        except (ConnectionError, http.client.HTTPException):
            self.connection.close()
            self.connection.request("POST", path, body, headers)
            response = self.connection.getresponse()
        return response.status, response.read()


class Twins:
    """Both servers."""

    def __init__(self, theirs, ours):
        self.theirs, self.ours = theirs, ours
        self.pool = ThreadPoolExecutor(2)

    def ask(self, ask):
        """Give the differences of the two answers, each with what it is of."""
        theirs, ours = self.answers(ask)
        return list(differences(ask, theirs, ours))

    def answers(self, ask):
        return tuple(self.pool.map(lambda side: side.ask(ask), (self.theirs, self.ours)))

    def close(self):
        self.pool.shutdown()
        self.theirs.connection.close()
        self.ours.connection.close()


def differences(ask, theirs, ours):
    """Yield what differs, with the entry that it is of."""
    if theirs[0] != ours[0]:
        yield Entry(ask.label), Difference("status", told(theirs), told(ours))
    elif theirs[0] == 200 and "results" not in theirs[1]:
        yield from ((Entry(ask.label), each) for each in of_plain(theirs[1], ours[1]))
    elif theirs[0] == 200:
        pairs = zip(theirs[1]["results"], ours[1]["results"], strict=False)
        requests = [*ask.requests, CLOSE] if ask.requests else json.loads(ask.body)["requests"]
        for request, (a, b) in zip(requests, pairs, strict=False):
            yield from of_result(request, a, b)


def of_plain(a, b):
    """Compare answers of the first version: a statement's result, or a batch's."""
    one, two = a["result"], b["result"]
    if "cols" in one:
        return of_result_set({"sql": "order by"}, one, two)
    errors = [[each and each["code"] for each in result["step_errors"]] for result in (one, two)]
    return [Difference("codes", *errors)] if errors[0] != errors[1] else []


def told(answer):
    """Give a status, with the code of the error if it has one."""
    status, body = answer
    code = body.get("code") if isinstance(body, dict) else None
    return f"{status} {code}" if code else str(status)


def of_result(request, a, b):
    entry = Entry(label_of(request))
    if a["type"] == b["type"] == "ok" and request["type"] == "batch":
        one, two = a["response"]["result"], b["response"]["result"]
        for number, step in enumerate(request["batch"]["steps"]):
            first = one["step_errors"][number], one["step_results"][number]
            second = two["step_errors"][number], two["step_results"][number]
            yield from of_step(step["stmt"], first, second)
    elif a["type"] == b["type"] == "ok":
        yield from ((entry, each) for each in of_values(request, a["response"], b["response"]))
    else:
        yield from ((entry, each) for each in of_errors(a.get("error"), b.get("error")))


def of_step(statement, theirs, ours):
    entry = Entry(label_of({"type": "execute", "stmt": statement}))
    if theirs[0] or ours[0] or theirs[1] is None or ours[1] is None:
        found = of_errors(theirs[0], ours[0])
        if not found and (theirs[1] is None) != (ours[1] is None):
            found = [Difference("is run", theirs[1] is not None, ours[1] is not None)]
    else:
        found = of_result_set(statement, theirs[1], ours[1])
    yield from ((entry, each) for each in found)


def of_errors(a, b):
    """Compare two errors, either of which may be missing."""
    codes = a and a["code"], b and b["code"]
    if not (a and b):
        return [Difference("error", shown(a), shown(b))] if a or b else []
    found = []
    if codes[0] != codes[1]:
        found.append(Difference("code", *codes))
    if all(code.startswith("SQLITE_") for code in codes) and a["message"] != b["message"]:
        found.append(Difference("message", a["message"], b["message"]))
    return found


def shown(error):
    return None if error is None else f"{error['code']}: {error['message']}"


def of_values(request, a, b):
    if request["type"] == "execute":
        return of_result_set(request["stmt"], a["result"], b["result"])
    one, two = a.get("result", a), b.get("result", b)
    return [Difference(name, one.get(name), two.get(name)) for name in one | two if one.get(name) != two.get(name)]


def of_result_set(statement, a, b):
    one, two = dict(a, rows=told_rows(a["rows"])), dict(b, rows=told_rows(b["rows"]))
    if not ORDERED.search(statement.get("sql") or ""):
        one["rows"], two["rows"] = sorted(one["rows"], key=repr), sorted(two["rows"], key=repr)
    names = [name for name in one | two if name not in NOT_COMPARED]
    return [Difference(name, one.get(name), two.get(name)) for name in names if one.get(name) != two.get(name)]


def told_rows(rows):
    """Give rows with twelve digits of each real in texts: newer SQLite writes as many as it needs to read it back."""
    return [
        [dict(cell, value=in_short(cell["value"])) if cell["type"] == "text" else cell for cell in row] for row in rows
    ]


def in_short(text):
    return REAL.sub(lambda found: f"{float(found[0]):.12g}", text)


def label_of(request):
    """Give a request as text: its SQL, and arguments if it has some."""
    statement = request.get("stmt", request)
    if statement.get("sql") is None:
        return json.dumps(request, ensure_ascii=False)
    rest = {name: value for name, value in statement.items() if name not in {"type", "sql"} and value != []}
    arguments = f" {json.dumps(rest, ensure_ascii=False)}" if rest else ""
    kind = "" if request["type"] == "execute" else f"{request['type']}: "
    return f"{kind}{statement['sql']}{arguments}".replace("\n", "\\n")


@contextlib.contextmanager
def sql_twins(folder, role="primary"):
    """Start both with empty databases, end them afterwards. With role `replica`, that one is asked."""
    roles = ("primary",) if role == "primary" else ("primary", role)
    with contextlib.ExitStack() as stack:
        theirs = Side(stack.enter_context(served_sqld(folder / "sqld")))
        (folder / "pando").mkdir()
        nodes = stack.enter_context(served_nodes(folder / "pando", roles))
        found = Twins(theirs, Side(nodes.addresses[role], nodes.token))
        stack.callback(found.close)
        yield found
