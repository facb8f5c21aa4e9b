"""Power, clock, service and limits: from what the machine says to what a person should do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.fake_machines import FakeMachine, case, of

from agent.clock import NO_EARLIER
from agent.doctor import power, service, timekeeping, unit
from agent.doctor.findings import Level
from agent.doctor.running import Running

if TYPE_CHECKING:
    from pathlib import Path

PI_4 = "/sys/devices/platform/soc/soc:firmware/get_throttled"
PI_5 = "/sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"
LATER = NO_EARLIER + 86_400_000_000


@pytest.mark.parametrize(
    ("bits", "levels", "said"),
    [
        ("0", [Level.OK], "were good"),
        ("50005", [Level.FAULT], "the voltage is too low now"),
        ("50000", [Level.NOTE], "the voltage has been too low since"),
        ("4", [Level.NOTE], "slowed down now: it is too hot"),
        ("80008", [Level.NOTE], "slowed down now: it is too hot"),
        ("80000", [Level.NOTE], "was slowed down since the machine was switched on"),
        ("d0008", [Level.NOTE, Level.NOTE], "the voltage has been too low since"),
    ],
)
@pytest.mark.parametrize("file", [PI_4, PI_5])
def test_the_firmwares_bits_say_what_it_has_met(
    tmp_path: Path, file: str, bits: str, levels: list[Level], said: str
) -> None:
    machine = FakeMachine(tmp_path)
    machine.write(file, f"{bits}\n")
    found = list(power.examine(machine))
    assert [each.level for each in found] == levels
    assert said in found[0].what


def test_a_kernel_without_the_firmwares_file_still_tells_a_low_voltage(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path)
    machine.write("/sys/class/hwmon/hwmon0/name", "cpu_thermal\n")
    machine.write("/sys/class/hwmon/hwmon1/name", "rpi_volt\n")
    machine.write("/sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n")
    (found,) = power.examine(machine)
    assert found.level is Level.NOTE


def test_a_machine_that_says_nothing_of_its_power_is_passed_over(tmp_path: Path) -> None:
    assert not list(power.examine(FakeMachine(tmp_path)))


@pytest.mark.parametrize(
    ("wall", "synchronized", "battery", "level", "said"),
    [
        (LATER, True, False, Level.OK, "synchronised: 2026-01-02 00:00 UTC"),
        (LATER, False, True, Level.NOTE, "is that right?"),
        (LATER, False, False, Level.NOTE, "has no battery"),
        (0, True, True, Level.NOTE, "the clock is not set: it says 1970-01-01 00:00 UTC"),
    ],
)
def test_a_clock_that_nobody_keeps_is_told(
    wall: int, synchronized: bool, battery: bool, level: Level, said: str
) -> None:
    found = timekeeping.judge(wall, is_synchronized=synchronized, has_battery=battery)
    assert found.level is level
    assert said in found.what


UNIT = {
    "LoadState": "loaded", "ActiveState": "active", "Result": "success", "ExecMainStatus": "0", "NRestarts": "0",
    "WatchdogUSec": "30s", "User": "gatepost",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "level", "said"),
    [
        ({}, Level.OK, "the service is active"),
        ({"ActiveState": "failed", "ExecMainStatus": "78"}, Level.FAULT, "its configuration has faults"),
        ({"ActiveState": "failed", "Result": "oom-kill"}, Level.FAULT, "the service has failed (oom-kill)"),
        ({"ActiveState": "inactive"}, Level.NOTE, "not started"),
        ({"NRestarts": "4"}, Level.NOTE, "restarted the service 4 times"),
        ({"WatchdogUSec": "0"}, Level.NOTE, "does not watch"),
        ({"User": "pi"}, Level.NOTE, "the service runs as pi, and this was for gatepost"),
    ],
)
def test_the_unit_is_judged_by_its_properties(changed: dict[str, str], level: Level, said: str) -> None:
    found = list(service.judge(UNIT | changed, "gatepost"))
    assert [each for each in of(found, level) if said in each.what]
    assert all(each.do for each in found if each.level is not Level.OK)


def test_a_unit_that_was_not_started_yet_is_not_asked_for_its_watchdog() -> None:
    found = service.judge(UNIT | {"ActiveState": "inactive", "WatchdogUSec": "0"}, "gatepost")
    assert ["not started" in each.what for each in found] == [True]


def test_a_machine_without_the_unit_is_passed_over() -> None:
    assert not list(service.judge({}, "gatepost"))


@pytest.mark.parametrize(
    ("load", "found"),
    [("loaded", {"LoadState": "loaded", "SupplementaryGroups": "gpio dialout"}), ("not-found", {})],
)
def test_systemd_is_asked_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: str, found: dict[str, str]
) -> None:
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f"#!/bin/sh\necho LoadState={load}\necho 'SupplementaryGroups=gpio dialout'\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(systemctl.parent), prepend=":")
    machine = FakeMachine(tmp_path / "machine")
    assert unit.properties(machine) == {}, "another init runs there"
    machine.write("/run/systemd/system/x")
    assert unit.properties(machine) == found


def test_a_systemd_that_does_not_answer_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text("#!/bin/sh\nexec sleep 60\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(systemctl.parent), prepend=":")
    monkeypatch.setattr(unit, "PATIENCE", 0.1)
    machine = FakeMachine(tmp_path / "machine")
    machine.write("/run/systemd/system/x")
    assert unit.properties(machine) == {}


@pytest.mark.parametrize(("limit", "used", "level"), [(1024, 40, Level.OK), (64, 40, Level.FAULT)])
def test_the_limit_of_open_files_is_that_of_the_running_agent(
    tmp_path: Path, limit: int, used: int, level: Level
) -> None:
    machine = FakeMachine(tmp_path)
    machine.write(
        "/proc/31/limits", f"Limit  Soft Limit  Hard Limit  Units\nMax open files  {limit}  4096  files\n"
    )
    machine.process(31, "python -m agent", *["/dev/null"] * used)
    (found,) = service.files(case(machine, agent=Running(pid=31)))
    assert found.level is level
    assert f"{limit} files may be open" in found.what
