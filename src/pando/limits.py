"""Every bound of the system, with its reason. Settings may lower or raise those that users care about.

Relations between limits are asserted when this module is imported.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

# Requests
BODY_SIZE_BYTES_MAX = 32 * MIB
"""Largest request body; several times a sensible batch, far below what hurts a web process."""
RESPONSE_SIZE_BYTES_MAX = 10 * MIB
"""Largest result of one statement (sqld's figure)."""
RUN_SIZE_BYTES_MAX = 32 * MIB
"""Largest results of one pipeline together (sqld's figure); must fit a link's frame."""
SQL_SIZE_BYTES_MAX = 1 * MIB
"""Longest statement text."""
PIPELINE_REQUESTS_MAX = 10_000
"""Most requests in one pipeline, and most steps in one batch: bounds the time the writer is held."""
VALUE_SIZE_BYTES_MAX = 256 * MIB
"""Longest value or row that SQL may make: bounds what one `zeroblob(N)` takes from everybody's memory."""
STORED_SQL_MAX = 150
"""Stored SQL texts of one stream (sqld: 50 over HTTP, 150 over WebSocket)."""

STORED_SQL_CHARS_MAX = 4 * MIB
"""Stored SQL texts of one stream together."""
STATEMENTS_CACHED_MAX = 1000
"""Classified statements kept per connection."""
STATEMENT_CACHED_CHARS_MAX = 16 * KIB
"""Longest text that is kept classified: with the above at most 16 MiB per connection."""

# Connections of a node
CONNECTIONS_MAX = 8192
"""Open client connections of one node; past it the longest idle one is told to go."""
STREAMS_MAX = 10_000
"""Open Hrana streams of one web process."""
STREAM_IDLE_S = 60.0
"""A transaction without a request is rolled back after this time, and over HTTP its stream is forgotten."""
STREAM_KEPT_S = 3600.0
"""A stream over HTTP without a transaction, which holds texts at most, is forgotten after this time."""
STREAMS_CHARS_MAX = 256 * MIB
"""Texts that such streams of a web process hold together; past it, or too many, the longest idle one goes."""

SLOW_READS_MAX = 8
"""Reads of one web process that run in threads at once, being too long for the event loop."""
SLOW_READS_QUEUE_MAX = 512
"""Reads of one web process that wait for such a thread; more are refused with OVERLOADED."""
READ_TRANSACTIONS_MAX = 256
"""Read transactions that a web process holds open between the requests of their clients."""
READ_TRANSACTION_S = 30.0
"""How long one of these may stay open: its snapshot keeps the WAL from starting anew."""

# Writer
WRITE_QUEUE_MAX = 2048
"""Commands waiting for one database's writer; more are refused with OVERLOADED."""
WRITE_AHEAD_BYTES_MAX = 64 * MIB
"""Log entries that may wait for one fsync; past it the writer waits too."""
GROUP_COMMANDS_MAX = 512
"""Commands in one group commit: bounds what is lost in work when a group has to be run again one by one."""
INLINE_BUDGET_S = 0.005
"""A command that runs longer than this on the event loop is rolled back and run again in a thread."""
STATEMENT_TIME_S = 30.0
"""Longest run of one statement."""
TRANSACTION_TIME_S = 5.0
"""How long an interactive transaction may hold the writer while others wait (sqld's figure)."""
PROGRESS_STEPS = 1000
"""SQLite virtual machine steps between two looks at the clock: about 20 microseconds."""

# Log and WAL
SEGMENT_SIZE_BYTES_MAX = 32 * MIB
"""A log segment is closed when it has grown past this."""
LOG_SIZE_BYTES_MAX = 1024 * MIB
"""Retained log of one database; older segments go, replicas further behind take a snapshot."""
ENTRY_SIZE_BYTES_MAX = 0x7FFF_FFFF
"""Longest log entry (one LTX file); what is longer is a snapshot and travels as a file."""
ENTRY_PAGES_BYTES_MAX = 256 * MIB
"""Pages of one commit that are held in memory to make a log entry; past it the log begins anew behind the commit."""
CAPTURE_INLINE_BYTES = 1 * MIB
"""Pages of one commit that are captured on the event loop (about 3 ms); more goes to a thread."""
ENTRY_TABLES_BYTES_MAX = 16 * KIB
"""Names of changed tables in one log entry; a commit that changed more is taken to have changed any table."""
WAL_PAGES_CHECKPOINT = 4096
"""WAL frames after which a checkpoint is scheduled."""
WAL_PAGES_RESTART = 16384
"""WAL frames after which the writer waits a moment to let the WAL start anew."""

WAL_KEPT_BYTES_MAX = 128 * MIB
"""A WAL that a large commit, or a reader that stayed long, made longer is cut to this when it begins anew."""

FEED_EVENTS_MAX = 100_000
"""Rows that one statement may change in a database with a change feed; they are held in memory until it ends."""
FEED_EVENTS_BYTES_MAX = 64 * MIB
"""Length of all texts and blobs in these rows, old and new."""

# Databases
OPEN_DATABASES_MAX = 256
"""Databases open at once in a store process; the least recently used is closed."""
DATABASES_MAX = 100_000
"""Databases of a node."""

# Realtime
REALTIME_CLIENTS_MAX = 10_000
"""Open event streams of one web process; more are refused."""
REALTIME_TOPICS_MAX = 1000
"""Subscriptions of one stream (PocketBase's figure)."""
REALTIME_TOPIC_CHARS_MAX = 2500
"""Longest subscription, options included (PocketBase's figure)."""
REALTIME_CLIENT_ID_CHARS_MAX = 255
"""Longest client id that is looked at (PocketBase's figure); ours have 40."""
REALTIME_TOPICS_CHARS_MAX = 64 * MIB
"""Subscriptions of all streams of one web process together."""
REALTIME_IDLE_S = 300.0
"""A stream ends after this time without a message (PocketBase's figure)."""
REALTIME_STREAM_S = 1800.0
"""A stream ends after this time in any case (PocketBase's figure)."""
REALTIME_OUTBOX_EVENTS_MAX = 2000
"""Events that wait for one stream; past it the stream ends, so that its client begins anew."""
REALTIME_OUTBOX_BYTES_MAX = 4 * MIB
"""Data of these events; a single larger event still goes out, alone."""
REALTIME_OUTBOXES_BYTES_MAX = 256 * MIB
"""Data that waits for all streams of one web process; past it the stream with the most ends."""
REALTIME_AHEAD_EVENTS_MAX = 100_000
"""Events handed out before the streams of a process have all had a turn to send; past it changes wait."""
REALTIME_JUDGE_S = 2.0
"""How long one evaluation of a rule may take, since all streams wait for it; past it those concerned end."""
REALTIME_JUDGED_AT_ONCE = 32
"""Evaluations of one change's rules that are under way together."""
REALTIME_CATCHING_UP_MAX = 8
"""Streams that catch up with the feed at once, each with a batch in memory."""
CHANGES_BATCH_MAX = 500
"""Changes that are read from the feed at once."""
CHANGES_BATCH_BYTES_MAX = 4 * MIB
"""Old and new rows of these; a single larger change is read alone, in pieces of this size."""
FEED_KEPT_S = 24 * 3600
"""How long changes are kept in the feed at least; a stream that was away for longer begins anew."""
FEED_CHANGES_MAX = 1_000_000
"""Changes that are kept in the feed, however new they are, or whoever needs them."""
FEED_READERS_MAX = 64
"""Readers of the plain feed in one web process; each has a batch in memory."""
CLAIM_WAIT_S = 20.0
"""How long a member of a consumer group may wait for changes in one request."""
CONSUMER_LEASE_S_MAX = 12 * 3600
"""How long a member may have a change before it goes to others."""
CONSUMER_GROUPS_MAX = 1000
"""Consumer groups of a database."""
CONSUMER_IN_FLIGHT_MAX = 1000
"""Events that the members of one consumer group have and did not acknowledge: bounds the group's row."""
CONSUMER_NAME_CHARS_MAX = 128
"""Longest name of a consumer group or of a member."""
WATCHES_PER_LINK_MAX = 1024
"""Databases of whose commits one web process wants to hear."""
COMMITTED_TABLES_MAX = 64
"""Tables named in one notice of commits; past it any table may have changed."""

# Replication
LINK_FRAME_BYTES_MAX = 64 * MIB
"""Longest message between processes or nodes."""
SEND_BATCH_BYTES = 1 * MIB
"""Log bytes in one message while a replica catches up."""
SNAPSHOT_CHUNK_BYTES = 256 * KIB
"""Snapshot bytes in one message."""
LINK_BACKLOG_BYTES_MAX = 4 * LINK_FRAME_BYTES_MAX
"""Unsent bytes of one link; a receiver that lets more pile up is cut off."""
SEND_WINDOW_BYTES = 4 * MIB
"""Log bytes of one database that a replica has been sent and has not fsynced yet: 1 ms of round trip at 4 GB/s."""
LINK_WINDOW_BYTES = 16 * MIB
"""Catch-up and snapshot bytes of all databases of one replica that are sent, or being read, and not confirmed."""
LINK_IN_FLIGHT_BYTES_MAX = 32 * MIB
"""As above with live entries; past it a live entry is not sent but read from the log later."""
WIRE_ENTRY_BYTES_MAX = 48 * MIB
"""Longest log entry that travels as an entry (it must fit a frame with room to spare); past it a snapshot is sent."""
LOG_READS_PER_LINK_MAX = 2
"""Log reads under way for one replica: each may give one entry of any length."""
SNAPSHOTS_PER_LINK_MAX = 2
"""Snapshots on their way to one replica at once: bounds the files in its `tmp` directory."""
RECONNECT_S_MIN = 0.05
"""First pause before a replica connects again; doubled each time, with jitter."""
RECONNECT_S_MAX = 5.0
"""Longest pause before a replica connects, or asks for a database, again."""
LINK_REQUESTS_MAX = 16_384
"""Requests of one web process that wait for answers on one link; more are refused with OVERLOADED."""
LINKS_MAX = 1024
"""Links (web processes, replicas, peers) that a store process accepts."""
LINK_AUTH_S = 5.0
"""A link that has not proved that it knows the secret by then is closed."""
HEARTBEAT_S = 1.0
"""Both ends of a link between nodes say something at least this often."""
LINK_SILENCE_S = 5.0
"""A link that was silent for longer is taken for dead."""

# Waiting
BOOKMARK_WAIT_S = 2.0
"""How long a read waits for its bookmark before it is forwarded or refused."""
OWN_WRITE_WAIT_S = 0.25
"""How long the answer of a forwarded write waits until this node shows it; several times the usual lag."""
QUORUM_WAITERS_MAX = 4096
"""Commits of one database that wait for a majority at once; more are refused with OVERLOADED."""
WAITERS_MAX = 10_000
"""Reads of one database that wait for a position at the same time."""
SHOWN_WAITERS_MAX = 4096
"""Commits of one database that wait until replicas show them at once; more are answered without waiting."""
SHOWN_WAIT_S = 1.0
"""How long a write with durability `all` waits for a replica before that no longer counts as one that keeps up."""
QUORUM_WAIT_S = 5.0
"""How long a quorum write waits for a majority."""

assert INLINE_BUDGET_S < STATEMENT_TIME_S
assert WAL_PAGES_CHECKPOINT < WAL_PAGES_RESTART
assert HEARTBEAT_S * 3 <= LINK_SILENCE_S
assert SEND_BATCH_BYTES < LINK_FRAME_BYTES_MAX
assert SEND_BATCH_BYTES <= SEND_WINDOW_BYTES <= LINK_WINDOW_BYTES <= LINK_IN_FLIGHT_BYTES_MAX
assert CHANGES_BATCH_BYTES_MAX < RESPONSE_SIZE_BYTES_MAX
assert REALTIME_OUTBOX_BYTES_MAX <= REALTIME_OUTBOXES_BYTES_MAX
assert RESPONSE_SIZE_BYTES_MAX <= RUN_SIZE_BYTES_MAX < LINK_FRAME_BYTES_MAX
assert WIRE_ENTRY_BYTES_MAX < LINK_FRAME_BYTES_MAX
assert SEGMENT_SIZE_BYTES_MAX < LOG_SIZE_BYTES_MAX
