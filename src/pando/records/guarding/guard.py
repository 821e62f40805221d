"""Lets requests in or refuses them, by who asks from where and how often.

What is counted is counted per node, by all its web processes together; writes are counted by the primary, which they
all come to. Not here: which rule counts (`rates`), rules of collections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from pando.clock import Random
from pando.records.app_settings import AppSettings, RateRule
from pando.records.guarding.addresses import is_among
from pando.records.guarding.counts import CountTable
from pando.records.guarding.peers import PeerProofs
from pando.records.guarding.rates import Aim, find_rule
from pando.records.problems import ApiError, forbidden

PROBES_MAX: Final = 3
PROBES_S: Final = 3
"""So many filters that find nothing may be tried in so many seconds; later ones are answered late."""
PROBE_PAUSE_S: Final = 0.5
"""Longest delay; it is random, so that it tells nothing."""

Pause = Callable[[float], Awaitable[None]]


class Guard:
    """The door of one web process. `peers` reads what other nodes say of their clients; None: nothing is believed."""

    def __init__(
        self, *, counts: CountTable | None = None, peers: PeerProofs | None = None, pause: Pause = asyncio.sleep
    ) -> None:
        self.peers = peers
        self._counts = counts
        self._pause = pause

    @property
    def counts(self) -> CountTable:
        """What is counted; made when something is for the first time."""
        if self._counts is None:
            self._counts = CountTable()
        return self._counts

    def check_superuser(self, settings: AppSettings, address: str) -> None:
        """Refuse superusers who ask from elsewhere than the settings say. Raises ApiError 403."""
        if not self.lets_superuser(settings, address):
            raise forbidden()

    def lets_superuser(self, settings: AppSettings, address: str) -> bool:
        """Tell whether superusers may ask from an address."""
        return not settings.superuser_ips or is_among(address, settings.superuser_ips)

    def rule_for(self, settings: AppSettings, aim: Aim, address: str, *, is_signed_in: bool) -> RateRule | None:
        """Give the rate limit that a request falls under, if there is one. Superusers are not asked about."""
        limits = settings.rate_limits
        if not limits.enabled or (limits.excluded_ips and is_among(address, limits.excluded_ips)):
            return None
        return find_rule(limits, aim, is_signed_in=is_signed_in)

    def count(self, mark: str, rule: RateRule, aim: Aim, address: str, now_ms: int) -> None:
        """Count a request under its rule; with another `mark` of the settings all begins anew. Raises ApiError 429."""
        what = f"{mark}|{address}|{aim.key(rule)}".encode("utf-8", "surrogatepass")
        if not self.counts.take(what, rule.max_requests, rule.duration, now_ms):
            raise ApiError(429, "Too Many Requests.")

    def close(self) -> None:
        """Let go of what is counted."""
        if self._counts is not None:
            self._counts.close()

    async def slow_probe(self, collection_id: str, address: str, now_ms: int, random: Random) -> None:
        """Somebody's filter found nothing: who does that many times in a row asks for what he may not see."""
        what = f"probe|{address}|{collection_id}".encode("utf-8", "surrogatepass")
        if not self.counts.take(what, PROBES_MAX, PROBES_S, now_ms):
            await self._pause(random.random() * PROBE_PAUSE_S)
