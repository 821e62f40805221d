"""How an answer of PocketBase and one of Pando to the same request differ, apart from what cannot be the same.

Ids that a server makes up are paired: the same id of one must always meet the same id of the other. Tokens are compared
by what they claim, times by being now, texts of errors by there being one. Numbers are compared as they are written.
"""

import base64
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

ID = re.compile(r"[a-z0-9]{15}")
MADE_UP = (
    ID,
    re.compile(r"(.*)\b(idx_(?:tokenKey|email)_)[a-z0-9]{10}(` ON ``.*)", re.DOTALL),
    re.compile(r"(.+_)[a-z0-9]{10}(\.[\w.]+\"?)"),
    re.compile(r"(.*\")?[a-z0-9]{10,12}_[a-z0-9]{10}(\.\w+\"?)?"),
)
"""Texts of which a server makes up those parts that are in no group."""
MADE_UP_KEYS = frozenset({"slug"})
"""Fields whose values a server makes up from a pattern."""
CLONE = re.compile(r"_clone_\w{4}")
"""Ids of columns of views, which PocketBase makes up anew each time."""
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z")
TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+")
NOW_S = 900
"""A time counts as made by the server if it is so near."""
CLAIM_S = 20
BLANK = "Cannot be blank."
"""The one text of an error that programs may look for."""
IGNORED_HEADERS = frozenset({"date", "content-length", "connection", "transfer-encoding", "pando-bookmark"})
ABSENT = object()


class Number(str):
    """A number as it is written."""


@dataclass(frozen=True)
class Answer:
    """What a server said. `value` is the JSON of the body, ABSENT if the body is none."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def value(self):
        try:
            return json.loads(self.body, parse_int=Number, parse_float=Number)
        except ValueError:
            return ABSENT

    @property
    def is_compact(self):
        """Whether the body is JSON as plain as can be."""
        plain = json.dumps(json.loads(self.body), ensure_ascii=False, separators=(",", ":"))
        return self.body.decode("utf-8", "replace") == plain


@dataclass(frozen=True)
class Difference:
    """Where two answers differ, and what each says there."""

    where: str
    theirs: object
    ours: object

    def __str__(self):
        return f"{self.where}: {brief(self.theirs)} | {brief(self.ours)}"


@dataclass
class Comparer:
    """Compares answers of one pair of servers; remembers which ids belong together."""

    ours_of: dict[str, str] = field(default_factory=dict)
    theirs_of: dict[str, str] = field(default_factory=dict)
    is_any_order: bool = False
    """Whether keys may come in any order: PocketBase shuffles what `fields` leaves over."""
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def differences(self, theirs, ours):
        """Name all differences of two answers."""
        if theirs.status != ours.status:
            return [Difference("status", told(theirs), told(ours))]
        found = [Difference(f"header {name}", a, b) for name, a, b in self._headers(theirs, ours)]
        a, b = theirs.value, ours.value
        if a is ABSENT or b is ABSENT:
            return found if theirs.body == ours.body else [*found, Difference("body", theirs.body, ours.body)]
        found += self._values(a, b, "", is_error=theirs.status >= 400)
        if not found and theirs.is_compact and not ours.is_compact:
            found.append(Difference("text", theirs.body, ours.body))
        return found

    def _headers(self, theirs, ours):
        for name in sorted({*theirs.headers, *ours.headers} - IGNORED_HEADERS):
            a, b = theirs.headers.get(name), ours.headers.get(name)
            if a != b and not (a and b and self._same_texts(a, b)):
                yield name, a, b

    def _values(self, a, b, path, *, is_error):
        if isinstance(a, dict) and isinstance(b, dict):
            return self._objects(a, b, path, is_error=is_error)
        if isinstance(a, list) and isinstance(b, list):
            if len(a) != len(b):
                return [Difference(f"{path}[]", a, b)]
            pairs = zip(a, b, strict=True)
            return [each for one, two in pairs for each in self._values(one, two, f"{path}[]", is_error=is_error)]
        if type(a) is type(b) and (a == b or (type(a) is str and self._same_texts(a, b))):
            return []
        if type(a) is type(b) is str and path.rpartition(".")[2] in MADE_UP_KEYS and self._pair(a, b):
            return []
        return [Difference(path, a, b)]

    def _objects(self, a, b, path, *, is_error):
        found = []
        if set(a) != set(b):
            only_a = {key: a[key] for key in a if key not in b}
            only_b = {key: b[key] for key in b if key not in a}
            found.append(Difference(f"{path}{{keys}}", only_a, only_b))
        elif list(a) != list(b) and not self.is_any_order:
            found.append(Difference(f"{path}{{order}}", list(a), list(b)))
        is_told = is_error and "message" in a and ("code" in a or "status" in a)
        for key in a:
            if key not in b:
                continue
            below = f"{path}.{key}" if path else key
            if key == "message" and is_told and a[key] != BLANK:
                found += [] if is_sentence(a[key]) == is_sentence(b[key]) else [Difference(below, a[key], b[key])]
            else:
                found += self._values(a[key], b[key], below, is_error=is_error)
        return found

    def _same_texts(self, a, b):
        if CLONE.fullmatch(a) and CLONE.fullmatch(b):
            return True
        for pattern in MADE_UP:
            one, two = pattern.fullmatch(a), pattern.fullmatch(b)
            if one and two and one.groups() == two.groups():
                return self._pair(a, b)
        if TIME.fullmatch(a) and TIME.fullmatch(b):
            return self._is_now(a) and self._is_now(b)
        if TOKEN.fullmatch(a) and TOKEN.fullmatch(b):
            return self._same_claims(claims(a), claims(b))
        return False

    def _pair(self, a, b):
        if a != b and a not in self.ours_of and b not in self.theirs_of:
            self.ours_of[a], self.theirs_of[b] = b, a
        return a == b or self.ours_of.get(a) == b

    def _is_now(self, text):
        return abs((datetime.fromisoformat(text) - self.now).total_seconds()) < NOW_S

    def _same_claims(self, a, b):
        if not a or set(a) != set(b):
            return False
        return all(self._same_claim(name, a[name], b[name]) for name in a)

    def _same_claim(self, name, a, b):
        if name == "exp":
            return abs(a - b) < CLAIM_S
        return a == b or (isinstance(a, str) and self._same_texts(a, b))


def claims(token):
    """Read what a token claims; {} if it is none."""
    try:
        part = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, IndexError):
        return {}
    return found if isinstance(found, dict) else {}


def is_sentence(text):
    return isinstance(text, str) and text[:1].upper() == text[:1] and text[-1:] in ".!?"


def told(answer):
    """Give status and body of an answer in short."""
    return f"{answer.status} {answer.body.decode('utf-8', 'replace')}"


def brief(value, most=300):
    if value is None or isinstance(value, str):
        text = repr(value) if value is None or not isinstance(value, Number) else str(value)
    elif isinstance(value, bytes):
        text = repr(value)
    else:
        text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else text[:most] + "..."
