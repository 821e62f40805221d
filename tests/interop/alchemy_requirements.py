"""What SQLAlchemy's own suite for dialects may expect of Pando: named by `requirement_cls` of its configuration.

What is not listed is as SQLAlchemy assumes of any dialect; for SQLite that is mostly too little.
"""

from sqlalchemy.testing import exclusions
from sqlalchemy.testing.requirements import SuiteRequirements

OPEN = [
    *("autocommit", "check_constraint_reflection", "computed_columns", "computed_columns_reflect_persisted"),
    *("computed_columns_stored", "computed_columns_virtual", "create_table_as", "ctes", "ctes_on_dml"),
    *("date_historic", "datetime_historic", "dbapi_lastrowid", "except_", "index_ddl_if_exists", "intersect"),
    "foreign_key_constraint_option_reflection_ondelete",
    "foreign_key_constraint_option_reflection_onupdate",
    *("isolation_level", "json_type", "order_by_label_with_expression", "reflect_table_options"),
    *("reflects_pk_names", "savepoints", "supports_bitwise_and", "supports_bitwise_not", "supports_bitwise_or"),
    *("supports_bitwise_shift", "table_ddl_if_exists", "tuple_in", "unicode_ddl", "update_from", "views"),
    "window_functions",
]
"""SQLite has these."""
CLOSED = [
    "parens_in_union_contained_select_w_limit_offset",
    "parens_in_union_contained_select_wo_limit_offset",
    *("cross_schema_fk_reflection", "has_temp_table", "schemas", "temp_table_names", "temp_table_reflect_indexes"),
    *("temp_table_reflection", "temporary_tables", "temporary_views"),
]
"""SQLite has not the parentheses, nodes have neither temporary tables nor further schemas."""


def _requirement(found):
    return property(lambda _: found())


class Requirements(SuiteRequirements):
    """The lists above, and the isolation levels."""

    def get_isolation_levels(self, config):
        levels = config.db.dialect.get_isolation_level_values(None)
        return {"default": "READ COMMITTED", "supported": levels}


for name in OPEN:
    setattr(Requirements, name, _requirement(exclusions.open))
for name in CLOSED:
    setattr(Requirements, name, _requirement(exclusions.closed))
