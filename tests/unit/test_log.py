import json
import logging
import re

import pytest

from pando.errors import InvariantError
from pando.log import EVENTS, LEVELS, EventLog, bridge_logger
from pando.testing.virtual_clock import VirtualClock


def make(**options):
    lines: list[str] = []
    return EventLog("web-1", clock=VirtualClock(), write=lines.append, **options), lines


def test_a_text_line_has_time_level_process_event_and_its_keys():
    log, lines = make()
    log.emit("process.died", child="store", pid=7, status="signal 9", lived_s=1.5, pause_s=0)
    assert lines == [
        "2023-11-14T22:13:20.000Z warning web-1      process.died child=store pid=7 "
        'status="signal 9" lived_s=1.5 pause_s=0'
    ]


def test_a_json_line_has_all_keys_of_its_event():
    log, lines = make(form="json")
    log.emit("link.closed", kind="peer", reason="a\nb")
    assert json.loads(lines[0]) == {
        "time": "2023-11-14T22:13:20.000+00:00",
        "level": "warning",
        "process": "web-1",
        "event": "link.closed",
        "kind": "peer",
        "node": "",
        "url": "",
        "reason": "a\nb",
    }


def test_a_line_is_one_line_and_bounded():
    log, lines = make()
    log.emit("node.stopping", reason="x\n" * 5000)
    assert "\n" not in lines[0]
    assert len(lines[0]) < 10_000


def test_levels_below_the_least_are_left_out():
    log, lines = make(level="warning")
    log.emit("node.stopping", reason="told to")
    log.emit("process.killed", child="store")
    assert len(lines) == 1


def test_unknown_events_and_keys_are_bugs():
    log, _ = make()
    with pytest.raises(InvariantError):
        log.emit("node.exploded")
    with pytest.raises(InvariantError):
        log.emit("node.stopping", why="x")


def test_the_list_of_events_is_well_formed():
    for name, kind in EVENTS.items():
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", name)
        assert kind.level in LEVELS
        assert kind.help.endswith(".")
        assert not {"time", "level", "process", "event"} & set(kind.keys)


def test_a_librarys_complaints_become_events():
    log, lines = make(form="json")
    bridge_logger("pando-test-library", log)
    logger = logging.getLogger("pando-test-library")
    logger.info("nothing")
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("Exception in ASGI application\n")
    (line,) = map(json.loads, lines)
    assert line["event"] == "http.problem"
    assert line["message"] == "Exception in ASGI application"
    assert "ValueError: broken" in line["error"]
