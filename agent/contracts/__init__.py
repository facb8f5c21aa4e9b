"""What a driver, an output, a rule, a forwarder, an encoding and a simulator must do; no behaviour.

The first file to read. Each kind lives in a module of its own; the module's name is the kind, and the class has the
name of its role: `drivers/gpio_input.py: Driver`. Beside it the module has a frozen `Settings`, and its docstring
ends with a sample in YAML, after a line that reads `Sample::`, which a test loads.

Constructors only store. Resources are taken in `open` or `connect` and given back in `close`, which may be called
at any time, also twice and also half-way. The runner owns time: nothing here sleeps to retry, catches broadly, or
logs a lost connection; it raises one of the errors of `agent.errors`, which say who acts next.

They are told in `devices`, `rules` and `delivery`, and imported from here.
"""

from agent.contracts.delivery import Encoding, Forwarder, Gateway, Message
from agent.contracts.devices import BlockingDriver, Driver, Output, Simulator
from agent.contracts.rules import Rule, Transition, Verdict
from agent.contracts.settings import Settings

__all__ = [
    "BlockingDriver", "Driver", "Encoding", "Forwarder", "Gateway", "Message", "Output", "Rule", "Settings", "Simulator",
    "Transition", "Verdict",
]  # fmt: skip
