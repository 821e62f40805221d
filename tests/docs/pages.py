"""Pages of docs/ that are made from the code: the commands, the errors, the settings.

`make docs` (`python tests/docs/pages.py`) writes them; a test fails when a page is not what this makes.
"""

import inspect
import re
from dataclasses import MISSING, dataclass
from enum import Enum
from pathlib import Path
from typing import get_args, get_type_hints

import typer
from typer.models import ArgumentInfo, ParameterInfo

from pando import errors, settings
from pando.api.metrics import render_metrics
from pando.cli.main import app
from pando.cli.options import DEFAULT_DIRECTORY, DEFAULT_URL
from pando.log import EVENTS
from pando.store.protocol import DatabaseStatus, NodeStatus, ReplicaStatus

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FACTS = re.compile(r"(.*?)(?: \[default: (.*); (PANDO_\w+)\])?", re.DOTALL)
"""What `pando serve` tells of a setting: help, and behind it default and environment."""
NOTE = "<!-- Made by `make docs` from the code: change it there. -->\n"


# -- commands


@dataclass(frozen=True)
class Parameter:
    """An option or argument of a command, as its function declares it."""

    names: tuple[str, ...]
    value: str
    default: object
    variable: str
    help: str
    is_argument: bool


def command_functions(typer_app=app, prefix="pando"):
    """The function of every command by the command's full name, in the order of the help."""
    found = {}
    for info in typer_app.registered_commands:
        found[f"{prefix} {info.name or info.callback.__name__.replace('_', '-')}"] = info.callback
    for group in typer_app.registered_groups:
        found |= command_functions(group.typer_instance, f"{prefix} {group.name or group.typer_instance.info.name}")
    return found


def parameters(function):
    """What a command takes, read from the annotations of its function."""
    hints = get_type_hints(function, include_extras=True)
    for name, declared in inspect.signature(function).parameters.items():
        if hints[name] is typer.Context:
            continue
        info = next(item for item in hints[name].__metadata__ if isinstance(item, ParameterInfo))
        kind = hints[name].__origin__
        default = None if declared.default is inspect.Parameter.empty else declared.default
        text, told_default, told_variable = FACTS.fullmatch(info.help or "").groups()
        yield Parameter(
            names=option_names(info) or (f"--{name.replace('_', '-')}",),
            value=info.metavar or value_name(kind, name),
            default=told_default or default,
            variable=told_variable or info.envvar or "",
            help=text,
            is_argument=isinstance(info, ArgumentInfo),
        )


def option_names(info):
    """In an annotation the first name of an option stands where otherwise its default would."""
    return tuple(item for item in (info.default, *(info.param_decls or ())) if isinstance(item, str))


def value_name(kind, name):
    kinds = [part for part in get_args(kind) or (kind,) if part is not type(None)]
    if kinds[0] is bool:
        return ""
    if isinstance(kinds[0], type) and issubclass(kinds[0], Enum):
        return "|".join(kinds[0])
    return name.upper() if kinds[0] is str else kinds[0].__name__.upper()


def cell(text):
    return " ".join(str(text).split()).replace("|", "\\|")


def parameter_row(parameter):
    value = f" {parameter.value}" if parameter.value else ""
    shown = [parameter.value] if parameter.is_argument else [f"{name}{value}" for name in parameter.names]
    default = "" if parameter.default in (None, "", False, ()) else f"`{parameter.default}`"
    variable = f"`{parameter.variable}`" if parameter.variable else ""
    names = ", ".join(f"`{name}`" for name in shown)
    return f"| {cell(names)} | {cell(default)} | {variable} | {cell(parameter.help)} |"


def command_section(name, function):
    lines = [f"## {name}", "", " ".join(inspect.getdoc(function).split()), ""]
    rows = [parameter_row(parameter) for parameter in parameters(function)]
    if rows:
        lines += ["| option | default | environment | |", "|---|---|---|---|", *rows, ""]
    return lines


def cli_page():
    lines = [
        "# Commands",
        "",
        NOTE,
        "Exit status: 0 done, 1 failed or degraded, 2 wrong use. Data go to standard output, sentences to standard",
        "error; with `--json` standard output is one JSON document, and an error is one JSON line on standard error.",
        "Without `--url` a command asks the node, or the front of `pando up`, that runs on `--dir`, and if none does",
        f"`{DEFAULT_URL}`; without `--token` it makes a token from the secret in `--dir` (`./{DEFAULT_DIRECTORY}`).",
        "`pando sql --json` writes one line for each result, a JSON array of objects. Every command has `--help`.",
        "",
    ]
    for name, function in command_functions().items():
        lines += command_section(name, function)
    return "\n".join(lines).rstrip() + "\n"


# -- errors


BRANCHES = {
    errors.CallerError: ("the caller", "change the request"),
    errors.NotPrimary: ("the caller", "ask the primary instead"),
    errors.RetryLater: ("the caller", "see `retryable`"),
    errors.StorageError: ("the operator", "make room, look at the disk"),
    errors.CorruptionError: ("the operator", "evidence is kept; the database heals by a snapshot or stops"),
    errors.InternalError: ("us", "a bug: tell us, with the log"),
}


def error_classes(base=errors.PandoError):
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from error_classes(kind)


def error_row(kind):
    who, _ = BRANCHES[branch(kind)]
    again = "yes" if kind.retryable else "no"
    meaning = cell(kind.__doc__.splitlines()[0])
    return f"| `{kind.code}` | {kind.status} | {again} | {who} | {meaning} |"


def errors_page():
    seen = {}
    for kind in error_classes():
        seen.setdefault(kind.code, kind)
    order = list(BRANCHES)
    kinds = sorted(seen.values(), key=lambda kind: (order.index(branch(kind)), kind.code))
    branches = [f"| `{kind.__name__}` | {who} | {what} |" for kind, (who, what) in BRANCHES.items()]
    lines = [
        "# Errors",
        "",
        NOTE,
        "An error answer is JSON with `error` (what happened, with which value, and what to do), `code` (stable,",
        "for programs), and `retryable`: whether the same request may be sent again as it is. Never match on the text.",
        "In a pipeline's results an error of one request stands in its place, with `message` and `code`.",
        "",
        "| branch | who acts | what to do |",
        "|---|---|---|",
        *branches,
        "",
        "| code | status | send again | who acts | means |",
        "|---|---|---|---|---|",
        *map(error_row, kinds),
        "",
        "An error of SQLite itself carries SQLite's primary code name as its code (`SQLITE_CONSTRAINT`, ...) and the",
        "extended one as `extended_code`; the SQL layer adds Hrana's codes (`SQL_PARSE_ERROR`, `ARGS_INVALID`, ...).",
        "The commands add `UNREACHABLE` (nothing answers at the address), `NOT_PANDO` (something else answers there),",
        "`NO_SAMPLE_DATA` (the package with the sample data is missing), `HTTP_<status>` (an answer without a code).",
    ]
    return "\n".join(lines) + "\n"


def branch(kind):
    return next(base for base in BRANCHES if issubclass(kind, base))


# -- events


def events_page():
    rows = [
        f"| `{name}` | {kind.level} | {', '.join(f'`{key}`' for key in kind.keys)} | {cell(kind.help)} |"
        for name, kind in EVENTS.items()
    ]
    lines = [
        "# Events",
        "",
        NOTE,
        "Every process of a node writes events to standard error, one line each: time, level, process, name, and the",
        "keys of the event. `--log-format json` writes them as JSON, `--log-level` leaves out what matters less. Names",
        "and keys are stable.",
        "",
        "| event | level | keys | means |",
        "|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


# -- metrics


def metric_help():
    """Name, labels and help of every metric, as /metrics of a node with one database and one replica has them."""
    status = NodeStatus(0, "n", "primary", 1, "", True, [DatabaseStatus(name="d")], [ReplicaStatus(node="r")])
    text = render_metrics(is_ready=True, is_primary=True, connections=0, status=status).decode()
    for name, words in re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE):
        labels = re.search(rf"^{name}(?:{{(.*)}})? ", text, re.MULTILINE).group(1) or ""
        yield name, re.findall(r"(\w+)=", labels), words


def metrics_page():
    rows = [
        f"| `{name}` | {', '.join(f'`{label}`' for label in labels)} | {cell(words)} |"
        for name, labels, words in metric_help()
    ]
    lines = [
        "# Metrics",
        "",
        NOTE,
        "`GET /metrics` of a node gives these gauges in Prometheus' text form. They are made anew for each scrape.",
        "",
        "| gauge | labels | means |",
        "|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


# -- settings


def settings_page():
    lines = [
        "# Settings",
        "",
        "Made from the table in `src/pando/settings.py`; a test compares.",
        "",
        "A value comes from the first of: flag, environment, file, default. The file is `DIR/pando.toml`, or what",
        "`--config` or `PANDO_CONFIG` names; its keys are the names below. The environment name is `PANDO_` and the",
        "name in capitals; the other names listed are those of VSKI and sqld. An unknown key or a bad value stops the",
        "start with the reason.",
        "No setting is read again while a node runs.",
        "",
    ]
    for name, (item, row) in settings.rows().items():
        lines += [f"## `{name}`", "", row.help, "", *setting_facts(name, item, row), ""]
    return "\n".join(lines)


def setting_facts(name, item, row):
    default = row.default_text or f"`{row.kind.show(item.default)}`"
    if item.default is MISSING:
        default = "none, it must be given"
    facts = {
        "type": f"{row.kind.name}: {row.kind.allowed}",
        "unit": row.unit,
        "default": default,
        "flag": f"`{row.flag}`" if row.flag else "",
        "environment": ", ".join(f"`{env}`" for env in settings.environment_names(name, row)),
        "since": row.since,
    }
    return [f"- {key}: {value}" for key, value in facts.items() if value]


PAGES = {
    "cli.md": cli_page,
    "errors.md": errors_page,
    "settings.md": settings_page,
    "events.md": events_page,
    "metrics.md": metrics_page,
}


if __name__ == "__main__":
    for name, make in PAGES.items():
        (DOCS / name).write_text(make())
        print(f"docs/{name}")
