"""The collections that every data directory has: five of the system, and `users`.

Their ids, fields, indexes and rules are PocketBase's, which looks for them by name. Pure. Not here: the tables that
collections and settings are kept in (`pando.records.collections.directory`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from msgspec.structs import replace as replaced

from pando.clock import Random
from pando.errors import invariant
from pando.records import model
from pando.records.collections import defaults
from pando.records.model import SUPERUSERS, Collection, CollectionType, Field, Rules

MFAS: Final = "_mfas"
OTPS: Final = "_otps"
EXTERNAL_AUTHS: Final = "_externalAuths"
AUTH_ORIGINS: Final = "_authOrigins"
USERS: Final = "users"
USERS_ID: Final = "_pb_users_auth_"

SUPERUSER_TOKEN_S: Final = 86_400
_OWN: Final = "@request.auth.id != '' && recordRef = @request.auth.id && collectionRef = @request.auth.collectionId"
_SELF: Final = "id = @request.auth.id"
_IMAGES: Final = ("image/jpeg", "image/png", "image/svg+xml", "image/gif", "image/webp")


def first_collections(random: Random, now: str) -> tuple[Collection, ...]:
    """Make the collections of a new data directory, in the order of their making."""
    made = (mfas(), otps(), external_auths(), auth_origins(), superusers(random), users(random))
    return tuple(replace(each, created=now, updated=now) for each in made)


def mfas() -> Collection:
    """Make `_mfas`: sign-ins that wait for a second factor."""
    fields = (*_references(), _text("method"))
    index = "CREATE INDEX `idx_mfas_collectionRef_recordRef` ON `_mfas` (collectionRef,recordRef)"
    return _base(MFAS, fields, (index,), Rules(list=_OWN, view=_OWN))


def otps() -> Collection:
    """Make `_otps`: hashes of codes that were mailed."""
    password = model.PasswordField(
        id=defaults.field_id("password", "password"), name="password", system=True, hidden=True, required=True, cost=8
    )
    sent_to = replaced(_text("sentTo"), hidden=True, required=False)
    index = "CREATE INDEX `idx_otps_collectionRef_recordRef` ON `_otps` (collectionRef, recordRef)"
    return _base(OTPS, (*_references(), password, sent_to), (index,), Rules(list=_OWN, view=_OWN))


def external_auths() -> Collection:
    """Make `_externalAuths`: who is who at OAuth2 providers."""
    return _base(
        EXTERNAL_AUTHS,
        (*_references(), _text("provider"), _text("providerId")),
        (
            "CREATE UNIQUE INDEX `idx_externalAuths_record_provider`"
            " ON `_externalAuths` (collectionRef, recordRef, provider)",
            "CREATE UNIQUE INDEX `idx_externalAuths_collection_provider`"
            " ON `_externalAuths` (collectionRef, provider, providerId)",
        ),
        Rules(list=_OWN, view=_OWN, delete=_OWN),
    )


def auth_origins() -> Collection:
    """Make `_authOrigins`: places that somebody has signed in from."""
    index = (
        "CREATE UNIQUE INDEX `idx_authOrigins_unique_pairs` ON `_authOrigins` (collectionRef, recordRef, fingerprint)"
    )
    return _base(
        AUTH_ORIGINS, (*_references(), _text("fingerprint")), (index,), Rules(list=_OWN, view=_OWN, delete=_OWN)
    )


def superusers(random: Random) -> Collection:
    """Make `_superusers`: who may do everything."""
    blank = defaults.blank(CollectionType.AUTH, SUPERUSERS, random)
    invariant(blank.id == model.SUPERUSERS_ID, "ids are PocketBase's", id=blank.id)
    auth = blank.auth or defaults.auth_options(random)
    return replace(
        blank,
        system=True,
        fields=(*blank.fields, *defaults.autodate_fields(system=True)),
        auth=replaced(auth, auth_token=replaced(auth.auth_token, duration=SUPERUSER_TOKEN_S)),
    )


def users(random: Random) -> Collection:
    """Make `users`, with which an application may begin."""
    blank = defaults.blank(CollectionType.AUTH, USERS, random, id=USERS_ID)
    auth = blank.auth or defaults.auth_options(random)
    mapped = model.MappedFields(name="name", avatar_url="avatar")
    return replace(
        blank,
        fields=(
            *blank.fields,
            model.TextField(id=defaults.field_id("text", "name"), name="name", max=255),
            model.FileField(id=defaults.field_id("file", "avatar"), name="avatar", max_select=1, mime_types=_IMAGES),
            *defaults.autodate_fields(),
        ),
        rules=Rules(list=_SELF, view=_SELF, create="", update=_SELF, delete=_SELF),
        auth=replaced(auth, oauth2=replaced(auth.oauth2, mapped_fields=mapped)),
    )


def _base(name: str, fields: tuple[Field, ...], indexes: tuple[str, ...], rules: Rules) -> Collection:
    return Collection(
        id=defaults.collection_id(CollectionType.BASE, name),
        name=name,
        system=True,
        fields=(defaults.id_field(), *fields, *defaults.autodate_fields(system=True)),
        indexes=indexes,
        rules=rules,
    )


def _references() -> tuple[Field, ...]:
    return _text("collectionRef"), _text("recordRef")


def _text(name: str) -> model.TextField:
    return model.TextField(id=defaults.field_id("text", name), name=name, system=True, required=True)
