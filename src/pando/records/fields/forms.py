"""Bodies of forms, multipart or urlencoded, as the JSON object that they stand for.

Parts named `@jsonPayload` hold JSON objects. Other text is guessed: `true` and `false` are bools, text that a number
would print as is that number, all else stays text. A key that comes several times is a list. A part of its own is
stronger than the same key inside a payload.

Pure. Not here: taking bodies apart and receiving files (`pando.api`), batch bodies as a whole
(`pando.api.records_batch`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pando.records.fields import casting, jsontext
from pando.records.fields.values import JsonValue, NewFile
from pando.records.model import Collection, FileField
from pando.records.problems import bad_request

PAYLOAD: Final = "@jsonPayload"
PARTS_MAX: Final = 10_000
"""Parts of one body, several times the fields of a large collection with a list in each."""

_NUMBER_CHARS: Final = re.compile(r"[-.0-9]+", re.ASCII)


def read_form(parts: Sequence[tuple[str, str]]) -> dict[str, object]:
    """Read text parts in their order. Raises ApiError 400 for payloads that are no JSON objects, and too many parts."""
    if len(parts) > PARTS_MAX:
        raise bad_request(f"A form has {PARTS_MAX} parts at most.")
    payloads: dict[str, object] = {}
    named: dict[str, list[object]] = {}
    for name, text in parts:
        if name == PAYLOAD:
            payloads.update(_payload(text))
        else:
            named.setdefault(name, []).append(guess(text))
    return payloads | {name: values[0] if len(values) == 1 else values for name, values in named.items()}


def guess(text: str) -> bool | int | float | str:
    """Guess what a text part means."""
    if text in ("true", "false"):
        return text == "true"
    if _NUMBER_CHARS.fullmatch(text):
        value = casting.to_number(text)
        if casting.plain_number(value) == text:
            return value
    return jsontext.mend(text)


def with_files(
    collection: Collection, body: Mapping[str, object], files: Iterable[tuple[str, NewFile]]
) -> dict[str, object]:
    """Add files to a body, each under its part's name (`f`, `f+` or `+f` of a file field), behind names given there.

    Files whose part has another name are dropped.
    """
    found = dict(body)
    grouped: dict[str, list[NewFile]] = {}
    for name, file in files:
        if isinstance(collection.field(name.removeprefix("+").removesuffix("+")), FileField):
            grouped.setdefault(name, []).append(file)
    for name, new in grouped.items():
        found[name] = [*casting.items_of(found.get(name)), *new]
    return found


def _payload(text: str) -> Mapping[str, JsonValue]:
    try:
        found = jsontext.decode(text)
    except jsontext.InvalidJson as error:
        raise bad_request(f"The part {PAYLOAD} is not JSON.") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise bad_request(f"The part {PAYLOAD} must be a JSON object.")
    return found
