"""The filter language: rules, filters and sorts in PocketBase's terms, made into SQL. See `select` for how to ask."""

from pando.records.filter.request import AuthRecord, Identity, RequestInfo
from pando.records.filter.select import Compiled, Compiler, Filter, Question, Trust
from pando.records.filter.syntax import FilterError

__all__ = [
    "AuthRecord",
    "Compiled",
    "Compiler",
    "Filter",
    "FilterError",
    "Identity",
    "Question",
    "RequestInfo",
    "Trust",
]
