"""Collections and fields as they are kept in `_collections`: plain values, and the `Schema` that finds them.

The JSON forms are PocketBase's (reference: PocketBase 0.40, `GET /api/collections`). Pure. Not here: what values a
field takes (`pando.records.fields`), whether a definition is valid (`pando.records.collections`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

import msgspec


class CollectionType(StrEnum):
    """What a collection is."""

    BASE = "base"
    AUTH = "auth"
    VIEW = "view"


# -- fields -----------------------------------------------------------------------------------------------------------


class _Field(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type"):
    """What all fields have."""

    id: str = ""
    name: str = ""
    system: bool = False
    hidden: bool = False
    presentable: bool = False

    @property
    def type(self) -> str:
        """The type's name in JSON."""
        return str(self.__struct_config__.tag)

    @property
    def is_multiple(self) -> bool:
        """Whether values are lists (select, relation and file fields with `maxSelect` over 1)."""
        return getattr(self, "max_select", 0) > 1


class _Fillable(_Field, frozen=True, kw_only=True, rename="camel", tag_field="type"):
    required: bool = False
    help: str = ""


class TextField(_Fillable, frozen=True, kw_only=True, rename="camel", tag="text"):
    """Text; `max` 0 means 5000 characters."""

    min: int = 0
    max: int = 0
    pattern: str = ""
    autogenerate_pattern: str = ""
    primary_key: bool = False


class EditorField(_Fillable, frozen=True, kw_only=True, rename="camel", tag="editor"):
    """Rich text; `max_size` in bytes, 0 means 5 MiB."""

    max_size: int = 0
    convert_urls: bool = msgspec.field(default=False, name="convertURLs")


class NumberField(_Fillable, frozen=True, kw_only=True, rename="camel", tag="number"):
    """A number."""

    min: float | None = None
    max: float | None = None
    only_int: bool = False


class BoolField(_Fillable, frozen=True, kw_only=True, rename="camel", tag="bool"):
    """True or false."""


class EmailField(_Fillable, frozen=True, kw_only=True, rename="camel", tag="email"):
    """An e-mail address."""

    except_domains: tuple[str, ...] = ()
    only_domains: tuple[str, ...] = ()


class UrlField(_Fillable, frozen=True, kw_only=True, rename="camel", tag="url"):
    """A URL."""

    except_domains: tuple[str, ...] = ()
    only_domains: tuple[str, ...] = ()


class DateField(_Fillable, frozen=True, kw_only=True, rename="camel", tag="date"):
    """A moment, in UTC with milliseconds; bounds in the same text form, "" for none."""

    min: str = ""
    max: str = ""


class AutodateField(_Field, frozen=True, kw_only=True, rename="camel", tag="autodate"):
    """The moment of creation or of the last change."""

    on_create: bool = False
    on_update: bool = False


class SelectField(_Fillable, frozen=True, kw_only=True, rename="camel", tag="select"):
    """One or some of given texts."""

    values: tuple[str, ...] = ()
    max_select: int = 0


class RelationField(_Fillable, frozen=True, kw_only=True, rename="camel", tag="relation"):
    """Ids of records of another collection."""

    collection_id: str = ""
    cascade_delete: bool = False
    min_select: int = 0
    max_select: int = 0


class FileField(_Fillable, frozen=True, kw_only=True, rename="camel", tag="file"):
    """Names of stored files; `max_size` in bytes, 0 means 5 MiB."""

    max_size: int = 0
    max_select: int = 0
    mime_types: tuple[str, ...] = ()
    thumbs: tuple[str, ...] = ()
    protected: bool = False


class JsonField(_Fillable, frozen=True, kw_only=True, rename="camel", tag="json"):
    """Any JSON; `max_size` in bytes, 0 means 1 MiB."""

    max_size: int = 0


class PasswordField(_Fillable, frozen=True, kw_only=True, rename="camel", tag="password"):
    """A bcrypt hash, never shown; `max` 0 means 71 characters, `cost` 0 means 10."""

    min: int = 0
    max: int = 0
    pattern: str = ""
    cost: int = 0


class GeoPointField(_Fillable, frozen=True, kw_only=True, rename="camel", tag="geoPoint"):
    """Longitude and latitude."""


Field = (
    TextField
    | EditorField
    | NumberField
    | BoolField
    | EmailField
    | UrlField
    | DateField
    | AutodateField
    | SelectField
    | RelationField
    | FileField
    | JsonField
    | PasswordField
    | GeoPointField
)


# -- collections ------------------------------------------------------------------------------------------------------


class MailTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """Subject and body of a mail, with placeholders."""

    subject: str = ""
    body: str = ""


class TokenOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens of one kind are signed, and how long they live in seconds."""

    secret: str = ""
    duration: int = 0


class AuthAlert(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Mail about a sign-in from somewhere new."""

    enabled: bool = True
    email_template: MailTemplate = MailTemplate()


class MappedFields(msgspec.Struct, frozen=True, kw_only=True):
    """Which field takes what an OAuth2 provider says."""

    id: str = ""
    name: str = ""
    username: str = ""
    avatar_url: str = msgspec.field(default="", name="avatarURL")


class OAuth2Options(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Sign-in through others; providers are kept as they are."""

    providers: tuple[msgspec.Raw, ...] = ()
    mapped_fields: MappedFields = MappedFields()
    enabled: bool = False


class PasswordAuth(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Sign-in by password."""

    enabled: bool = True
    identity_fields: tuple[str, ...] = ("email",)


class MfaOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A second factor."""

    enabled: bool = False
    duration: int = 600
    rule: str = ""


class OtpOptions(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Sign-in by a code that is mailed."""

    enabled: bool = False
    duration: int = 180
    length: int = 8
    email_template: MailTemplate = MailTemplate()


class AuthOptions(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What only auth collections have. The same keys are in the column `options`."""

    auth_rule: str | None = ""
    manage_rule: str | None = None
    auth_alert: AuthAlert = AuthAlert()
    oauth2: OAuth2Options = OAuth2Options()
    password_auth: PasswordAuth = PasswordAuth()
    mfa: MfaOptions = MfaOptions()
    otp: OtpOptions = OtpOptions()
    auth_token: TokenOptions = TokenOptions(duration=432000)
    password_reset_token: TokenOptions = TokenOptions(duration=1800)
    email_change_token: TokenOptions = TokenOptions(duration=1800)
    verification_token: TokenOptions = TokenOptions(duration=86400)
    file_token: TokenOptions = TokenOptions(duration=180)
    verification_template: MailTemplate = MailTemplate()
    reset_password_template: MailTemplate = MailTemplate()
    confirm_email_change_template: MailTemplate = MailTemplate()


class ViewOptions(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What only view collections have."""

    view_query: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Who may do what: None is superusers only, "" everybody, else a filter."""

    list: str | None = None
    view: str | None = None
    create: str | None = None
    update: str | None = None
    delete: str | None = None


@dataclass(frozen=True, kw_only=True)
class Collection:
    """One collection. `auth` is there for auth collections only, `view_query` is not empty for views only."""

    id: str
    name: str
    type: CollectionType = CollectionType.BASE
    system: bool = False
    fields: tuple[Field, ...] = ()
    indexes: tuple[str, ...] = ()
    rules: Rules = Rules()
    auth: AuthOptions | None = None
    view_query: str = ""
    created: str = ""
    updated: str = ""

    @cached_property
    def by_name(self) -> Mapping[str, Field]:
        """Fields by name, as written."""
        return {each.name: each for each in self.fields}

    @property
    def is_auth(self) -> bool:
        """Whether its records can sign in."""
        return self.type is CollectionType.AUTH

    @property
    def is_view(self) -> bool:
        """Whether it is a query, which nobody can write to."""
        return self.type is CollectionType.VIEW

    def field(self, name: str) -> Field | None:
        """Find a field by its name."""
        return self.by_name.get(name)


SUPERUSERS: Final = "_superusers"
SUPERUSERS_ID: Final = "pbc_3142635823"


@dataclass(frozen=True, slots=True)
class BackRelation:
    """A relation field of another collection that points to this one."""

    collection: Collection
    field: RelationField


@dataclass(frozen=True)
class Schema:
    """All collections at one moment. `version` grows with each change that a process loads."""

    collections: tuple[Collection, ...] = ()
    version: int = 0

    def find(self, reference: str) -> Collection | None:
        """Find a collection by its id, or by its name without regard to case."""
        return self._by_id.get(reference) or self._by_name.get(reference.lower())

    def back_relations(self, collection: Collection) -> Iterable[BackRelation]:
        """Name the relation fields that point to a collection, in the order of collection names."""
        return self._back.get(collection.id, ())

    @cached_property
    def has_managers(self) -> bool:
        """Whether a rule says for some auth collection who manages its records."""
        return any(each.auth is not None and (each.auth.manage_rule or "").strip() for each in self.collections)

    @cached_property
    def _by_id(self) -> dict[str, Collection]:
        return {each.id: each for each in self.collections}

    @cached_property
    def _by_name(self) -> dict[str, Collection]:
        return {each.name.lower(): each for each in self.collections}

    @cached_property
    def _back(self) -> dict[str, list[BackRelation]]:
        found: dict[str, list[BackRelation]] = {}
        for collection in sorted(self.collections, key=lambda each: each.name):
            for each in collection.fields:
                if isinstance(each, RelationField):
                    found.setdefault(each.collection_id, []).append(BackRelation(collection, each))
        return found
