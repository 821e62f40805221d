"""Where a connection goes: the URL and its options as one frozen value.

    pando://[:TOKEN@]HOST[:PORT][,HOST[:PORT]...][/DATABASE][?option=value&...]

The scheme is `pando` (plain HTTP, port 8090), `http`, `https`, `ws`, `wss`, or `libsql` (HTTPS, plain with `?tls=0`).
Several nodes may be given in one URL, as several URLs, or as `?node=HOST:PORT`. Pure: the environment is passed in.
Not here: which of the nodes is asked (`pando.client.nodes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from pando.client.exceptions import ProgrammingError
from pando.errors import PandoError
from pando.types import DEFAULT_DATABASE, Durability, parse_database_name

DEFAULT_URL: Final = "pando://127.0.0.1:8090"
PANDO_PORT: Final = 8090
NODES_MAX: Final = 64
"""Addresses that one connection spreads its reads over."""
_SCHEMES: Final = {"pando": False, "http": False, "ws": False, "https": True, "wss": True, "libsql": True}
_ISOLATIONS: Final = ("READ COMMITTED", "SERIALIZABLE")
_TRUE: Final = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """One node."""

    host: str
    port: int
    is_tls: bool = False

    @property
    def url(self) -> str:
        """Its address as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Nodes, database, token, and how to behave."""

    nodes: tuple[Address, ...]
    database: str = DEFAULT_DATABASE
    token: str = ""
    freshness: str = ""
    """`Pando-Freshness` of every request; the node's default when empty."""
    durability: str = ""
    """`Pando-Durability` of every request; the node's default when empty."""
    autocommit: bool = False
    """True: each statement by itself. False: the first write begins a transaction, as PEP 249 has it."""
    isolation: str = "READ COMMITTED"
    """SERIALIZABLE: reads begin the transaction, too, and see what it will write to."""
    retry_s: float = 10.0
    """How long what surely did not take effect is tried again, at other nodes too; 0: never."""
    timeout_s: float = 60.0
    """How long an answer may take."""
    connect_timeout_s: float = 3.0
    share: bool = False
    """Bookmarks are shared with the other connections of this process to the same nodes that say so, too."""


def make_target(urls: str | Iterable[str], options: Mapping[str, Any], environment: Mapping[str, str]) -> Target:
    """Read URLs and options; options win over what the URL says. Raises ProgrammingError."""
    texts = _split(urls if not isinstance(urls, str) else [urls or environment.get("PANDO_URL") or DEFAULT_URL])
    parsed = [_parse(text) for text in texts]
    found: dict[str, Any] = {}
    nodes: dict[Address, None] = {}
    for addresses, given in parsed:
        nodes.update(dict.fromkeys(addresses))
        for name, value in given.items():
            if found.setdefault(name, value) != value:
                raise ProgrammingError(f"the URLs contradict each other about {name}; give it once")
    found |= {name: value for name, value in options.items() if value is not None}
    if not found.get("token"):
        found["token"] = environment.get("PANDO_TOKEN", "")
    if not nodes or len(nodes) > NODES_MAX:
        raise ProgrammingError(f"{len(nodes)} nodes are given; give at least one and at most {NODES_MAX}")
    known = {field.name for field in fields(Target)}
    for name in found:
        if name not in known or name == "nodes":
            raise ProgrammingError(f"there is no option {name!r}; there are: {', '.join(sorted(known - {'nodes'}))}")
    values: dict[str, Any] = {name: _value(name, found[name]) for name in found}
    return _checked(Target(nodes=tuple(nodes), **values))


def _split(urls: Iterable[str]) -> list[str]:
    """Take lists of whole URLs in one text apart; a comma between hosts is left alone."""
    result: list[str] = []
    for text in urls:
        for part in text.split(","):
            if "://" in part or not result:
                result.append(part.strip())
            else:
                result[-1] += f",{part.strip()}"
    return result


def _parse(text: str) -> tuple[list[Address], dict[str, str]]:
    scheme, mark, rest = text.partition("://")
    if not mark or scheme.lower() not in _SCHEMES:
        raise ProgrammingError(f"{_shown(text)} is no URL of nodes: write pando://HOST:PORT/DATABASE")
    authority, _, _ = rest.partition("/")
    authority = authority.partition("?")[0]
    parts = urlsplit(f"http://x{rest[len(authority) :]}")
    credentials, _, hosts = authority.rpartition("@")
    given = dict(_options(parts.query, text))
    is_tls = _SCHEMES[scheme.lower()]
    if "tls" in given:
        is_tls = bool(_boolean("tls", given.pop("tls")))
    names = [*hosts.split(","), *given.pop("node", "").split(",")]
    nodes = [_address(name, scheme.lower(), is_tls, text) for name in names if name]
    if credentials:
        user, _, password = credentials.partition(":")
        given["token"] = unquote(password or user)
    database = unquote(parts.path.strip("/"))
    if database:
        given["database"] = database
    return nodes, given


def _options(query: str, text: str) -> Iterable[tuple[str, str]]:
    nodes = []
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=100)
    except ValueError as error:
        raise ProgrammingError(f"the options of {_shown(text)} cannot be read: {error}") from error
    for name, value in pairs:
        if name == "node":
            nodes.append(value)
        else:
            yield {"authToken": "token"}.get(name, name), value
    if nodes:
        yield "node", ",".join(nodes)


def _address(name: str, scheme: str, is_tls: bool, text: str) -> Address:
    default = PANDO_PORT if scheme == "pando" else 443 if is_tls else 80
    try:
        parts = urlsplit(f"//{name}")
        if parts.hostname and parts.netloc == name and not name.isspace():
            return Address(parts.hostname, parts.port or default, is_tls)
    except ValueError:
        pass
    raise ProgrammingError(f"{name[:80]!r} in {_shown(text)} is no HOST:PORT")


def _shown(text: str) -> str:
    """Show a URL without what may be its token."""
    scheme, mark, rest = text.partition("://")
    return repr(f"{scheme}{mark}{rest.rpartition('@')[2]}".partition("?")[0][:120])


def _boolean(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    found = _TRUE.get(str(value).lower())
    if found is None:
        raise ProgrammingError(f"{name} is {str(value)[:40]!r}; it must be true or false")
    return found


def _value(name: str, value: object) -> object:
    default = getattr(_DEFAULTS, name)
    if isinstance(default, bool):
        return _boolean(name, value)
    if isinstance(default, float):
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number <= 86_400:
            raise ProgrammingError(f"{name} is {str(value)[:40]!r}; it must be a number of seconds")
        return number
    if not isinstance(value, str):
        raise ProgrammingError(f"{name} must be text, not {type(value).__name__}")
    return value


def _checked(target: Target) -> Target:
    isolation = target.isolation.upper().replace("_", " ")
    if isolation not in _ISOLATIONS:
        raise ProgrammingError(f"isolation is {target.isolation[:40]!r}; it must be one of: {', '.join(_ISOLATIONS)}")
    if target.durability and target.durability not in set(Durability):
        raise ProgrammingError(f"durability is {target.durability[:40]!r}; it must be one of: {', '.join(Durability)}")
    level, _, lag = target.freshness.partition("=")
    if target.freshness not in {"", "eventual", "session", "strong"} and not (level == "bounded" and lag.isdigit()):
        raise ProgrammingError(
            f"freshness is {target.freshness[:40]!r}; it must be eventual, session, bounded=MILLISECONDS or strong"
        )
    if not (target.token.isascii() and target.token.isprintable()) or " " in target.token:
        raise ProgrammingError("the token holds characters that no token has")
    try:
        database = parse_database_name(target.database)
    except PandoError as error:
        raise ProgrammingError(error.message, code=error.code) from error
    return replace(target, isolation=isolation, database=database)


_DEFAULTS: Final = Target(nodes=())
