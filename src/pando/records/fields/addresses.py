"""Whether a text is an e-mail address or a URL. One pass over the text, never more.

The rules are those that forms commonly use, not all that RFC 5322 and RFC 3986 allow. Pure. Not here: asking anybody
whether the address works.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final

EMAIL_CHARS_MAX: Final = 320
"""64 for the person, 255 for the domain, and the sign between (RFC 5321)."""
URL_CHARS_MAX: Final = 2083
"""What browsers agree on."""

_WIDE: Final = "\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef"
_ATOM: Final = re.compile(rf"[A-Za-z0-9!#$%&'*+\-/=?^_`{{|}}~{_WIDE}]+")
_QUOTED: Final = re.compile(rf'"(?:[\t !#-\[\]-~{_WIDE}]|\\[\t -~{_WIDE}])*"')
_LABEL: Final = re.compile(rf"[A-Za-z0-9{_WIDE}](?:[A-Za-z0-9\-._~{_WIDE}]*[A-Za-z0-9{_WIDE}])?")
_TOP_LABEL: Final = re.compile(rf"[A-Za-z{_WIDE}](?:[A-Za-z0-9\-_~{_WIDE}]*[A-Za-z{_WIDE}])?")

_URL: Final = re.compile(
    # Only behind a scheme may a user stand: else `javascript:x@host` would be one.
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://(?:[^\s/?#@\[\]]*@)?)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/[^\s?#]*)?(?:\?[^\s#]*)?(?:#\S*)?"
)
_SCHEMES: Final = frozenset(["http", "https", "ftp", "tcp", "udp", "ws", "wss"])
_HOST_LABEL: Final = re.compile(rf"[A-Za-z0-9_{_WIDE}](?:[A-Za-z0-9_\-{_WIDE}]{{0,61}}[A-Za-z0-9_{_WIDE}])?")
_IPV4: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_TOP_DOMAIN: Final = re.compile(rf"(?=[^0-9])[A-Za-z0-9\-{_WIDE}]{{2,63}}")


def is_email(text: str) -> bool:
    """Tell whether a text is an e-mail address with a domain of at least two parts."""
    person, at, domain = text.rpartition("@")
    if not at or len(text) > EMAIL_CHARS_MAX or not person or len(person) > 64:
        return False
    if not _QUOTED.fullmatch(person) and not all(_ATOM.fullmatch(part) for part in person.split(".")):
        return False
    *labels, top = domain.removesuffix(".").split(".")
    return bool(labels) and bool(_TOP_LABEL.fullmatch(top)) and all(_LABEL.fullmatch(each) for each in labels)


def is_url(text: str) -> bool:
    """Tell whether a text is a URL with a host; the scheme may be left out."""
    if not 3 < len(text) <= URL_CHARS_MAX or not (found := _URL.fullmatch(text)):
        return False
    scheme, host, port = found["scheme"], found["host"], found["port"]
    if scheme is not None and scheme.lower() not in _SCHEMES:
        return False
    return _is_host(host, scheme is not None) and (port is None or 0 < int(port) < 65536)


def host_of(text: str) -> str:
    """Give the host of a URL with its port, "" if the URL has no scheme."""
    found = _URL.fullmatch(text)
    if not found or found["scheme"] is None:
        return ""
    return f"{found['host']}:{found['port']}" if found["port"] else found["host"]


def _is_host(host: str, has_scheme: bool) -> bool:
    if host.startswith("["):
        return _is_ipv6(host[1:-1])
    if _IPV4.fullmatch(host):
        return all(int(part) < 256 for part in host.split("."))
    if host == "localhost":
        return True
    labels = host.removesuffix(".").split(".")
    if not all(_HOST_LABEL.fullmatch(each) for each in labels):
        return False
    return bool(_TOP_DOMAIN.fullmatch(labels[-1])) if len(labels) > 1 else has_scheme


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
