"""The event log: the durable, ordered record of events, and the one source of truth downstream of rules.

`EventLog` is all that the rest of the agent calls; programs that only look at the file use `EventStore`. `log` appends,
hands out by cursor and commits; `tail` is the part in memory; `store` the rows and transactions; `opening` takes the file.
"""

from agent.eventlog.log import EventLog
from agent.eventlog.opening import LogInUse
from agent.eventlog.settings import Settings
from agent.eventlog.store import EventStore, NewerLog

__all__ = ["EventLog", "EventStore", "LogInUse", "NewerLog", "Settings"]
