"""All requests made by hand, in the order in which they are sent."""

from urllib.parse import quote

from twin_access import MEMBERS, RULES
from twin_definitions import BLANK, CHANGES
from twin_more import APART, FORMS, IMPORTS, SUPERUSERS
from twin_records import FILTERS, LISTS, RECORDS
from twin_requests import get, records
from twin_services import BATCH, PROTOCOL, SETTINGS, VIEWS


def filtered(text, by):
    return get(records("things", query=f"fields=id,title&sort=@rowid&filter={quote(text)}"), by=by)


ALL = (
    *PROTOCOL,
    *BLANK,
    *CHANGES,
    *RECORDS,
    *LISTS,
    *[filtered(text, by) for by in ("root", "") for text in FILTERS],
    *MEMBERS,
    *RULES,
    *BATCH,
    *SETTINGS,
    *VIEWS,
    *IMPORTS,
    *FORMS,
    *SUPERUSERS,
    *APART,
)
