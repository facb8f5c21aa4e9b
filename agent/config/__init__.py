"""The configuration: YAML to typed, frozen settings, or one error that lists every fault with its place.

`load` is all that the rest of the agent calls. From text to settings, one file for each step: `documents` (text to nodes
with places), `variables` (`${ENV}` and `!secret`), `decoding` (a node and a type to a value), `loading` (the sections of
a configuration), `wiring` (what entries say of each other; `expressions` and `circles` are parts of that), with one
`wording` for all faults. `schema` tells editors.
"""

from agent.config.loading import host_name, load
from agent.config.model import BrokerSettings, Config, Device, ForwardEntry, RuleEntry

__all__ = ["BrokerSettings", "Config", "Device", "ForwardEntry", "RuleEntry", "host_name", "load"]
