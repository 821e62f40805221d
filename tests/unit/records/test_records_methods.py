import json

import msgspec
import pytest

from pando.errors import InvariantError
from pando.records.auth.methods import (
    Attempt,
    ProviderMethod,
    auth_methods,
    identity_attempts,
    looks_like_mail,
    password_auth_of,
    signed_in,
)
from pando.records.model import (
    AuthOptions,
    Collection,
    CollectionType,
    MfaOptions,
    OAuth2Options,
    OtpOptions,
    PasswordAuth,
)
from pando.records.problems import ApiError, ValidationFailed

PROVIDER = ProviderMethod(name="github", display_name="GitHub", state="s", auth_url="u", auth_url_old="u")


def shown(options, providers=()):
    return msgspec.json.encode(auth_methods(options, providers)).decode()


def test_auth_methods_of_a_new_collection():
    assert shown(AuthOptions()) == (
        '{"password":{"identityFields":["email"],"enabled":true},"oauth2":{"providers":[],"enabled":false},'
        '"mfa":{"enabled":false,"duration":0},"otp":{"enabled":false,"duration":0},'
        '"authProviders":[],"usernamePassword":false,"emailPassword":true}'
    )


def test_auth_methods_with_all_on():
    options = AuthOptions(
        password_auth=PasswordAuth(identity_fields=("username", "email")),
        oauth2=OAuth2Options(enabled=True),
        mfa=MfaOptions(enabled=True, duration=60),
        otp=OtpOptions(enabled=True, duration=90),
    )
    provider = (
        '{"name":"github","displayName":"GitHub","logo":"","state":"s","authURL":"u","authUrl":"u",'
        '"codeVerifier":"","codeChallenge":"","codeChallengeMethod":""}'
    )
    assert shown(options, [PROVIDER]) == (
        '{"password":{"identityFields":["username","email"],"enabled":true},'
        f'"oauth2":{{"providers":[{provider}],"enabled":true}},'
        '"mfa":{"enabled":true,"duration":60},"otp":{"enabled":true,"duration":90},'
        f'"authProviders":[{provider}],"usernamePassword":true,"emailPassword":true}}'
    )


def test_what_is_off_shows_nothing():
    options = AuthOptions(
        password_auth=PasswordAuth(enabled=False, identity_fields=("username", "email")),
        mfa=MfaOptions(enabled=False, duration=60),
    )
    found = json.loads(shown(options, [PROVIDER]))
    assert found["password"] == {"identityFields": [], "enabled": False}
    assert (found["oauth2"]["providers"], found["authProviders"]) == ([], [])
    assert (found["usernamePassword"], found["emailPassword"]) == (False, False)
    assert found["mfa"] == {"enabled": False, "duration": 0}


def test_the_answer_of_a_sign_in():
    assert signed_in(b'{"id":"r1"}', "t") == b'{"record":{"id":"r1"},"token":"t"}'
    assert signed_in(b'{"id":"r1"}', "t", b'{"isNew":true}') == (
        b'{"meta":{"isNew":true},"record":{"id":"r1"},"token":"t"}'
    )
    for record, meta in ((b"", None), (b"{}", b"")):
        with pytest.raises(InvariantError):
            signed_in(record, "t", meta)


def users(*fields, indexes=()):
    auth = AuthOptions(password_auth=PasswordAuth(identity_fields=fields))
    return Collection(id="u", name="users", type=CollectionType.AUTH, auth=auth, indexes=indexes)


@pytest.mark.parametrize(
    ("fields", "identity", "asked", "expected"),
    [
        (("email",), "a@b.c", "", ["email"]),
        (("email",), "someone", "", ["email"]),
        (("username", "email"), "a@b.c", "", ["email", "username"]),
        (("username", "email"), "someone", "", ["username", "email"]),
        (("username", "phone"), "a@b.c", "", ["username", "phone"]),
        (("username", "email"), "a@b.c", "username", ["username"]),
        (("username", "email"), "someone", "email", ["email"]),
        ((), "someone", "", []),
    ],
)
def test_where_an_identity_is_looked_for(fields, identity, asked, expected):
    assert [each.field for each in identity_attempts(users(*fields), identity, asked)] == expected


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ("CREATE UNIQUE INDEX `i` ON `users` (`email` COLLATE NOCASE) WHERE `email` != ''", True),
        ("create unique index i on users (email collate nocase)", True),
        ("CREATE UNIQUE INDEX `i` ON `users` (`email`) WHERE `email` != ''", False),
        ("CREATE UNIQUE INDEX `i` ON `users` (`email` COLLATE BINARY)", False),
        ("CREATE INDEX `i` ON `users` (`email` COLLATE NOCASE)", False),
        ("CREATE UNIQUE INDEX `i` ON `users` (`name` COLLATE NOCASE)", False),
        ("CREATE UNIQUE INDEX `i` ON `users` (`email` COLLATE NOCASE, `name`)", False),
        ("nonsense", False),
    ],
)
def test_letters_are_compared_as_the_unique_index_does(index, expected):
    assert identity_attempts(users("email", indexes=(index,)), "x") == (Attempt("email", expected),)


@pytest.mark.parametrize("asked", ["name", "Email", "tokenKey"])
def test_a_field_that_is_no_identity_is_refused(asked):
    with pytest.raises(ValidationFailed) as caught:
        identity_attempts(users("email"), "x", asked)
    assert caught.value.data["identityField"].code == "validation_in_invalid"


def test_collections_without_passwords():
    with pytest.raises(ApiError) as caught:
        password_auth_of(Collection(id="p", name="posts"))
    assert caught.value.status == 404
    off = AuthOptions(password_auth=PasswordAuth(enabled=False))
    with pytest.raises(ApiError) as caught:
        identity_attempts(Collection(id="u", name="users", type=CollectionType.AUTH, auth=off), "x")
    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@b.c", True),
        ("first.last+tag@example.co.uk", True),
        ("user@localhost", True),
        ("someone", False),
        ("a@b@c", False),
        ("@b.c", False),
        ("a@", False),
        ("a b@c.d", False),
        ("a@b..c", False),
        ("a" * 400 + "@b.c", False),
    ],
)
def test_what_looks_like_mail(text, expected):
    assert looks_like_mail(text) is expected
