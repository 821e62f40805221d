"""What checks of a definition have to ask others: the filter compiler, patterns, OAuth2. Interfaces only.

Not here: the answers (`pando.records.filter`, `pando.records.fields`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from pando.records.collections.directory import INTERNAL_TABLES
from pando.records.model import Collection as Definition
from pando.records.model import TextField
from pando.records.problems import Problem, Problems, ValidationFailed

Found = Problem | Problems | None
"""What is wrong with one key, if anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is needed of other modules."""

    rule: Callable[[Definition, str], str | None]
    """Says what is wrong with a rule of a collection, whose definition is the new one; None if nothing is."""
    pattern: Callable[[str], bool]
    """Says whether a text is a regular expression."""
    generate: Callable[[str], str | None]
    """Makes a text of a pattern for generated values; None if that is no such pattern."""
    takes: Callable[[TextField, str], bool]
    """Says whether a value would pass a field's checks."""
    providers: Collection[str]
    """Names of the OAuth2 providers that there are."""
    internal_tables: Collection[str] = INTERNAL_TABLES
    """Tables and indexes of the database that are not collections', in lower case."""


def gathered(found: Mapping[str, Found]) -> Problems:
    """Keep the keys with which something is wrong."""
    return {key: each for key, each in found.items() if each}


def refuse(found: Problems) -> None:
    """Raise ValidationFailed if anything is wrong."""
    if found:
        raise ValidationFailed(found)


def first(*found: Found) -> Found:
    """Give the first that is wrong."""
    return next((each for each in found if each), None)
