"""What a collection has without being told: blank ones by type, system fields, ids, secrets, indexes of auth ones.

Ids are made as PocketBase makes them: `pbc_` and the CRC-32 of type and name for collections, type and the CRC-32 of
the name for fields; so the same definition has the same ids on every server. Chance is passed in. Pure. Not here: the
system collections of a new data directory (`pando.records.collections.system`), whether a definition is valid
(`.checks`).
"""

from __future__ import annotations

import zlib
from collections.abc import Collection as Container
from dataclasses import replace
from typing import Final

from msgspec.structs import replace as replaced

from pando.clock import Random
from pando.records import model
from pando.records.collections import mails
from pando.records.collections.sql_tokens import quote
from pando.records.model import AuthOptions, Collection, CollectionType, Field, TokenOptions

ID: Final = "id"
PASSWORD: Final = "password"
TOKEN_KEY: Final = "tokenKey"
EMAIL: Final = "email"
EMAIL_VISIBILITY: Final = "emailVisibility"
VERIFIED: Final = "verified"

ID_PATTERN: Final = "^[a-z0-9]+$"
ID_AUTOGENERATE: Final = "[a-z0-9]{15}"
SECRET_LENGTH: Final = 50
TOKENS: Final = ("auth_token", "password_reset_token", "email_change_token", "verification_token", "file_token")
"""The token options of an auth collection, each with a secret of its own."""

_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def checksum(text: str) -> str:
    """Give the CRC-32 of a text in decimal digits."""
    return str(zlib.crc32(text.encode()))


def collection_id(kind: CollectionType, name: str, taken: Container[str] = ()) -> str:
    """Make the id of a new collection; if another has it already, the first number from 2 that is free is added."""
    return _free(f"pbc_{checksum(f'{kind}{name}')}", taken)


def field_id(kind: str, name: str, taken: Container[str] = ()) -> str:
    """Make the id of a new field, numbered like a collection's if it is taken."""
    return _free(f"{kind}{checksum(name)}", taken)


def _free(base: str, taken: Container[str]) -> str:
    found, number = base, 2
    while found in taken:
        found, number = f"{base}{number}", number + 1
    return found


def secret(random: Random, length: int = SECRET_LENGTH) -> str:
    """Make a secret of letters and digits."""
    return "".join(random.choice(_ALPHABET) for _ in range(length))


# -- fields -----------------------------------------------------------------------------------------------------------


def id_field() -> model.TextField:
    """Make the primary key of a new collection."""
    return model.TextField(
        id=field_id("text", ID),
        name=ID,
        system=True,
        required=True,
        min=15,
        max=15,
        pattern=ID_PATTERN,
        autogenerate_pattern=ID_AUTOGENERATE,
        primary_key=True,
    )


def auth_fields() -> tuple[Field, ...]:
    """Make the five fields that every auth collection has besides its id."""
    return (
        model.PasswordField(
            id=field_id("password", PASSWORD), name=PASSWORD, system=True, hidden=True, required=True, min=8
        ),
        model.TextField(
            id=field_id("text", TOKEN_KEY),
            name=TOKEN_KEY,
            system=True,
            hidden=True,
            required=True,
            min=30,
            max=60,
            autogenerate_pattern="[a-zA-Z0-9]{50}",
        ),
        model.EmailField(id=field_id("email", EMAIL), name=EMAIL, system=True, required=True),
        model.BoolField(id=field_id("bool", EMAIL_VISIBILITY), name=EMAIL_VISIBILITY, system=True),
        model.BoolField(id=field_id("bool", VERIFIED), name=VERIFIED, system=True),
    )


def autodate_fields(*, system: bool = False) -> tuple[Field, ...]:
    """Make `created` and `updated`."""
    return (
        model.AutodateField(id=field_id("autodate", "created"), name="created", system=system, on_create=True),
        model.AutodateField(
            id=field_id("autodate", "updated"), name="updated", system=system, on_create=True, on_update=True
        ),
    )


def system_fields(kind: CollectionType) -> tuple[Field, ...]:
    """Name the fields that a collection of this type always has, in their order."""
    return (id_field(), *auth_fields()) if kind is CollectionType.AUTH else (id_field(),)


# -- auth options and indexes -----------------------------------------------------------------------------------------


def auth_options(random: Random) -> AuthOptions:
    """Make the options of a new auth collection, with new secrets."""
    blank = AuthOptions(
        auth_alert=model.AuthAlert(email_template=mails.AUTH_ALERT),
        otp=model.OtpOptions(email_template=mails.ONE_TIME_PASSWORD),
        verification_template=mails.VERIFICATION,
        reset_password_template=mails.PASSWORD_RESET,
        confirm_email_change_template=mails.EMAIL_CHANGE,
    )
    return with_secrets(blank, random)


def with_secrets(options: AuthOptions, random: Random) -> AuthOptions:
    """Make a secret for each kind of token that has none."""
    made: dict[str, TokenOptions] = {}
    for name in TOKENS:
        if not (token := getattr(options, name)).secret:
            made[name] = replaced(token, secret=secret(random))
    return replaced(options, **made) if made else options


def with_new_auth_secret(options: AuthOptions, random: Random) -> AuthOptions:
    """Change the secret of sign-in tokens, which signs everybody out."""
    return replaced(options, auth_token=replaced(options.auth_token, secret=secret(random)))


def auth_indexes(collection_id: str, name: str) -> tuple[str, ...]:
    """Make the two indexes that an auth collection needs."""
    return (
        f"CREATE UNIQUE INDEX `idx_tokenKey_{collection_id}` ON {quote(name)} (`tokenKey`)",
        f"CREATE UNIQUE INDEX `idx_email_{collection_id}` ON {quote(name)} (`email`) WHERE `email` != ''",
    )


# -- blank collections ------------------------------------------------------------------------------------------------


def blank(kind: CollectionType, name: str, random: Random, *, id: str = "") -> Collection:
    """Make a new collection that has what its type always has."""
    is_auth = kind is CollectionType.AUTH
    own_id = id or collection_id(kind, name)
    return Collection(
        id=own_id,
        name=name,
        type=kind,
        fields=system_fields(kind),
        indexes=auth_indexes(own_id, name) if is_auth else (),
        auth=auth_options(random) if is_auth else None,
    )


def scaffolds(random: Random) -> dict[str, Collection]:
    """Make a nameless collection of each type, as forms for new ones; index names have a part made by chance."""
    part = secret(random, 10).lower()
    return {
        str(kind): replace(made, id="", fields=() if made.is_view else made.fields)
        for kind in (CollectionType.BASE, CollectionType.AUTH, CollectionType.VIEW)
        for made in [blank(kind, "", random, id=part)]
    }


def with_id(each: Field, taken: Container[str] = ()) -> Field:
    """Give a field its id if it has none."""
    return each if each.id else replaced(each, id=field_id(each.type, each.name, taken))
