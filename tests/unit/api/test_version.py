import asyncio
import re

from asgi_client import call

import pando
from pando.api.app import App
from pando.api.version import version_line
from pando.log import EventLog


def test_version_is_told_in_the_form_that_sqld_has():
    app = App({}, EventLog("web-0", write=lambda _: None), lambda: "the store is starting")
    got = asyncio.run(call(app, "GET", "/version"))
    assert (got.status, got.headers[b"content-type"]) == (200, b"text/plain")
    assert got.body.decode() == version_line()
    found = re.fullmatch(r"pando (\S+) \([0-9a-f]{8} \d{4}-\d\d-\d\d\)", version_line())
    assert found[1] == pando.__version__
