"""The disk is full, read-only or gone: sensing, rules, outputs and delivery go on, and it heals by itself."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from support.chances import rounds
from support.configurations import ALARM, gateway, mqtt, scale
from support.disks import FileLimit
from support.ledger import Ledger
from support.waiting import until

if TYPE_CHECKING:
    from support.agents import Agent
    from support.disks import Folder, SmallDisk
    from support.gates import Gate
    from support.instruments import CountingScale
    from support.sites import Site
    from support.subscribers import Subscriber

WAYS = ["ext4", "tmpfs", "limit"]
"""How a disk becomes full: a mounted one, as root, or a limit for the process alone, as anybody."""


FAN = {"driver": "gpio_output", "pin": 27, "factory": "mock"}
REACTING = {"heavy": {**ALARM["heavy"], "then": {"set": {"fan": "on"}, "otherwise": "off"}}}


class Scene:
    """A scale, a rule that starts a fan, and a broker behind a gate."""

    def __init__(self, site: Site) -> None:
        broker = site.broker()
        self.gate: Gate = site.gate(broker.port)
        self.subscriber: Subscriber = site.subscriber(broker.port)
        self.counting: CountingScale = site.counting_scale()
        self.ledger = Ledger(self.counting)
        devices: dict[str, Any] = {"scale": scale(self.counting.instrument), "fan": FAN}
        self.agent: Agent = site.agent(gateway(devices, {"site": mqtt(self.gate.port)}, rules=REACTING))

    def fault(self) -> str | None:
        """Return why the log cannot be written, as the agent says; None also where it does not answer yet."""
        said = self.agent.status()
        fault: str | None = said["log"]["fault"] if said is not None else None
        return fault

    def wait_fault(self) -> None:
        """Raise alarms, which are written at once, until the agent says that it cannot."""

        def says_so() -> bool:
            self.counting.write_heavy()
            return self.fault() is not None

        until(says_so, "a fault of the log")

    def everything_works(self) -> None:
        """See a reading, an alarm and an output's command come through."""
        done = len(self.subscriber.on("gatepost/g/fan/command.done"))
        self.counting.write(10)
        self.counting.write_heavy()
        weight = self.counting.lines[-2].weight
        self.subscriber.wait(
            lambda: any(body["value"] == weight for body in self.subscriber.bodies("gatepost/g/alarm/heavy")),
            "the alarm",
        )
        self.subscriber.wait_for("gatepost/g/fan/command.done", done + 2)

    def keep_in_memory(self) -> None:
        """Write what the broker cannot take and the disk not keep."""
        self.gate.shut()
        self.counting.write(500)
        self.counting.write_heavy()
        self.counting.write(500)
        self.agent.wait_status(
            lambda said: said["devices"]["scale"]["readings"] >= 1000, "everything is read and is in memory"
        )

    def heal_and_survive_a_kill(self) -> None:
        """See that what was in memory is on the disk, and that it all arrives after a kill."""
        until(lambda: self.fault() is None, "it heals by itself", timeout=60)
        self.counting.wait_committed(self.agent)
        self.agent.kill()
        self.ledger.killed(self.agent)
        self.counting.replug()
        self.gate.open()
        self.agent.start_and_wait()
        self.everything_works()
        self.agent.wait_delivered("site")
        self.ledger.wait_balanced(self.subscriber)


@pytest.mark.parametrize("way", WAYS)
def test_full_while_running_and_freed_again(site: Site, way: str) -> None:
    disk = None if way == "limit" else site.small_disk(way)
    scene = Scene(site)
    scene.agent.start_and_wait()
    for _ in range(rounds(1, 5)):
        scene.everything_works()
        scarce = disk or FileLimit(scene.agent)

        scarce.fill()
        scene.wait_fault()
        scene.everything_works()
        scene.keep_in_memory()
        assert scene.fault() is not None
        scarce.free()

        scene.heal_and_survive_a_kill()
    assert scene.agent.lines("cannot be written", "going on in memory")


@pytest.mark.parametrize("way", WAYS)
def test_full_at_start(site: Site, way: str) -> None:
    disk = None if way == "limit" else site.small_disk(way)
    scene = Scene(site)
    if disk is not None:
        disk.fill()
    else:
        scene.agent.program = ["prlimit", "--fsize=1024:", *scene.agent.program]

    scene.agent.start_and_wait()
    scene.wait_fault()
    scene.everything_works()
    scene.keep_in_memory()
    if disk is not None:
        disk.free()
    else:
        FileLimit(scene.agent).free()
        scene.agent.program = scene.agent.program[2:]

    scene.heal_and_survive_a_kill()


def read_only(site: Site) -> tuple[Scene, SmallDisk | Folder]:
    """Return an agent whose state folder is read-only; not started."""
    folder = site.state_folder()
    return Scene(site), folder


@pytest.mark.parametrize("has_backlog", [True, False])
def test_read_only_at_start(site: Site, *, has_backlog: bool) -> None:
    scene, folder = read_only(site)
    if has_backlog:
        scene.gate.shut()
        scene.agent.start_and_wait()
        scene.counting.write(100)
        scene.counting.wait_committed(scene.agent)
        scene.agent.stop()
        scene.gate.open()
    folder.make_read_only()

    scene.agent.start_and_wait()
    scene.wait_fault()
    scene.everything_works()
    scene.keep_in_memory()
    folder.make_writable()

    scene.heal_and_survive_a_kill()


def test_a_folder_that_is_missing_is_made(site: Site) -> None:
    scene = Scene(site)
    scene.agent.start_and_wait()
    assert scene.agent.stop() == 0
    shutil.rmtree(scene.agent.log.parents[2])

    scene.agent.start_and_wait()
    scene.everything_works()
    scene.counting.wait_committed(scene.agent)


def test_a_folder_that_is_removed_while_running_is_noticed_and_made_anew(site: Site) -> None:
    scene = Scene(site)
    scene.agent.start_and_wait()
    scene.everything_works()

    shutil.rmtree(scene.agent.log.parent)
    scene.everything_works()
    until(scene.agent.log.exists, "a new file", timeout=5)
    scene.everything_works()
