"""Entry points of the store and the applier process: settings become their options.

Their modules are imported in the child: the store uses one SQLite library, the applier another, and no process may hold
both.
"""

from __future__ import annotations

from pando.node.runtime import Runtime
from pando.setting_kinds import PUSH
from pando.settings import Settings
from pando.types import Role


def store_main(runtime: Runtime) -> None:
    """Be the store process."""
    from pando.store.primary import PrimaryOptions
    from pando.store.receiving import UpstreamOptions
    from pando.store.server import StoreOptions, run_store
    from pando.store.writer import WriterOptions

    settings = runtime.settings
    upstream = None
    if settings.role is Role.REPLICA:
        upstream = UpstreamOptions(
            url=settings.primary,
            primary_url=settings.primary,
            public_url=settings.own_url,
            omit=frozenset(settings.omit_databases),
            sync_interval_s=_interval(settings),
        )
    run_store(
        StoreOptions(
            directory=settings.dir,
            sockets=runtime.sockets,
            link_key=runtime.link_key,
            role=settings.role,
            node=settings.node,
            public_url=settings.own_url,
            upstream=upstream,
            primary=PrimaryOptions(
                writer=WriterOptions(statement_s=settings.statement_time_s, transaction_s=settings.transaction_time_s),
                foreign_keys=settings.foreign_keys,
                change_feed=frozenset(settings.change_feed),
                log_bytes_max=settings.log_size_max,
            ),
            durability=settings.durability,
            voters=settings.voters,
            quorum_wait_s=settings.quorum_wait_s,
            shown_wait_s=settings.shown_wait_s,
            alive_fd=runtime.alive_fd,
        )
    )


def _interval(settings: Settings) -> float | None:
    return None if settings.sync_interval == PUSH else settings.sync_interval


def applier_main(runtime: Runtime) -> None:
    """Be the applier process."""
    from pando.store.applier import ApplierOptions, run_applier

    run_applier(
        ApplierOptions(
            socket_path=str(runtime.store_socket),
            directory=runtime.settings.dir,
            positions_path=runtime.layout.positions,
            node=runtime.settings.node,
            alive_fd=runtime.alive_fd,
        )
    )
