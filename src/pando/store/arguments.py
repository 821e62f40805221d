"""The arguments of a statement, brought into the order of its parameters. Pure. Not here: what SQLite can hold."""

from __future__ import annotations

from pando.errors import SqlError
from pando.store.requests import Statement, Value

Args = tuple[Value, ...]


def bad_args(reason: str) -> SqlError:
    """Make the error for arguments that a statement cannot have."""
    return SqlError(f"Arguments do not match SQL parameters: {reason}", code="ARGS_INVALID")


def bind(parameters: tuple[str | None, ...], statement: Statement) -> Args:
    """Bring arguments into the order of the parameters; raises SqlError unless they fit exactly."""
    args = statement.args
    if statement.named_args:
        if args:
            raise SqlError(
                "Specifying both positional and named arguments is not supported",
                code="ARGS_BOTH_POSITIONAL_AND_NAMED",
            )
        return _bind_named(parameters, statement.named_args)
    if len(args) < len(parameters):
        raise bad_args(f"value for parameter {parameters[len(args)] or len(args) + 1} not found")
    if len(args) > len(parameters):
        raise bad_args(f"too many parameters, expected {len(parameters)} found {len(args)}")
    return args


def _bind_named(parameters: tuple[str | None, ...], named: tuple[tuple[str, Value], ...]) -> Args:
    values = dict(named)
    result: list[Value] = []
    used: set[str] = set()
    for index, parameter in enumerate(parameters, start=1):
        name = next((form for form in _name_forms(parameter) if form in values), None)
        if name is None:
            raise bad_args(f"value for parameter {parameter or index} not found")
        used.add(name)
        result.append(values[name])
    if len(used) != len(values):
        surplus = sorted(values.keys() - used)
        raise bad_args(f"the statement has no parameter {surplus[0][:80]!r}")
    return tuple(result)


def _name_forms(parameter: str | None) -> tuple[str, ...]:
    return () if parameter is None else (parameter, parameter[1:])
