from pando.node.restarts import LAST_PAUSE_S, STABLE_S, Restarts


def test_the_first_restart_is_at_once_and_later_ones_wait_longer_up_to_a_bound():
    restarts = Restarts()
    now, pauses = 100.0, []
    for _ in range(8):
        restarts.started(now)
        now += 0.05
        pauses.append(restarts.died(now))
        now += pauses[-1]
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, LAST_PAUSE_S, LAST_PAUSE_S]
    assert restarts.starts == 8


def test_a_process_that_lived_long_starts_anew_at_once():
    restarts = Restarts()
    for _ in range(4):
        restarts.started(0.0)
        restarts.died(0.1)
    restarts.started(10.0)
    assert restarts.lived_s(11.0) == 1.0
    assert restarts.died(10.0 + STABLE_S) == 0.0
