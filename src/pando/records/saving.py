"""Saves the application's settings. Not here: what they are (`app_settings`)."""

from __future__ import annotations

from pando.records.app_settings import PARAMS_ID, AppSettings, write_settings
from pando.records.desk import Asking, Desk
from pando.records.engine import Statement
from pando.records.fields import dates

_SAVE = """INSERT INTO `_params` (`id`, `value`, `created`, `updated`) VALUES (?1, ?2, ?3, ?3)
ON CONFLICT (`id`) DO UPDATE SET `value` = excluded.`value`,
 `updated` = max(excluded.`updated`, strftime('%Y-%m-%d %H:%M:%fZ', `updated`, '+0.001 seconds'))"""
"""`updated` always rises: processes see by it that there is something new."""


async def save_settings(desk: Desk, asking: Asking, settings: AppSettings) -> None:
    """Write the settings; every process of every node reads them anew when it sees the commit."""
    now = dates.from_unix_ms(asking.now_ms)
    await desk.engine.write([Statement(_SAVE, (PARAMS_ID, write_settings(settings), now))])
