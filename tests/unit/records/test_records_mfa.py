import pytest

from pando.records.auth.mfa import Begun, Method, Step, decide
from pando.records.auth.origins import Origin, fingerprint, plan_origin
from pando.records.model import MfaOptions
from pando.records.problems import ApiError

BEGUN = Begun(id="m1", collection_id="c1", record_id="r1", method="password", created=1000.0)
ON = MfaOptions(enabled=True, duration=600)


def decided(options=ON, **changes):
    given = {
        "is_rule_met": True,
        "method": Method.OTP,
        "collection_id": "c1",
        "record_id": "r1",
        "asked_id": "m1",
        "begun": BEGUN,
        "now": 1100.0,
    }
    return decide(options, **given | changes)


@pytest.mark.parametrize(
    ("options", "changes", "expected"),
    [
        (MfaOptions(enabled=False), {}, Step.SIGN_IN),
        (MfaOptions(enabled=False), {"asked_id": "", "begun": None}, Step.SIGN_IN),
        (ON, {"is_rule_met": False, "asked_id": "", "begun": None}, Step.SIGN_IN),
        (ON, {"asked_id": "", "begun": None}, Step.BEGIN),
        (ON, {"asked_id": "", "begun": None, "method": Method.PASSWORD}, Step.BEGIN),
        (ON, {}, Step.FINISH),
        (ON, {"method": Method.OAUTH2}, Step.FINISH),
        (ON, {"now": 1599.9}, Step.FINISH),
    ],
)
def test_steps(options, changes, expected):
    assert decided(options, **changes) is expected


@pytest.mark.parametrize(
    "changes",
    [
        {"begun": None},
        {"asked_id": "m2"},
        {"record_id": "r2"},
        {"collection_id": "c2"},
        {"now": 1600.0},
        {"method": Method.PASSWORD},
    ],
)
def test_refusals(changes):
    with pytest.raises(ApiError) as caught:
        decided(**changes)
    assert caught.value.status == 400


def test_fingerprints():
    assert fingerprint("127.0.0.1", "curl/8") == "b13cc138e9f01b7bdbe0c10cda2c1ca4"  # md5sum of both


ORIGINS = [Origin(f"o{number}", f"f{number}") for number in range(7)]


@pytest.mark.parametrize(
    ("kept", "found", "known", "removed"),
    [
        (0, "new", None, []),
        (1, "f0", "o0", []),
        (1, "new", None, []),
        (4, "new", None, []),
        (5, "new", None, ["o4"]),
        (5, "f4", "o4", []),
        (7, "new", None, ["o4", "o5", "o6"]),
        (7, "f6", "o6", ["o4", "o5"]),
    ],
)
def test_origins(kept, found, known, removed):
    plan = plan_origin(ORIGINS[:kept], found)
    assert (plan.known and plan.known.id, [each.id for each in plan.removed]) == (known, removed)
