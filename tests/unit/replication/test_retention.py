import itertools

import pytest

from pando.replication.retention import SegmentInfo, plan_retention


def segments(*sizes):
    """Segments that end with TXID 10, 20, 30 ..."""
    return [SegmentInfo(max_txid=10 * number, size_bytes=size) for number, size in enumerate(sizes, 1)]


@pytest.mark.parametrize(
    ("sizes", "checkpointed", "held", "drop_before", "kept", "reason"),
    [
        ((), 0, (), 0, 0, "within"),
        ((100,), 10, (), 0, 100, "within"),
        ((40, 40, 20), 30, (), 0, 100, "within"),
        ((40, 40, 40), 30, (), 10, 80, "over"),
        ((40, 40, 200), 30, (), 20, 200, "over"),
        ((40, 40, 40), 9, (), 0, 120, "checkpointed"),
        ((40, 40, 200), 19, (), 10, 240, "checkpointed"),
        ((40, 40, 40), 30, (9,), 0, 120, "replica"),
        ((40, 40, 40), 30, (10,), 10, 80, "over"),
        ((40, 40, 40), 30, (None, 25), 10, 80, "over"),
        ((100, 60, 60), 30, (0,), 10, 120, "replica"),
        ((100, 160, 60), 30, (0,), 20, 60, "over"),
        ((300,), 10, (), 0, 300, "within"),
    ],
)
def test_retention(sizes, checkpointed, held, drop_before, kept, reason):
    plan = plan_retention(segments(*sizes), checkpointed=checkpointed, held=held, size_bytes_max=100)
    assert (plan.drop_before, plan.kept_bytes) == (drop_before, kept)
    assert reason in plan.reason


def test_rules_hold_in_every_small_case():
    for sizes in itertools.product((10, 60, 150), repeat=3):
        for checkpointed, held in itertools.product((0, 10, 15, 20, 30), (None, 0, 10, 15, 30)):
            plan = plan_retention(segments(*sizes), checkpointed=checkpointed, held=[held], size_bytes_max=100)
            assert plan.drop_before <= min(checkpointed, 20)
            assert plan.drop_before in (0, 10, 20)
            kept = sum(s.size_bytes for s in segments(*sizes) if s.max_txid > plan.drop_before)
            assert plan.kept_bytes == kept
            if held is not None and plan.drop_before > held:
                before = kept + sum(s.size_bytes for s in segments(*sizes) if s.max_txid == plan.drop_before)
                assert before > 200
            if kept > 200 and plan.drop_before < 20:
                assert checkpointed < plan.drop_before + 10
