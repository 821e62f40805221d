import json

import pytest

from pando.errors import CorruptionError
from pando.records.app_settings import AppSettings, read_settings, shown, write_settings
from pando.records.problems import ApiError, ValidationFailed
from pando.records.settings_change import check, merged


def test_defaults_have_pocketbase_s_keys_in_its_order():
    value = json.loads(shown(AppSettings()))
    assert list(value) == [
        "superuserIPs",
        "smtp",
        "backups",
        "s3",
        "meta",
        "rateLimits",
        "trustedProxy",
        "batch",
        "logs",
    ]
    assert value["batch"] == {"enabled": False, "maxRequests": 50, "timeout": 3, "maxBodySize": 0}
    assert value["meta"]["appURL"] == "http://localhost:8090"
    assert [rule["label"] for rule in value["rateLimits"]["rules"]] == ["*:auth", "*:create", "/api/batch", "/api/"]


def test_secrets_are_kept_and_not_shown():
    made = merged(
        AppSettings(),
        {"smtp": {"password": "hidden-1"}, "s3": {"secret": "hidden-2"}, "backups": {"s3": {"secret": "hidden-3"}}},
    )
    assert b"hidden" not in shown(made)
    assert read_settings(write_settings(made)) == made
    assert merged(made, {"smtp": {"port": 25}}).smtp.password == "hidden-1"


def test_a_change_is_merged_object_by_object_and_lists_are_replaced():
    made = merged(AppSettings(), {"batch": {"enabled": True, "maxRequests": 7}, "rateLimits": {"rules": []}})
    assert (made.batch.max_requests, made.batch.timeout, made.rate_limits.rules) == (7, 3, ())


@pytest.mark.parametrize(
    ("change", "path", "code"),
    [
        ({"meta": {"appName": ""}}, ("meta", "appName"), "validation_required"),
        ({"batch": {"enabled": True, "maxRequests": 0}}, ("batch", "maxRequests"), "validation_required"),
        (
            {"batch": {"enabled": True, "timeout": -1}},
            ("batch", "timeout"),
            "validation_min_greater_equal_than_required",
        ),
        ({"smtp": {"enabled": True, "host": ""}}, ("smtp", "host"), "validation_required"),
        (
            {"smtp": {"host": "h", "port": -1}},
            ("smtp", "port"),
            "validation_min_greater_equal_than_required",
        ),
        ({"logs": {"maxDays": 2**53}}, ("logs", "maxDays"), "validation_max_less_equal_than_required"),
        ({"logs": {"minLevel": 2**53}}, ("logs", "minLevel"), "validation_max_less_equal_than_required"),
        ({"s3": {"enabled": True}}, ("s3", "bucket"), "validation_required"),
        ({"s3": {"endpoint": "nothing"}}, ("s3", "endpoint"), "validation_is_url"),
        ({"backups": {"s3": {"enabled": True}}}, ("backups", "s3", "secret"), "validation_required"),
        ({"backups": {"cron": "60 * * * *"}}, ("backups", "cron"), "validation_invalid_cron"),
        ({"backups": {"cron": "@daily", "cronMaxKeep": 0}}, ("backups", "cronMaxKeep"), "validation_required"),
        ({"meta": {"appName": "x" * 256}}, ("meta", "appName"), "validation_length_out_of_range"),
        ({"meta": {"appName": None}}, ("meta", "appName"), "validation_required"),
        ({"meta": {"appURL": "nothing"}}, ("meta", "appURL"), "validation_is_url"),
        ({"meta": {"senderAddress": "nothing"}}, ("meta", "senderAddress"), "validation_is_email"),
        ({"meta": {"accentColor": "#fff"}}, ("meta", "accentColor"), "validation_length_invalid"),
        ({"meta": {"accentColor": "1234567"}}, ("meta", "accentColor"), "validation_is_hex_color"),
        ({"smtp": {"host": "a b"}}, ("smtp", "host"), "validation_is_host"),
        ({"smtp": {"host": "-a"}}, ("smtp", "host"), "validation_is_host"),
        ({"smtp": {"authMethod": "plain"}}, ("smtp", "authMethod"), "validation_in_invalid"),
        ({"superuserIPs": ["::1", "10.0.0.1/33"]}, ("superuserIPs", "1"), "validation_invlaid_ip_or_subnet"),
        ({"rateLimits": {"enabled": True, "rules": []}}, ("rateLimits", "rules"), "validation_required"),
        ({"rateLimits": {"rules": [None]}}, ("rateLimits", "rules", "0", "label"), "validation_required"),
        (
            {"rateLimits": {"rules": [{"label": "a b"}]}},
            ("rateLimits", "rules", "0", "label"),
            "validation_match_invalid",
        ),
        ({"rateLimits": {"excludedIPs": [""]}}, ("rateLimits", "excludedIPs", "0"), "validation_required"),
        (
            {"rateLimits": {"enabled": True, "rules": [{"label": "a:b", "duration": 1, "maxRequests": 1}] * 2}},
            ("rateLimits", "rules", "1", "label"),
            "validation_conflicting_rate_limit_rule",
        ),
        (
            {
                "rateLimits": {
                    "enabled": True,
                    "rules": [{"label": "a", "audience": "x", "duration": 1, "maxRequests": 1}],
                }
            },
            ("rateLimits", "rules", "0", "audience"),
            "validation_in_invalid",
        ),
    ],
)
def test_what_cannot_be_used_is_named(change, path, code):
    with pytest.raises(ValidationFailed) as caught:
        merged(AppSettings(), change)
    found = caught.value.data
    for step in path:
        found = found[step]
    assert found.code == code


@pytest.mark.parametrize(
    "change",
    [
        {"superuserIPs": ["127.0.0.1", "10.1.2.3/8", "fe80::/10"]},
        {"smtp": {"host": "a_b.example.", "port": 70000, "authMethod": "LOGIN", "localName": "::1"}},
        {"smtp": {"host": "", "port": 0}},
        {"rateLimits": {"rules": [{"label": "get /a-b/", "duration": 1, "maxRequests": 1}]}},
        {
            "rateLimits": {
                "rules": [
                    {"label": "*:auth", "audience": audience, "duration": 1, "maxRequests": 1}
                    for audience in ("@guest", "@auth")
                ]
            }
        },
    ],
)
def test_what_can_be_used_is_taken(change):
    assert check(merged(AppSettings(), change)) == {}


def test_null_empties():
    made = merged(
        AppSettings(superuser_ips=("::1",)), {"superuserIPs": None, "batch": None, "rateLimits": {"rules": None}}
    )
    assert (made.superuser_ips, made.batch.max_requests, made.rate_limits.rules) == ((), 0, ())


@pytest.mark.parametrize("change", [[], 1, "x", {"batch": 3}, {"meta": {"appName": 5}}])
def test_what_is_no_settings_is_refused(change):
    with pytest.raises(ApiError):
        merged(AppSettings(), change)


def test_nothing_is_the_defaults_and_garbage_is_told():
    assert read_settings(None) == AppSettings()
    assert check(AppSettings()) == {}
    with pytest.raises(CorruptionError, match="encrypted"):
        read_settings("Zm9vYmFy")
