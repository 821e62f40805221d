"""What is checked of auth records besides their fields: passwords, addresses, who may change what.

Not here: hashing (`pando.records.auth`), sign-in (`signing_in`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pando.records.auth.passwords import COST_DEFAULT
from pando.records.bodies import Draft
from pando.records.collections.sql_tokens import quote
from pando.records.desk import Asking, Desk, is_superusers
from pando.records.engine import Statement
from pando.records.fields import FieldValue, casting
from pando.records.fields.autogenerate import random_text
from pando.records.fields.values import PlainPassword
from pando.records.model import Collection, PasswordField
from pando.records.problems import REQUIRED, Problem
from pando.records.record import Record

TOKEN_KEY_CHARS: Final = 50
_MISMATCH: Final = Problem("validation_values_mismatch", "Values don't match.")
_OLD_PASSWORD: Final = Problem("validation_invalid_old_password", "Missing or invalid old password.")
_TAKEN: Final = Problem("validation_invalid_auth_id", "Invalid or duplicated record id.")


def asked_of_new(body: Mapping[str, Any], draft: Draft, *, is_manager: bool) -> dict[str, Problem]:
    """Check what is said of a new auth record's password and more, before its fields are checked."""
    found = _passwords(body, draft, is_new=True)
    if not is_manager and draft.values.get("verified") is True:
        found["verified"] = _MISMATCH
    return found


async def of_new(desk: Desk, asking: Asking, collection: Collection, draft: Draft) -> dict[str, Problem]:
    """Check a new auth record; gives it a token key."""
    if not draft.values.get("tokenKey"):
        draft.values["tokenKey"] = random_text(desk.random, TOKEN_KEY_CHARS)
    if is_superusers(collection):
        draft.values["verified"] = True
    id = draft.values["id"]
    return {"id": _TAKEN} if isinstance(id, str) and await _is_taken(desk, asking, collection, id) else {}


async def asked_of_change(
    desk: Desk, asking: Asking, stored: Record, body: Mapping[str, Any], draft: Draft, *, is_manager: bool
) -> dict[str, Problem]:
    """Check what is said of an auth record's password and what only a manager changes, before its fields are checked.

    A new password or address gets a new token key: all tokens end.
    """
    found = _passwords(body, draft, is_new=False)
    if not is_manager:
        found |= await _old_password(desk, stored, body, draft)
        found |= {name: _MISMATCH for name in ("email", "verified") if _differs(name, stored, draft)}
        if "email" in draft.changed and not asking.viewer.sees_email_of(stored):
            found["email"] = _MISMATCH  # also for the right one: nobody finds out an address by guessing
    if _differs("password", stored, draft) or _differs("email", stored, draft):
        draft.values["tokenKey"] = random_text(desk.random, TOKEN_KEY_CHARS)
        draft.changed.append("tokenKey")
    if is_superusers(stored.collection) and draft.values["verified"] is not True:
        draft.values["verified"] = True
        draft.changed += [] if "verified" in draft.changed else ["verified"]
    return found


def dropped_with(stored: Record, changed: Sequence[str], values: Mapping[str, FieldValue]) -> list[Statement]:
    """Give the statements that end what an auth record's change ends, after that change and only if it is done.

    Codes end with the token key; half a sign-in, and the places that were signed in from, with the password.
    """
    collection = stored.collection
    key = values.get("tokenKey")
    if not collection.is_auth or "tokenKey" not in changed or key == stored.get("tokenKey"):
        return []
    tables = ["_otps"]
    if "password" in changed and values["password"] != stored.get("password"):
        tables += ["_mfas", "_authOrigins"]
    done = f"EXISTS (SELECT 1 FROM {quote(collection.name)} WHERE `id` = ?2 AND `tokenKey` = ?3)"
    args = (collection.id, stored.id, key if isinstance(key, str) else "")
    return [
        Statement(f"DELETE FROM {quote(table)} WHERE `collectionRef` = ?1 AND `recordRef` = ?2 AND {done}", args)
        for table in tables
    ]


def _differs(name: str, stored: Record, draft: Draft) -> bool:
    return name in draft.changed and draft.values[name] != stored.get(name)


def _passwords(body: Mapping[str, Any], draft: Draft, *, is_new: bool) -> dict[str, Problem]:
    """Check that a password is there if anything is said of one, and that it is there twice."""
    password, confirmed, old = _password(draft), _text(body, "passwordConfirm"), _text(body, "oldPassword")
    found: dict[str, Problem] = {}
    if not password and (is_new or confirmed or old):
        found["password"] = REQUIRED
    if confirmed and confirmed != password:
        found["passwordConfirm"] = _MISMATCH
    elif not confirmed and (is_new or password or old):
        found["passwordConfirm"] = REQUIRED
    return found


async def _old_password(desk: Desk, stored: Record, body: Mapping[str, Any], draft: Draft) -> dict[str, Problem]:
    if not _password(draft) and not _text(body, "passwordConfirm"):
        return {}
    old = _text(body, "oldPassword")
    if not old:
        return {"oldPassword": REQUIRED}
    return {} if await desk.passwords.check(old, stored.text("password")) else {"oldPassword": _OLD_PASSWORD}


def _password(draft: Draft) -> str:
    """Give the new password, "" if none is set."""
    password = draft.values.get("password")
    return password.text if isinstance(password, PlainPassword) else ""


def _text(body: Mapping[str, Any], name: str) -> str:
    return casting.to_text(body.get(name))


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
