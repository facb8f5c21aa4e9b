"""What far sides and people ask for: read, judged, passed on, and answered.

From the bottom: `reading` makes sense of a payload; `ids` remembers what was carried out; `judging` says what may be done,
knowing no event loop; `desk` passes that on to the board of the outputs, the rulebook and the devices, logs what became of
it, and answers.
"""

from agent.requests.desk import Desk
from agent.requests.judging import Settable

__all__ = ["Desk", "Settable"]
