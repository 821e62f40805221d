import json

import msgspec
import pytest

from pando.errors import InvariantError
from pando.records.auth.methods import (
    ProviderMethod,
    auth_methods,
    signed_in,
)
from pando.records.model import (
    AuthOptions,
    MfaOptions,
    OAuth2Options,
    OtpOptions,
    PasswordAuth,
)

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
