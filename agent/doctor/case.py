"""What is known before the examination begins: the configuration, the user, the log, who runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agent import app, config
from agent.config.variables import NOWHERE
from agent.doctor import running, unit, users
from agent.doctor.machine import Machine
from agent.doctor.processes import Processes
from agent.errors import ConfigError
from agent.whereabouts import SERVICE_LOG

if TYPE_CHECKING:
    from collections.abc import Mapping


class Case(NamedTuple):
    """All that the examiners look at.

    Attributes:
        config: The configuration.
        secrets: What is wrong with its secrets; "" where they are there.
        user: Who would run the agent.
        log: The event log's file.
        machine: The folders that are looked at.
        processes: Who holds what.
        agent: The agent that runs on the log, or none.
        unit: What systemd says of the service; empty where there is none.
    """

    config: config.Config
    secrets: str
    user: users.User
    log: Path
    machine: Machine
    processes: Processes
    agent: running.Running
    unit: Mapping[str, str]


def take(path: Path, user: str | None, root: Path = Path("/")) -> Case:
    """Read the configuration and look who is there.

    Args:
        path: The configuration file.
        user: Who would run the agent; where it is not said, who runs it now, or is likely to.
        root: Where the machine's own folders are found.

    Raises:
        ConfigError: The configuration has faults, other than that a secret is there only for the service.
        GatepostError: There is no such user.
    """
    missing: ConfigError | None = None
    try:
        read = config.load(path)
    except ConfigError as error:
        missing, read = error, config.load(path, with_secrets=False)
    who = users.find(user)
    machine = Machine(root)
    processes = Processes(machine)
    log, agent = _log(read, who, processes)
    service = unit.properties(machine)
    if user is None and agent.pid is not None and (owner := processes.owner(agent.pid)) is not None:
        who = users.of(owner)
    if who.name == service.get("User"):
        who = who.joined(service.get("SupplementaryGroups", "").split())
    if missing is not None and not (
        _is_of_the_service(missing) and (agent.is_there or who.name != users.own_name())
    ):
        raise missing
    secrets = "" if missing is None else str(missing)
    return Case(read, secrets, who, log, machine, processes, agent, service)


def _is_of_the_service(error: ConfigError) -> bool:
    """Whether all that is wrong is secrets that systemd may give to the service alone (LoadCredential)."""
    return all(NOWHERE in fault.what for fault in error.faults)


def _log(read: config.Config, user: users.User, processes: Processes) -> tuple[Path, running.Running]:
    """Return the log of a configuration and who runs on it: an agent first, then a file, then what is usual for the user.

    An agent that simulates its devices has a log of its own, but the same far sides.
    """
    usual = app.log_path(read, simulated=False)
    if read.log.path is not None:
        # A path without a root is one of the working folder, which for the service is the log's usual one.
        folder = SERVICE_LOG.parent if user.name == users.SERVICE_USER else Path.cwd()
        logs = [folder / usual]
    elif user.name == users.SERVICE_USER:
        logs = [SERVICE_LOG, usual]
    else:
        own = Path(user.home, ".local", "state", "gatepost", read.gateway, "events.db")
        logs = [usual if user.name == users.own_name() else own, SERVICE_LOG]
    for log in [*logs, app.log_path(read, simulated=True)]:
        agent = running.look(log, processes)
        if agent.is_there:
            return log, agent
    return next((log for log in logs if _is_there(log)), logs[0]), running.Running()


def _is_there(log: Path) -> bool:
    try:
        return log.exists()
    except OSError:
        return False  # in a folder that is not for us
