"""The commands that `pando up` prints for pasting: one line each, for any shell.

Not here: when each of them is shown (`up`).
"""

from __future__ import annotations

import shlex

import msgspec

from pando.cli.sample import QUERY, QUERY_WORDS
from pando.cli.sample_collections import CITIES

FILTER = "population > 500000 && geoDistance(location.lon, location.lat, 13.4, 52.5) < 600"
"""Large cities around Berlin."""
FIELDS = "name,population,location,expand.country.name"


def curl_line(url: str, token: str, *, sample: bool) -> str:
    """Ask something by SQL."""
    if sample:
        stmt: dict[str, object] = {"sql": QUERY, "args": [{"type": "text", "value": QUERY_WORDS}]}
    else:
        stmt = {"sql": "SELECT sqlite_version()"}
    body = msgspec.json.encode({"requests": [{"type": "execute", "stmt": stmt}, {"type": "close"}]}).decode()
    return f"curl -s {url}/v2/pipeline -H 'Authorization: Bearer {token}' -d {shlex.quote(body)}"


def list_line(url: str) -> str:
    """List records with filter, sort and expand."""
    query = {"sort": "-population", "expand": "country", "perPage": "5", "fields": FIELDS}
    plain = " ".join(f"-d {shlex.quote(f'{name}={value}')}" for name, value in query.items())
    return f"curl -sG {url}/api/collections/{CITIES}/records --data-urlencode {shlex.quote(f'filter={FILTER}')} {plain}"


def subscribe_line(url: str) -> str:
    """Open an event stream, subscribe to all cities as soon as it has told its id, and show what comes."""
    realtime = f"{url}/api/realtime"
    body = f'{{\\"clientId\\":\\"$id\\",\\"subscriptions\\":[\\"{CITIES}/*\\"]}}'
    subscribe = f'curl -s {realtime} -H "Content-Type: application/json" -d "{body}"'
    find = """id=$(expr "$line" : 'data:.*"clientId":"\\([^"]*\\)"')"""
    return f'curl -sN {realtime} | while IFS= read -r line; do echo "$line"; {find} && {subscribe}; done'


def sign_in_line(url: str, identity: str, password: str) -> str:
    """Get a token of an account."""
    path = f"{url}/api/collections/users/auth-with-password"
    return f"curl -s {path} -d identity={shlex.quote(identity)} -d password={shlex.quote(password)}"
