"""The providers of OAuth2 that a collection may name, with the names that people know them by, in PocketBase's order.

Pure. Not here: where they are and how one signs in with them (a later issue), their logos (each an owner's mark: none
is shown).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PROVIDER_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "apple": "Apple",
        "google": "Google",
        "microsoft": "Microsoft",
        "yandex": "Yandex",
        "facebook": "Facebook",
        "instagram2": "Instagram",
        "github": "GitHub",
        "gitlab": "GitLab",
        "bitbucket": "Bitbucket",
        "gitee": "Gitee",
        "gitea": "Gitea/Forgejo",
        "discord": "Discord",
        "twitter": "X/Twitter",
        "kakao": "Kakao",
        "vk": "ВКонтакте",
        "linear": "Linear",
        "notion": "Notion",
        "monday": "monday.com",
        "lark": "Lark",
        "box": "Box",
        "spotify": "Spotify",
        "trakt": "Trakt",
        "twitch": "Twitch",
        "patreon": "Patreon",
        "strava": "Strava",
        "wakatime": "WakaTime",
        "livechat": "LiveChat",
        "mailcow": "mailcow",
        "planningcenter": "Planning Center",
        "oidc": "OIDC",
        "oidc2": "OIDC",
        "oidc3": "OIDC",
    }
)
