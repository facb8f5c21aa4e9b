"""The service: what `gatepost service` writes, and what it leaves alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from support.agents import Result, gatepost
from support.configurations import gateway

from agent import app, catalog
from agent.errors import GatepostError
from agent.needs import Endpoint, File, GpioLine, SerialPort
from agent.service import state
from agent.service.access import Access, DeviceClass, classes_of
from agent.service.layout import CONFIG, DROP_INS, PACKAGED_UNIT, RULES, UNIT, Layout, hidden
from agent.service.unit import drop_ins, unit_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.needs import Need

PREFIX: Final = "/opt/gatepost"
SCALE: Final = {"driver": "serial_lines", "port": "/dev/ttyUSB0", "parse": "json"}
FAN: Final = {"driver": "gpio_output", "pin": 27}
DEVICES: Final = DROP_INS / "50-devices.conf"


def service(root: Path, verb: str, *words: str) -> Result:
    """Run `gatepost service` on the files below a folder."""
    return gatepost("service", verb, "--root", str(root), "--prefix", PREFIX, *words, folder=root)


def at(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def files(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()
    }


def configure(root: Path, settings: Mapping[str, Any]) -> Path:
    path = at(root, CONFIG)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(settings)))
    return path


def settings_of(text: str) -> list[tuple[str, str]]:
    """Return the assignments of a unit."""
    return re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)


# --- install ----------------------------------------------------------------------------------------------------------


def test_install_writes_unit_user_rules_and_a_configuration_that_runs(tmp_path: Path) -> None:
    result = service(tmp_path, "install")
    assert result.status == 0, result.err
    assert set(files(tmp_path)) == {
        str(path.relative_to("/"))
        for path in (UNIT, DEVICES, CONFIG, CONFIG.with_name("gatepost.schema.json"), *RULES.values())
    }
    assert at(tmp_path, CONFIG).read_text() == catalog.shared_file("gatepost.yaml")
    assert gatepost("check", str(at(tmp_path, CONFIG)), folder=tmp_path).status == 0
    assert at(tmp_path, CONFIG).stat().st_mode & 0o777 == 0o640, "somebody may write a password into it"


def test_install_again_changes_nothing(tmp_path: Path) -> None:
    service(tmp_path, "install")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    result = service(tmp_path, "install")
    assert result.status == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert "write" not in result.out


def test_install_keeps_a_configuration_and_drop_ins_of_others(tmp_path: Path) -> None:
    written = configure(tmp_path, gateway(devices={"pulse": {"driver": "heartbeat"}}))
    text = written.read_text()
    mine = at(tmp_path, DROP_INS / "secrets.conf")
    mine.parent.mkdir(parents=True)
    mine.write_text("[Service]\nLoadCredential=mqtt:/etc/gatepost/mqtt.secret\n")
    assert service(tmp_path, "install").status == 0
    assert written.read_text() == text
    assert "LoadCredential" in mine.read_text()
    assert not written.with_name("gatepost.schema.json").exists()


def test_install_brings_a_unit_of_an_earlier_version_up_to_date(tmp_path: Path) -> None:
    service(tmp_path, "install")
    unit = at(tmp_path, UNIT)
    text = unit.read_text()
    unit.write_text(text.replace("MemoryMax", "MemoryMix"))
    result = service(tmp_path, "install")
    assert f"write {unit}" in result.out
    assert unit.read_text() == text


def test_a_dry_run_only_says_what_it_would_do(tmp_path: Path) -> None:
    result = service(tmp_path, "install", "--dry-run")
    assert result.status == 0
    assert f"would write {at(tmp_path, UNIT)}" in result.out
    assert not files(tmp_path)


def test_a_configuration_with_faults_is_said_and_nothing_is_done(tmp_path: Path) -> None:
    configure(tmp_path, {"gateway": "g", "devices": {"x": {"driver": "nope"}}})
    before = files(tmp_path)
    result = service(tmp_path, "install")
    assert result.status == 78
    assert "unknown driver 'nope'" in result.err
    assert files(tmp_path) == before


@pytest.mark.parametrize("option", ["--prefix", "--config"])
@pytest.mark.parametrize("path", ["/opt/my gateway", "/opt/50%", "opt/gatepost", "/opt/a\nb", "/opt/$HOME"])
def test_a_path_that_a_unit_cannot_hold_is_refused(tmp_path: Path, option: str, path: str) -> None:
    result = service(tmp_path, "install", option, path)
    assert result.status == 1
    assert "cannot stand in a unit" in result.err
    assert not files(tmp_path)


def test_the_service_runs_the_environment_and_the_configuration_that_are_named(tmp_path: Path) -> None:
    result = service(tmp_path, "install", "--prefix", "/srv/gw", "--config", "/etc/site/gw.yaml")
    assert result.status == 0, result.err
    unit = dict(settings_of(at(tmp_path, UNIT).read_text()))
    assert unit["ExecStart"] == "/srv/gw/bin/python -I -m agent run /etc/site/gw.yaml"
    assert (tmp_path / "etc/site/gw.yaml").exists()


def test_where_a_package_has_brought_the_unit_only_what_is_its_users_is_written(tmp_path: Path) -> None:
    unit = at(tmp_path, PACKAGED_UNIT)
    unit.parent.mkdir(parents=True)
    unit.write_text(catalog.shared_file("gatepost.service", "systemd"))
    assert service(tmp_path, "install").status == 0
    assert not at(tmp_path, UNIT).exists()
    assert at(tmp_path, DEVICES).exists()
    assert "systemctl edit" in service(tmp_path, "install", "--config", "/etc/other.yaml").err
    assert "apt remove gatepost" in service(tmp_path, "remove").err


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd runs here")
def test_a_machine_without_systemd_is_refused(tmp_path: Path) -> None:
    for verb in ("install", "remove"):
        result = gatepost("service", verb, folder=tmp_path)
        assert result.status == 1
        assert "systemd does not run here" in result.err


def test_what_a_sandboxed_service_would_not_see_is_known() -> None:
    assert hidden(Path("/home/pi/gatepost/.venv"))
    assert hidden(Path("/root/venv"))
    assert not hidden(Path("/opt/gatepost"))
    assert not hidden(Path("/homestead"))


# --- remove -----------------------------------------------------------------------------------------------------------


def test_remove_keeps_configuration_and_log_unless_it_purges(tmp_path: Path) -> None:
    service(tmp_path, "install")
    log = tmp_path / "var/lib/gatepost/events.db"
    log.parent.mkdir(parents=True)
    log.write_text("a log")
    mine = at(tmp_path, DROP_INS / "mine.conf")
    mine.write_text("[Service]\n")
    result = service(tmp_path, "remove")
    assert result.status == 0
    assert "kept: /etc/gatepost, /var/lib/gatepost" in result.out
    left = {tmp_path / name for name in files(tmp_path)}
    assert left == {
        log,
        mine,
        at(tmp_path, CONFIG),
        at(tmp_path, CONFIG.with_name("gatepost.schema.json")),
    }
    assert "nothing to remove" in service(tmp_path, "remove").out
    assert service(tmp_path, "remove", "--purge").status == 0
    assert not files(tmp_path)


# --- what it may use --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "allowed"),
    [
        ("/dev/ttyUSB0", {"char-ttyUSB"}),
        ("/dev/ttyACM12", {"char-ttyACM"}),
        ("/dev/ttyAMA0", {"char-ttyAMA"}),
        ("/dev/serial0", {"char-ttyAMA", "char-ttyS"}),
        ("/dev/serial/by-id/usb-not-plugged-in", {"char-ttyUSB", "char-ttyACM"}),
        ("/dev/a-scale", {"char-ttyUSB", "char-ttyACM"}),
        ("/dev/pts/3", set()),  # never closed to a service
        ("/tmp/a-pipe", set()),
    ],
)
def test_a_serial_port_opens_the_class_of_devices_that_it_is_of(port: str, allowed: set[str]) -> None:
    assert {access.devices for access in classes_of([SerialPort(port)])} == allowed


def test_a_link_that_leads_to_a_port_now_opens_only_what_it_leads_to(tmp_path: Path) -> None:
    link = tmp_path / "scale"
    link.symlink_to("/dev/ttyACM0")
    assert [access.devices for access in classes_of([SerialPort(str(link))])] == ["char-ttyACM"]


def test_each_class_is_named_once_with_its_group_and_the_module_that_has_to_come_first() -> None:
    needs: list[Need] = [
        GpioLine("GPIO17", 17), GpioLine("GPIO27", 27, 1), SerialPort("/dev/ttyUSB1"), SerialPort("/dev/ttyUSB0"),
        File("/dev/i2c-1", "i2c"), File("/dev/spidev0.1"), File("/dev/watchdog", "root"),
        File("/sys/class/thermal"), Endpoint("broker", 1883, "the broker"),
    ]  # fmt: skip
    assert classes_of(needs) == [
        DeviceClass("/dev/watchdog", "root"),
        DeviceClass("char-gpiochip", "gpio"),
        DeviceClass("char-i2c", "i2c", "i2c-dev"),
        DeviceClass("char-spi", "spi", "spidev"),
        DeviceClass("char-ttyUSB", "dialout", "usbserial"),
    ]


def test_the_drop_in_lets_the_service_at_what_the_configuration_names(tmp_path: Path) -> None:
    configure(tmp_path, gateway(devices={"scale": SCALE, "fan": FAN}))
    service(tmp_path, "install")
    said = settings_of(at(tmp_path, DEVICES).read_text())
    assert [value for name, value in said if name == "DeviceAllow"] == ["char-gpiochip rw", "char-ttyUSB rw"]
    assert ("SupplementaryGroups", "dialout gpio") in said
    assert ("After", "modprobe@usbserial.service") in said
    configure(tmp_path, gateway(devices={"fan": FAN}))
    service(tmp_path, "install")
    assert "ttyUSB" not in at(tmp_path, DEVICES).read_text()
    assert "modprobe" not in at(tmp_path, DEVICES).read_text()


@pytest.mark.parametrize(
    ("path", "opened"),
    [
        ("/mnt/ssd/gatepost/events.db", "-/mnt/ssd/gatepost"),
        ("/var/lib/gatepost/more/events.db", None),
        ("events.db", None),
    ],
)
def test_a_log_that_is_elsewhere_may_be_written(tmp_path: Path, path: str, opened: str | None) -> None:
    configure(tmp_path, gateway(devices={}, log={"path": path}))
    assert service(tmp_path, "install").status == 0
    assert dict(settings_of(at(tmp_path, DEVICES).read_text())).get("ReadWritePaths") == opened


def test_a_log_in_a_place_that_a_unit_cannot_name_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    configure(tmp_path, gateway(devices={}, log={"path": "/mnt/my disk/events.db"}))
    before = files(tmp_path)
    result = service(tmp_path, "install")
    assert result.status == 1
    assert "/mnt/my disk cannot stand in a unit" in result.err
    assert files(tmp_path) == before


def test_groups_that_the_unit_may_name_are_made() -> None:
    """A unit with a group that there is not does not start at all."""
    made = re.findall(
        r"^m gatepost (\w+)$", catalog.shared_file("gatepost.sysusers.conf", "systemd"), re.MULTILINE
    )
    needs: list[Need] = [
        GpioLine("", 1),
        SerialPort("/dev/ttyS0"),
        *(File(path) for path in ("/dev/i2c-1", "/dev/spidev0.0")),
    ]
    assert {access.group for access in classes_of(needs)} <= set(made)


def test_only_a_systemd_that_knows_it_is_told_to_wait_longer_each_time() -> None:
    path = DROP_INS / "40-restart.conf"
    assert drop_ins(Access(), CONFIG, 252)[path] is None
    assert drop_ins(Access(), CONFIG, None)[path] is None
    assert "RestartSteps" in (drop_ins(Access(), CONFIG, 254)[path] or "")


# --- the unit ---------------------------------------------------------------------------------------------------------


def test_the_unit_says_what_we_promise() -> None:
    unit = dict(settings_of(catalog.shared_file("gatepost.service", "systemd")))
    assert unit["Type"] == "notify"
    assert unit["RestartPreventExitStatus"] == "78"
    assert unit["DevicePolicy"] == "closed"
    assert unit["ExecStart"].startswith(f"{PREFIX}/bin/python -I -m agent run {CONFIG}")
    assert unit["WorkingDirectory"] == f"/var/lib/{unit['StateDirectory']}"
    assert unit["RuntimeDirectoryMode"] == "0700"
    assert Path("/run", unit["RuntimeDirectory"]) == app.RUNTIME_FOLDER


def test_a_unit_of_another_version_is_another_text() -> None:
    layout = Layout(prefix=Path(PREFIX))
    assert unit_text(layout, "1.0") != unit_text(layout, "1.1")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_tight_and_systemd_understands_all_of_it(tmp_path: Path) -> None:
    """Tight as systemd counts it: 0 is shut, 10 is open."""
    configure(
        tmp_path,
        gateway(devices={"scale": SCALE, "fan": FAN}),
    )
    service(tmp_path, "install")
    (tmp_path / "opt/gatepost/bin").mkdir(parents=True)
    (tmp_path / "opt/gatepost/bin/python").symlink_to("/usr/bin/python3")
    folder = at(tmp_path, UNIT).parent
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"}
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(at(tmp_path, UNIT))],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    level = re.search(r"Overall exposure level for gatepost.service: ([\d.]+)", said.stdout)
    assert level, said.stderr
    assert float(level[1]) <= 1.5
    assert "Unknown" not in said.stderr
    assert "ignoring" not in said.stderr


# --- how it is --------------------------------------------------------------------------------------------------------


def shown(**said: str) -> str:
    """Return what `systemctl show` prints of a service that runs, but for what is said."""
    usual = {
        "LoadState": "loaded", "ActiveState": "active", "SubState": "running", "Result": "success", "ExecMainStatus": "0",
        "NRestarts": "0", "UnitFileState": "enabled", "FragmentPath": str(UNIT), "MemoryCurrent": "[not set]",
        "ExecStart": f"{{ path={PREFIX}/bin/python ; argv[]={PREFIX}/bin/python -I -m agent run {CONFIG} ; ignore_errors=no }}",
        "StateChangeTimestamp": "Wed 2026-11-25 18:26:30 UTC", "StatusText": "2 devices, 0 forwarders",
    }  # fmt: skip
    return "".join(f"{name}={value}\n" for name, value in (usual | said).items())


@pytest.mark.parametrize(
    ("said", "summary"),
    [
        ({}, "it runs since Wed 2026-11-25 18:26:30 UTC"),
        ({"NRestarts": "2"}, "it runs since Wed 2026-11-25 18:26:30 UTC, started again 2 times"),
        ({"LoadState": "not-found", "ActiveState": "inactive"}, "the service is not installed"),
        ({"ActiveState": "inactive"}, "it is inactive"),
        ({"ActiveState": "activating", "NRestarts": "1"}, "it is activating, started again once"),
        (
            {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "78"},
            "it stands still: its configuration has faults, and systemd does not try again until it is told to",
        ),
        (
            {"ActiveState": "failed", "Result": "watchdog", "ExecMainStatus": "6", "NRestarts": "200"},
            "it has failed (watchdog, exit status 6), started again 200 times, and systemd has given up",
        ),
    ],
)
def test_how_it_is_in_a_sentence(monkeypatch: pytest.MonkeyPatch, said: dict[str, str], summary: str) -> None:
    monkeypatch.setattr(state, "_systemctl", lambda *_: shown(**said))
    assert state.ask().summary == summary


def test_what_it_runs_is_told_from_systemds_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_systemctl", lambda *_: shown(MemoryCurrent="41943040"))
    found = state.ask()
    assert (found.python, found.config) == (Path(PREFIX, "bin/python"), CONFIG)
    assert found.memory == 41_943_040
    monkeypatch.setattr(state, "_systemctl", lambda *_: shown(ExecStart="", MemoryCurrent=str(2**64 - 1)))
    assert (state.ask().config, state.ask().memory) == (None, None)


def test_a_systemd_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, "", "Failed to connect to bus: Host is down\n")

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(GatepostError, match="Host is down"):
        state.ask()
    assert state.version() is None
