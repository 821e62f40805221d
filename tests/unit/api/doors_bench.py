"""Two sites alike, one with only the ordinary door, one with the prompt one in front, asked the same things."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline_kit import Exchange, Reply, Site

from pando.api.pipeline import Headers, PipelineHandler
from pando.api.prompt import PromptPipelines
from pando.sql.access import Access

NOW, LATER, DECLINED = "now", "later", "declined"
CLOSE = {"type": "close"}
READ = {"type": "execute", "stmt": {"sql": "select b from t"}}


class Doors:
    """Two sites alike: one has only the ordinary door, the other has the prompt one in front of it."""

    def __init__(
        self,
        directory: Path,
        *,
        is_primary: bool = True,
        is_warm: bool = True,
        authenticate: Callable[[Headers], Access] | None = None,
        body_bytes_max: int = 1 << 20,
    ) -> None:
        self.sites = []
        for name in ("ordinary", "prompt"):
            (directory / name).mkdir()
            site = Site(directory / name, is_primary=is_primary, body_bytes_max=body_bytes_max)
            if authenticate is not None:
                site.handler = PipelineHandler(site.service, authenticate, body_bytes_max=body_bytes_max)
            self.sites.append(site)
        self.ordinary, self.other = self.sites
        self.prompt = PromptPipelines(
            self.other.service, authenticate or self.other.authenticate, body_bytes_max=body_bytes_max
        )
        self.how = ""
        """What the prompt door did with the last request."""
        if is_warm:
            for name in ("data", "other"):  # what is not open yet is declined
                self.each(lambda site, name=name: site.runner.run(site.service._pool.open(name)))  # type: ignore[misc]

    def each(self, work: Callable[[Site], object]) -> None:
        for site in self.sites:
            work(site)

    def ask(self, *requests: object, baton: str | None = None, **headers: str) -> Reply:
        body = json.dumps({"baton": baton, "requests": requests}).encode()
        return self.ask_raw(body, **headers)

    def ask_raw(self, body: bytes, **headers: str) -> Reply:
        """Ask both; the answers are compared, and what arrived at the primary. Gives the prompt one."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["content-length"] = str(len(body))
        expected = self.ordinary.exchange(Exchange([body], stays=asyncio.Event()), headers=named)
        reply = self._ask_prompt(body, named)
        assert normal(reply) == normal(expected)
        assert self.other.store.runs == self.ordinary.store.runs
        return reply

    def _ask_prompt(self, body: bytes, named: dict[str, str]) -> Reply:
        answer = self.prompt([(name.encode(), value.encode()) for name, value in named.items()], body)
        if answer is None:
            self.how = DECLINED
            return self.other.exchange(Exchange([body], stays=asyncio.Event()), headers=named)
        self.how = NOW if isinstance(answer, tuple) else LATER
        status, lines, text = answer if isinstance(answer, tuple) else self.other.runner.run(answer)
        *pairs, end = lines.split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in pairs)
        assert (end, len(headers), headers[b"content-length"]) == (b"", len(pairs), str(len(text)).encode())
        return Reply(status, headers, text)

    def close(self) -> None:
        self.each(Site.close)


def normal(reply: Reply) -> tuple[int, dict[bytes, bytes], Any]:
    """Leave out what time and chance put into an answer."""
    headers = dict(reply.headers)
    if headers[b"content-type"] != b"application/json":
        return reply.status, headers, reply.body
    del headers[b"content-length"]
    return reply.status, headers, without_times(json.loads(reply.body))


def without_times(value: Any) -> Any:
    if isinstance(value, list):
        return [without_times(each) for each in value]
    if not isinstance(value, dict):
        return value
    rest = {key: without_times(each) for key, each in value.items() if key != "query_duration_ms"}
    if rest.get("baton"):
        rest["baton"] = "a baton"
    return rest


def sql(text: str, *args: object, **rest: object) -> dict[str, object]:
    return {"type": "execute", "stmt": {"sql": text, "args": list(args), **rest}}


def batch(*steps: object) -> dict[str, object]:
    whole = [step if isinstance(step, dict) else {"stmt": {"sql": step}} for step in steps]
    return {"type": "batch", "batch": {"steps": whole}}


def script(text: str) -> dict[str, object]:
    return {"type": "sequence", "sql": text}
