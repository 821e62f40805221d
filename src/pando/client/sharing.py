"""What connections of one process know together: which nodes answer, and, if they say so, their bookmarks.

Kept for as long as a connection uses it. Not here: what is known (`pando.client.nodes`).
"""

from __future__ import annotations

import threading
from weakref import WeakValueDictionary

from pando.client.nodes import Bookmarks, Nodes
from pando.client.targets import Address
from pando.clock import system_random

_lock = threading.Lock()
_nodes: WeakValueDictionary[tuple[Address, ...], Nodes] = WeakValueDictionary()
_bookmarks: WeakValueDictionary[tuple[Address, ...], Bookmarks] = WeakValueDictionary()


def nodes_of(addresses: tuple[Address, ...]) -> Nodes:
    """Give what this process knows of these nodes; each process begins its turn at another of them."""
    key = tuple(sorted(addresses))
    with _lock:
        found = _nodes.get(key)
        if found is None:
            found = _nodes[key] = Nodes(addresses, first=system_random().randrange(len(addresses)))
        return found


def bookmarks_of(addresses: tuple[Address, ...], *, share: bool) -> Bookmarks:
    """Give the bookmarks that connections to these nodes share, or new ones."""
    if not share:
        return Bookmarks()
    key = tuple(sorted(addresses))
    with _lock:
        found = _bookmarks.get(key)
        if found is None:
            found = _bookmarks[key] = Bookmarks()
        return found
