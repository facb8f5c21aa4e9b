"""The event log: the durable, ordered record of events, and the one source of truth downstream of rules.

The rest of the agent calls `EventLog`, its `reader`, its `writer` and its consumers; programs that only look at the file
use `EventStore`. From the bottom: `schema` (the tables), `store` (rows and transactions), `pages` and `salvage` (what a
damaged file still holds), `opening` (takes a file in whatever state), `retention` (what goes), `logfile` (all that, for an
event loop); beside them `tail`, `pending`, `cursors`, `clocks` and `shedding`, which know no file, and `memory`, which
holds them; then `retaining`, `reader`, `writer` and `consumer`, each for one side of the log; and `log`, which is made
of them.
"""

from agent.eventlog.consumer import Consumer
from agent.eventlog.log import EventLog
from agent.eventlog.opening import LogInUse
from agent.eventlog.reader import Reader
from agent.eventlog.schema import ForeignFile, NewerLog
from agent.eventlog.settings import Settings
from agent.eventlog.store import EventStore

__all__ = ["Consumer", "EventLog", "EventStore", "ForeignFile", "LogInUse", "NewerLog", "Reader", "Settings"]
