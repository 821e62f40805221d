"""Does a rule hold for a record that is stored? One question to the database.

Not here: rules of lists (they are part of the query, `listing`) and of records that are not stored yet (`writing`).
"""

from __future__ import annotations

from pando.records.desk import Asking, Desk
from pando.records.engine import Reads
from pando.records.filter import Filter, FilterError, Trust
from pando.records.model import Collection
from pando.records.problems import ApiError, forbidden


class BrokenRule(ApiError):
    """A rule names what is not there any more: as if there were no record. The cause is for the log."""

    def __init__(self) -> None:
        super().__init__(404, "The requested resource wasn't found.")


def may(asking: Asking, rule: str | None) -> str:
    """Give the rule that a caller must satisfy, "" for none. Raises ApiError 403 if only superusers may."""
    if asking.is_superuser:
        return ""
    if rule is None:
        raise forbidden("Only superusers can perform this action.")
    return rule.strip()


async def holds(
    desk: Desk, asking: Asking, collection: Collection, rule: str, id: str, *, reads: Reads | None = None
) -> bool:
    """Tell whether a stored record satisfies a rule; one that names what is not there any more is not satisfied."""
    if not rule.strip():
        return True
    try:
        _, rows = await desk.ask(
            asking, collection, reads=reads, columns=("id",), filters=(Filter(rule, Trust.RULE),), ids=(id,), limit=1
        )
    except FilterError:
        return False
    return bool(rows)
