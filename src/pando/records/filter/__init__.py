"""The filter language: rules, filters and sorts in PocketBase's terms, made into SQL. See `select` for how to ask.

Compared with PocketBase 0.40.4 on random schemas, rules and filters, answers differ on purpose in these points:

- Records that a list rule keeps from a client cannot be told from absent ones: neither by back relations (PocketBase
  does not find what refers to them), nor by comparisons with all values (PocketBase looks at theirs, too).
- Addresses that are not public cannot be found out by comparisons with all values, by functions or by sorts.
- A record that is not stored yet compares as it will when stored: `rank > '3'` is about numbers in create rules, too.
- A sort by several values takes the least, or with `-` the greatest; PocketBase takes whichever SQLite meets.
- `x != false` about something absent is plain: PocketBase has SQLite's `IS NOT FALSE` for it, which looks at truth.
"""

from pando.records.filter.request import AuthRecord, RequestInfo
from pando.records.filter.select import Compiled, Compiler, Filter, Question, Trust
from pando.records.filter.syntax import FilterError

__all__ = [
    "AuthRecord",
    "Compiled",
    "Compiler",
    "Filter",
    "FilterError",
    "Question",
    "RequestInfo",
    "Trust",
]
