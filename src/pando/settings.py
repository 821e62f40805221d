"""All settings of a node in one table: the fields of `Settings`, each with its row of facts.

A value comes from the first of: flag, environment (our name, then aliases in the order of the row), file (TOML),
default. Unknown keys and values that cannot be used are errors that name where they stand. docs/settings.md is made
from the table. Not here: flags of other commands; bounds that nobody needs to change (`pando.limits`).
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from pando import limits
from pando.errors import InvalidRequest, InvalidSetting
from pando.public_keys import KEYS_TEXT_MAX, parse_public_keys
from pando.setting_kinds import (
    ADDRESS,
    BASIC,
    BOOL,
    FRESHNESS,
    NAMES,
    NODE_NAME,
    PATH,
    PUBLIC_KEYS,
    PUSH,
    SYNC,
    TEXT,
    URL,
    BadValue,
    Kind,
    choice,
    integer,
    seconds,
    show_address,
    size,
)
from pando.types import Durability, Role

CONFIG_NAME: Final = "pando.toml"
_CONFIG_SIZE_MAX: Final = limits.MIB
OTHER_VARIABLES: Final = frozenset({"PANDO_TOKEN", "PANDO_URL", "PANDO_CONFIG", "PANDO_ALIVE_FD"})
"""Environment names that begin like ours and belong to commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is known of a setting besides its name, type and default."""

    kind: Kind
    help: str
    unit: str = ""
    env: tuple[str, ...] = ()
    flag: str = ""
    since: str = "0.1"
    is_secret: bool = False
    default_text: str = ""


def _row(kind: Kind, help: str, *, aliases: tuple[str, ...] = (), **facts: Any) -> dict[str, Row]:  # noqa: ANN401
    return {"row": Row(kind=kind, help=help, env=aliases, **facts)}


_ROLES: Final = {"primary": Role.PRIMARY, "replica": Role.REPLICA, "standalone": Role.PRIMARY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one node, checked. The environment name of each is PANDO_ and its name in capitals."""

    dir: Path = field(
        default=Path("pando_data"),
        metadata=_row(
            PATH, "Directory of the node: databases, log, secret.", aliases=("DATA_DIR", "SQLD_DB_PATH"), flag="--dir"
        ),
    )
    http: tuple[str, int] = field(
        default=("127.0.0.1", 8090),
        metadata=_row(ADDRESS, "Address of the one HTTP port.", aliases=("SQLD_HTTP_LISTEN_ADDR",), flag="--http"),
    )
    public_url: str = field(
        default="",
        metadata=_row(
            URL,
            "Where other nodes and clients reach this node.",
            aliases=("PUBLIC_URL", "SQLD_HTTP_SELF_URL"),
            flag="--public-url",
            default_text="http:// and the address",
        ),
    )
    role: Role = field(
        default=Role.PRIMARY,
        metadata=_row(
            choice(_ROLES),
            "What the node does. `standalone` and `primary` are the same.",
            aliases=("REPLICA_MODE", "SQLD_NODE"),
            flag="--role",
            default_text="replica when `primary` is set, else primary",
        ),
    )
    primary: str = field(
        default="",
        metadata=_row(
            URL,
            "Address of the primary; makes the node a replica.",
            aliases=("MASTER_URL", "SQLD_PRIMARY_URL"),
            flag="--primary",
            default_text="none",
        ),
    )
    node: str = field(
        default="",
        metadata=_row(
            NODE_NAME,
            "Name of the node, unique in the cluster.",
            aliases=("REPLICA_ID",),
            flag="--node",
            default_text="made at first start and kept",
        ),
    )
    secret: str = field(
        default="",
        repr=False,
        metadata=_row(
            TEXT,
            "Secret that all nodes of the cluster share; keys and tokens are derived from it.",
            aliases=("JWT_SECRET",),
            is_secret=True,
            default_text="made at first start, in DIR/.pando/secret",
        ),
    )
    sql_auth: str = field(
        default="token",
        metadata=_row(
            choice({"token": "token", "open": "open"}),
            "Whether SQL over HTTP needs a token. `open` lets everybody in who reaches the port: for development only.",
            flag="--sql-auth",
        ),
    )
    sql_http_auth: str = field(
        default="",
        repr=False,
        metadata=_row(
            BASIC,
            "Name and password that open SQL by HTTP basic authentication, besides tokens. They open no cluster route.",
            aliases=("SQLD_HTTP_AUTH",),
            is_secret=True,
            default_text="none",
        ),
    )
    sql_jwt_key: tuple[bytes, ...] = field(
        default=(),
        metadata=_row(
            PUBLIC_KEYS,
            "Public keys whose tokens (JWT, EdDSA) open SQL, besides the cluster's own. They open no cluster route.",
            aliases=("SQLD_AUTH_JWT_KEY",),
            is_secret=True,  # who puts in the private key by mistake must not find it in a log
            default_text="none",
        ),
    )
    sql_jwt_key_file: Path | None = field(
        default=None,
        metadata=_row(
            PATH,
            "File with such keys; they are tried one after the other.",
            aliases=("SQLD_AUTH_JWT_KEY_FILE",),
            default_text="none",
        ),
    )
    sql_token_tag: str = field(
        default="",
        metadata=_row(
            TEXT,
            "Tag that stands for all databases of this cluster in the scopes of a token (claim `p`).",
            aliases=("LIBSQL_GID",),
            default_text="none",
        ),
    )
    admin_auth_key: str = field(
        default="",
        repr=False,
        metadata=_row(
            TEXT,
            "What opens the admin API (/v1/namespaces) by HTTP basic authentication, besides administrators' tokens.",
            aliases=("LIBSQL_ADMIN_AUTH_KEY",),
            is_secret=True,
            default_text="none",
        ),
    )
    sql_freshness: str = field(
        default="session",
        metadata=_row(
            FRESHNESS,
            "How fresh reads by SQL are that do not say it (`Pando-Freshness`). A database can be given another.",
            flag="--sql-freshness",
        ),
    )
    web: int = field(
        default=0, metadata=_row(integer(0, 64), "Web processes; 0 is one per core.", unit="processes", flag="--web")
    )
    durability: Durability = field(
        default=Durability.ASYNC,
        metadata=_row(
            choice({str(value): value for value in Durability}),
            "When a write by SQL is answered: fsynced on the primary (`async`), in the logs of a majority (`quorum`), "
            "or shown by every replica that keeps up (`all`). A request can ask for another.",
            flag="--durability",
        ),
    )
    api_durability: Durability = field(
        default=Durability.ALL,
        metadata=_row(
            choice({str(value): value for value in Durability}),
            "The same for writes by the records API, whose clients cannot say what they have written: with `all` they "
            "find it on every node that keeps up. With `quorum` as `durability`, `all` means both.",
            flag="--api-durability",
        ),
    )
    replica_writes: str = field(
        default="forward",
        metadata=_row(
            choice({"forward": "forward", "reject": "reject"}),
            "What a replica does with writes by the records API: passes them on to the primary (`forward`), or answers "
            "403 and names the primary in the headers of all its answers (`reject`).",
            flag="--replica-writes",
        ),
    )
    voters: int = field(
        default=0,
        metadata=_row(
            integer(0, 99),
            "Nodes of which `quorum` needs a majority, the primary included; "
            "0 counts the primary and every replica that it has met.",
            unit="nodes",
            flag="--voters",
        ),
    )
    sync_interval: float = field(
        default=PUSH,
        metadata=_row(
            SYNC,
            "On a replica: when commits are fetched.",
            unit="seconds",
            aliases=("SYNC_INTERVAL",),
            flag="--sync-interval",
        ),
    )
    omit_databases: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            NAMES,
            "On a replica: databases that are not replicated to it.",
            aliases=("REPLICA_OMIT_DBS",),
            flag="--omit-databases",
            default_text="none",
        ),
    )
    change_feed: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            NAMES, "Databases that keep a change feed (table `_changes`).", flag="--change-feed", default_text="none"
        ),
    )
    foreign_keys: bool = field(
        default=True, metadata=_row(BOOL, "Whether SQLite enforces foreign keys.", flag="--foreign-keys")
    )
    statement_time_s: float = field(
        default=limits.STATEMENT_TIME_S,
        metadata=_row(seconds(0.01, 3600), "Longest run of one statement.", unit="seconds"),
    )
    transaction_time_s: float = field(
        default=limits.TRANSACTION_TIME_S,
        metadata=_row(
            seconds(0.01, 3600),
            "How long an interactive transaction may hold the writer while others wait.",
            unit="seconds",
        ),
    )
    bookmark_wait_s: float = field(
        default=limits.BOOKMARK_WAIT_S,
        metadata=_row(seconds(0, 60), "How long a read waits for its bookmark before it is forwarded.", unit="seconds"),
    )
    quorum_wait_s: float = field(
        default=limits.QUORUM_WAIT_S,
        metadata=_row(seconds(0.01, 600), "How long a quorum write waits for a majority.", unit="seconds"),
    )
    shown_wait_s: float = field(
        default=limits.SHOWN_WAIT_S,
        metadata=_row(
            seconds(0.01, 600),
            "How long a write with durability `all` waits for a replica before that no longer counts as one that keeps "
            "up; how late a replica may be before the primary answers its reads of records.",
            unit="seconds",
        ),
    )
    log_size_max: int = field(
        default=limits.LOG_SIZE_BYTES_MAX,
        metadata=_row(
            size(64 * limits.MIB, 1 << 40),
            "Retained log of one database. A replica that is further behind takes a snapshot.",
            unit="bytes",
        ),
    )
    body_size_max: int = field(
        default=limits.BODY_SIZE_BYTES_MAX,
        metadata=_row(
            size(limits.KIB, limits.LINK_FRAME_BYTES_MAX // 2), "Largest request body (imports excepted).", unit="bytes"
        ),
    )
    connections_max: int = field(
        default=limits.CONNECTIONS_MAX,
        metadata=_row(
            integer(16, 1_000_000),
            "Open client connections of the node; past it the longest idle one is told to go.",
            unit="connections",
        ),
    )
    log_level: str = field(
        default="info",
        metadata=_row(
            choice({name: name for name in ("debug", "info", "warning", "error")}),
            "Least level of events that are logged.",
            flag="--log-level",
        ),
    )
    log_format: str = field(
        default="text",
        metadata=_row(choice({"text": "text", "json": "json"}), "Form of log lines.", flag="--log-format"),
    )

    @property
    def is_primary(self) -> bool:
        """Whether the node takes writes itself."""
        return self.role is Role.PRIMARY

    @property
    def own_url(self) -> str:
        """Where this node is reached: the public address, else the HTTP one."""
        if self.public_url:
            return self.public_url
        host, port = self.http
        return "http://" + show_address(("127.0.0.1" if host in {"0.0.0.0", "::"} else host, port))


def rows() -> dict[str, tuple[Field[Any], Row]]:
    """Give the table: for each name the field and its row."""
    return {item.name: (item, item.metadata["row"]) for item in fields(Settings)}


def environment_names(name: str, row: Row) -> tuple[str, ...]:
    """Give the environment names of a setting, ours first."""
    return (f"PANDO_{name.upper()}", *row.env)


def load_settings(
    *,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> Settings:
    """Put the settings together. `flags`: by name of setting, None is "not given". Raises InvalidSetting.

    Without `config` (flag --config or PANDO_CONFIG) the file is DIR/pando.toml if there is one, DIR being what flags
    and environment say.
    """
    given = {name: _plain(value) for name, value in (flags or {}).items() if value is not None}
    env = environ or {}
    _refuse_unknown(given, "flag")
    values = _from_environment(env)
    values.update((name, _parse(name, text, f"flag {_flag_of(name)}")) for name, text in given.items())
    path, is_required = _config_path(config, env, values)
    for name, value in _from_file(path, is_required=is_required).items():
        values.setdefault(name, value)
    return _complete(values)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)


def _flag_of(name: str) -> str:
    return rows()[name][1].flag or f"--{name.replace('_', '-')}"


def _refuse_unknown(names: Mapping[str, object], source: str) -> None:
    known = rows()
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known are: {', '.join(known)}"
            raise InvalidSetting(f"{source}: there is no setting {name!r}{hint}")


def _parse(name: str, text: str, source: str) -> Any:  # noqa: ANN401 - the field's type says it
    row = rows()[name][1]
    try:
        return row.kind.parse(text)
    except BadValue:
        shown = "this value" if row.is_secret else repr(text[:100])
        raise InvalidSetting(f"{source}: {name} cannot be {shown}; allowed: {row.kind.allowed}") from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    known = set(OTHER_VARIABLES)
    for name, (_, row) in rows().items():
        names = environment_names(name, row)
        known.update(names)
        found = next((key for key in names if environ.get(key)), None)
        if found is not None:
            values[name] = _parse(name, environ[found], f"environment {found}")
    for key in environ:
        if key.startswith("PANDO_") and key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InvalidSetting(f"environment {key}: there is no such setting{hint}")
    return values


def _config_path(config: Path | None, environ: Mapping[str, str], values: Mapping[str, Any]) -> tuple[Path, bool]:
    if config is not None:
        return config, True
    if environ.get("PANDO_CONFIG"):
        return Path(environ["PANDO_CONFIG"]), True
    return Path(values.get("dir", Settings.__dataclass_fields__["dir"].default)) / CONFIG_NAME, False


def _from_file(path: Path, *, is_required: bool) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_CONFIG_SIZE_MAX + 1).decode()
        content = tomllib.loads(text[:_CONFIG_SIZE_MAX])
    except FileNotFoundError:
        if is_required:
            raise InvalidSetting(f"file {path}: it is not there") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidSetting(f"file {path}: it cannot be read: {error}") from None
    _refuse_unknown(content, f"file {path}")
    for name, value in content.items():
        if not isinstance(value, str | int | float | bool | list):
            raise InvalidSetting(f"file {path}: {name} cannot be a {type(value).__name__}")
    return {name: _parse(name, _plain(value), f"file {path}") for name, value in content.items()}


def _complete(values: dict[str, Any]) -> Settings:
    role = values.get("role") or (Role.REPLICA if values.get("primary") else Role.PRIMARY)
    if role is Role.REPLICA and not values.get("primary"):
        raise InvalidSetting("a replica needs the address of its primary: set `primary` (--primary, MASTER_URL)")
    if role is Role.PRIMARY:
        values["primary"] = ""  # compose files leave the address in when they change the role
    if values.get("sql_jwt_key_file") is not None:
        values["sql_jwt_key"] = (*values.get("sql_jwt_key", ()), *_keys_of_file(values["sql_jwt_key_file"]))
    return Settings(**{**values, "role": role})


def _keys_of_file(path: Path) -> tuple[bytes, ...]:
    try:
        with path.open("rb") as file:
            return parse_public_keys(file.read(KEYS_TEXT_MAX + 1).decode())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"sql_jwt_key_file: {path} cannot be read: {error}") from None
    except InvalidRequest as error:
        raise InvalidSetting(f"sql_jwt_key_file: {path}: {error.message}") from None
