"""Which rate limit counts, how often something may be done, and what nodes tell each other about their clients."""

import multiprocessing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.errors import StorageError
from pando.records.app_settings import RateLimits, RateRule, TrustedProxy
from pando.records.guarding.addresses import UNKNOWN, client_address, is_among, normal
from pando.records.guarding.counts import ROWS, SIZE_BYTES, SLOTS_PER_ROW, CountTable
from pando.records.guarding.peers import LIFE_S, PeerProofs
from pando.records.guarding.rates import Aim, find_rule


def rule(label, audience="", most=1):
    return RateRule(label=label, audience=audience, duration=60, max_requests=most)


def found(labels, aim, *, is_signed_in=False):
    rules = tuple(rule(*each) if isinstance(each, tuple) else rule(each) for each in labels)
    result = find_rule(RateLimits(rules=rules, enabled=True), aim, is_signed_in=is_signed_in)
    return None if result is None else result.label + result.audience


LIST = Aim(
    method="GET",
    path="/api/collections/a/records",
    route="GET collections/*/records",
    collection_id="pbc_a",
    collection="a",
    actions=("list",),
)
SIGN_IN = Aim(
    method="POST",
    path="/api/collections/a/auth-with-password",
    route="POST collections/*/auth-with-password",
    collection_id="pbc_a",
    collection="a",
    actions=("authWithPassword", "auth"),
)
HEALTH = Aim(method="GET", path="/api/health", route="GET health")


@pytest.mark.parametrize(
    ("labels", "aim", "expected"),
    [
        ([], LIST, None),
        (["*:view", "b:list", "list", "POST /api/"], LIST, None),
        (["*:list", "a:list"], LIST, "a:list"),
        (["/api/", "/api/collections/a/records", "GET /api/collections/a/records", "*:list"], LIST, "*:list"),
        (["/api/", "/api/collections/a/records", "GET /api/collections/a/records"], LIST, f"GET {LIST.path}"),
        (["/api/", "/api/collections/a/records"], LIST, LIST.path),
        (["/api/", "/api/collections/"], LIST, "/api/"),
        (["/api/collections/", "/api/"], LIST, "/api/collections/"),
        (["/api/", "GET /api/"], LIST, "GET /api/"),
        (["/api"], LIST, None),
        (["/api/health/"], HEALTH, "/api/health/"),
        (["/api/heal"], HEALTH, None),
        (["a:auth", "a:authWithPassword"], SIGN_IN, "a:authWithPassword"),
        (["*:authWithPassword", "a:auth"], SIGN_IN, "a:auth"),
        ([("*:list", "@auth")], LIST, None),
        ([("*:list", "@auth"), "/api/"], LIST, "/api/"),
        ([("*:list", "@guest")], LIST, "*:list@guest"),
    ],
)
def test_one_rule_counts(labels, aim, expected):
    assert found(labels, aim) == expected


def test_rules_are_for_callers_of_a_kind():
    both = [("*:list", "@guest"), ("*:list", "@auth")]
    assert found(both, LIST) == "*:list@guest"
    assert found(both, LIST, is_signed_in=True) == "*:list@auth"


def test_collections_and_ways_to_them_are_counted_apart():
    other = Aim(method="GET", path="/x", route=LIST.route, collection_id="pbc_b", collection="b", actions=("list",))
    batch = Aim(method="POST", path="/x", route="POST batch", collection_id="pbc_a", collection="a", actions=("list",))
    keys = {each.key(rule("*:list")) for each in (LIST, other, batch, HEALTH)}
    assert len(keys) == 4
    assert HEALTH.key(rule("/api/")) == Aim(method="GET", path="/api/y").key(rule("/api/"))


# -- counting ---------------------------------------------------------------------------------------------------------


def test_a_window_begins_with_the_first_and_ends_by_itself():
    table = CountTable()

    def asked(at_ms):
        return table.take(b"key", 2, 3, 1_000_000 + at_ms)

    told = [asked(at) for at in (0, 2000, 2999, 3000, 3100, 4000, 5999, 6000)]
    assert told == [True, True, False, True, True, False, False, True]


def test_keys_do_not_touch_each_other():
    table = CountTable()
    assert all(table.take(b"%d" % number, 1, 60, 1000) for number in range(2000))
    assert not any(table.take(b"%d" % number, 1, 60, 2000) for number in range(2000))


@pytest.mark.slow
def test_a_flood_makes_the_table_forget_the_oldest_and_no_more():
    table = CountTable()
    assert table.take(b"old", 1, 10_000, 0)
    for number in range(ROWS * SLOTS_PER_ROW * 2):
        table.take(b"%d" % number, 1, 10_000, 1 + number)
    assert len(table._memory) == SIZE_BYTES
    assert not table.take(b"%d" % number, 1, 10_000, 2 + number)


def test_a_clock_that_goes_back_locks_nobody_out():
    table = CountTable()
    assert table.take(b"key", 1, 60, 10_000_000)
    assert table.take(b"key", 1, 60, 5_000_000)


def _take_often(path, times, results):
    table = CountTable.shared(path)
    results.put(sum(table.take(b"key", 500, 1000, 1_000_000) for _ in range(times)))


@pytest.mark.slow
def test_processes_count_together(tmp_path):
    path = tmp_path / "counters"
    CountTable.shared(path).close()
    context = multiprocessing.get_context("spawn")
    results = context.Queue(10)
    started = [context.Process(target=_take_often, args=(path, 400, results)) for _ in range(2)]
    for each in started:
        each.start()
    counted = sum(results.get(timeout=60) for _ in started)
    for each in started:
        each.join(60)
    assert 500 <= counted <= 510, "a lock that nobody gets in time may lose some"


def test_a_file_of_another_size_is_made_anew(tmp_path):
    path = tmp_path / "counters"
    path.write_bytes(b"what")
    table = CountTable.shared(path)
    assert table.take(b"key", 1, 60, 1000)
    table.close()
    again = CountTable.shared(path)
    assert not again.take(b"key", 1, 60, 1000)
    again.close()
    with pytest.raises(StorageError):
        CountTable.shared(tmp_path / "nowhere" / "counters")


# -- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "listed", "expected"),
    [
        ("10.1.2.3", ("10.0.0.0/8",), True),
        ("11.1.2.3", ("10.0.0.0/8", "11.1.2.4"), False),
        ("11.1.2.3", ("11.1.2.3",), True),
        ("11.1.2.3", ("11.1.2.3/8",), True),
        ("0000:0000:0000:0000:0000:0000:0000:0001", ("::1",), True),
        ("2001:0db8:0000:0000:0000:0000:0000:0001", ("2001:db8::/32",), True),
        ("10.1.2.3", ("::ffff:10.0.0.0/104",), True),
        ("10.1.2.3", ("::/0",), False),
        (UNKNOWN, ("0.0.0.0/0", "::/0"), False),
        ("", ("0.0.0.0/0",), False),
        ("10.1.2.3", ("what", ""), False),
    ],
)
def test_lists_of_addresses(address, listed, expected):
    assert is_among(address, listed) is expected


@given(st.text(max_size=60), st.text(max_size=30), st.booleans())
def test_an_address_is_an_address_or_unknown(header, peer, from_left):
    proxy = TrustedProxy(headers=("X-Forwarded-For",), use_leftmost_ip=from_left)
    told = client_address({"x_forwarded_for": header}, peer, proxy)
    assert told == UNKNOWN or normal(told) == told


# -- nodes ------------------------------------------------------------------------------------------------------------


def test_a_peer_is_believed_for_its_request_only():
    proofs, other = PeerProofs(b"k" * 32), PeerProofs(b"o" * 32)
    text = proofs.make("1.2.3.4", "POST", "/api/x?y=1", 1000)
    assert proofs.read(text, "POST", "/api/x?y=1", 1000) == "1.2.3.4"
    assert proofs.read(text, "POST", "/api/x?y=1", 1000 + LIFE_S) == "1.2.3.4"
    assert proofs.read(proofs.make("", "GET", "/", 1), "GET", "/", 1) == ""
    assert proofs.read(proofs.make("::1", "GET", "/", 1), "GET", "/", 1) == "::1"
    for wrong in (
        proofs.read(text, "POST", "/api/x?y=1", 1001 + LIFE_S),
        proofs.read(text, "GET", "/api/x?y=1", 1000),
        proofs.read(text, "POST", "/api/x", 1000),
        proofs.read(text.replace("1.2.3.4", "1.2.3.5"), "POST", "/api/x?y=1", 1000),
        proofs.read(text.replace("1000.", "1001.", 1), "POST", "/api/x?y=1", 1000),
        other.read(text, "POST", "/api/x?y=1", 1000),
    ):
        assert wrong is None


@given(st.text(max_size=200))
def test_whatever_is_sent_is_refused_quietly(text):
    assert PeerProofs(b"k" * 32).read(text, "GET", "/", 1000) is None
