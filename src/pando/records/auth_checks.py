"""What is checked of auth records besides their fields: passwords, addresses, who may change what.

Not here: hashing (`pando.records.auth`), sign-in (`signing_in`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pando.records.auth.passwords import COST_DEFAULT
from pando.records.bodies import Draft
from pando.records.collections.sql_tokens import quote
from pando.records.desk import Asking, Desk, is_superusers
from pando.records.fields import FieldValue
from pando.records.fields.autogenerate import random_text
from pando.records.fields.values import PlainPassword
from pando.records.model import Collection, PasswordField
from pando.records.problems import REQUIRED, Problem
from pando.records.record import Record

TOKEN_KEY_CHARS: Final = 50
_MISMATCH: Final = Problem("validation_values_mismatch", "Values don't match.")
_OLD_PASSWORD: Final = Problem("validation_invalid_old_password", "Missing or invalid old password.")
_TAKEN: Final = Problem("validation_invalid_auth_id", "Invalid or duplicated record id.")


async def of_new(
    desk: Desk, asking: Asking, collection: Collection, body: Mapping[str, Any], draft: Draft, *, is_manager: bool
) -> dict[str, Problem]:
    """Check a new auth record; gives it a token key."""
    found = _confirmation(body, draft.values.get("password"))
    if not is_manager and draft.values.get("verified") is True:
        found["verified"] = _MISMATCH
    if not draft.values.get("tokenKey"):
        draft.values["tokenKey"] = random_text(desk.random, TOKEN_KEY_CHARS)
    if is_superusers(collection):
        draft.values["verified"] = True
    id = draft.values["id"]
    if isinstance(id, str) and await _is_taken(desk, asking, collection, id):
        found["id"] = _TAKEN
    return found


async def of_changed(
    desk: Desk, asking: Asking, stored: Record, body: Mapping[str, Any], draft: Draft, *, is_manager: bool
) -> dict[str, Problem]:
    """Check a change of an auth record; a new password or address gets a new token key: all tokens end."""
    found: dict[str, Problem] = {}
    password = draft.values.get("password")
    is_new_password = isinstance(password, PlainPassword)
    if is_new_password:
        found |= _confirmation(body, password)
        if not is_manager and not await _knows_old_password(desk, stored, body):
            found["oldPassword"] = _OLD_PASSWORD
    elif "password" in draft.changed:  # "" changes nothing
        draft.changed.remove("password")
        draft.values["password"] = stored.get("password")
    if not is_manager:
        found |= {name: _MISMATCH for name in ("email", "verified") if _differs(name, stored, draft)}
        if "email" in draft.changed and not asking.viewer.sees_email_of(stored):
            found["email"] = _MISMATCH  # also for the right one: nobody finds out an address by guessing
    if is_new_password or _differs("email", stored, draft):
        draft.values["tokenKey"] = random_text(desk.random, TOKEN_KEY_CHARS)
        draft.changed.append("tokenKey")
    return found


def _differs(name: str, stored: Record, draft: Draft) -> bool:
    return name in draft.changed and draft.values[name] != stored.get(name)


def _confirmation(body: Mapping[str, Any], password: FieldValue) -> dict[str, Problem]:
    confirm = body.get("passwordConfirm")
    if not isinstance(password, PlainPassword):
        return {}
    if confirm is None or confirm == "":
        return {"passwordConfirm": REQUIRED}
    return {} if confirm == password.text else {"passwordConfirm": _MISMATCH}


async def _knows_old_password(desk: Desk, stored: Record, body: Mapping[str, Any]) -> bool:
    old = body.get("oldPassword")
    return isinstance(old, str) and bool(old) and await desk.passwords.check(old, stored.text("password"))


async def _is_taken(desk: Desk, asking: Asking, collection: Collection, id: str) -> bool:
    """Tell whether a record of another auth collection has this id."""
    others = [each for each in asking.schema.collections if each.is_auth and each.id != collection.id]
    for other in others:
        if await desk.engine.reads().query(f"SELECT 1 FROM {quote(other.name)} WHERE `id` = ?", (id,)):
            return True
    return False


async def hashed(desk: Desk, collection: Collection, values: Mapping[str, FieldValue]) -> dict[str, FieldValue]:
    """Give the values with passwords hashed. Raises Overloaded."""
    found = dict(values)
    for name, value in values.items():
        if isinstance(value, PlainPassword):
            each = collection.field(name)
            cost = (each.cost if isinstance(each, PasswordField) else 0) or COST_DEFAULT
            found[name] = await desk.passwords.hash(value.text, cost)
    return found
