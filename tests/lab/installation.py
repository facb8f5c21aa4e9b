"""Installs the Debian package on a bare machine and tries what a service must bear: `python -m lab.installation`.

In one virtual machine, one after the other: the package is installed, the machine rebooted, the agent killed, given devices
(a GPIO chip and a USB serial adapter, which it may use only after the unit says so), a faulty configuration, a newer
package with a backlog waiting, and removed, installed again, purged; at last the same environment is installed as a
service by itself, without a package. Each step says what it found and how long it took; exit status 1 where one failed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from lab.machine import LAB, OUTSIDE, Machine, MachineError
from support.waiting import until

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

HERE: Final = Path(__file__).parent
DIST: Final = HERE.parents[1] / "dist"
CONFIGURATION: Final = "/etc/gatepost/gatepost.yaml"
STATE: Final = "/var/lib/gatepost"
DROP_INS: Final = "/etc/systemd/system/gatepost.service.d"
PATIENCE: Final = 300.0
"""Seconds for what an emulated machine has to do."""

TIGHT: Final = 1.5
"""What `systemd-analyze security` may say at most: 0 is shut, 10 is open."""

CHIP: Final = "/sys/kernel/config/gpio-sim/lab"
IN: Final = 17
OUT: Final = 27

DEVICES: Final[dict[str, Any]] = {
    "machine": {"driver": "system", "every": "5s", "only": ["memory_used"]},
    "pulse": {"driver": "heartbeat", "every": "2s"},
    "scale": {
        "driver": "serial_lines", "port": "/dev/ttyUSB0", "parse": {"csv": ["weight"]}, "units": {"weight": "kg"},
    },
    "door": {"driver": "gpio_input", "pin": IN},
    "fan": {"driver": "gpio_output", "pin": OUT},
}  # fmt: skip
HEAVY: Final = {
    "threshold": {"of": "scale.weight", "above": 35, "clear": 33}, "severity": "critical", "then": {"set": {"fan": True}},
}  # fmt: skip
EMULATED: Final = "[Service]\nWatchdogSec=300\nTimeoutStartSec=300\nTimeoutStopSec=120\n"
"""An emulated processor is ten to twenty times slower, and the limits of the unit are for real ones."""


class TrialError(AssertionError):
    """Something is not as it must be."""


def must(condition: object, what: str) -> None:
    """Fail where it is not so.

    Raises:
        TrialError: It is not.
    """
    if not condition:
        raise TrialError(what)


class Trial:
    """The machine, and what is tried on it, in this order."""

    def __init__(self, folder: Path, package: Path, newer: Path, *, gpio: bool) -> None:
        self._package = package
        self._newer = newer
        self._gpio = gpio
        self._machine = Machine(folder / "machine", image="bare.img")
        self._line: socket.socket | None = None

    def steps(self) -> list[tuple[str, Callable[[], str]]]:
        """Return the name of each step, and what does it and says what it found."""
        steps = [
            ("the machine boots, with nothing of gatepost on it", self.boot),
            ("dpkg --install: it runs, and readings arrive", self.install),
            ("systemd-analyze security", self.exposure),
            ("reboot: it runs, and readings arrive", self.reboot),
            ("kill -9: it is back", self.kill),
            ("devices that the unit does not name are closed", self.closed),
            ("`gatepost service install` opens them; an adapter that is plugged in later is read", self.open),
            ("a faulty configuration: no loop, and the fault is said", self.fault),
            ("a newer package, with a backlog and an alarm", self.upgrade),
            ("removed and installed again: the data is there", self.remove),
            ("purged: nothing is left", self.purge),
            ("installed by itself, without a package", self.alone),
        ]
        return [step for step in steps if self._gpio or step[1] not in {self.closed, self.open}]

    def end(self) -> None:
        """Switch off."""
        self._machine.cut()

    # --- what it does -------------------------------------------------------------------------------------------------

    def boot(self) -> str:
        """Start the machine."""
        self._machine.start()
        must(self.run("ls /opt; getent passwd gatepost", check=False) == "", "there is something of gatepost")
        for name, file in (("package", self._package), ("newer", self._newer)):
            self._machine.put(file.read_bytes(), f"/root/{name}.deb")
        if self._gpio:
            self._machine.put((LAB / "gpio-sim.ko").read_bytes(), "/root/gpio-sim.ko")
        self.allow_time()
        return self.run(
            "systemd --version | head -1; uname -r; free -m | awk '/Mem/ {print $2 \" MB\"}'"
        ).replace("\n", ", ")

    def install(self) -> str:
        """Install the package."""
        began = time.monotonic()
        self.run("dpkg --install /root/package.deb")
        took = time.monotonic() - began
        self.await_readings()
        modes = self.run(f"stat -c '%U:%G %a' /etc/gatepost {CONFIGURATION} {STATE}").split("\n")
        must(modes == ["root:gatepost 750", "root:gatepost 640", "gatepost:gatepost 700"], f"modes {modes}")
        memory = int(self.show("MemoryCurrent"))
        return f"dpkg {took:.0f} s; {self.run('du -sm /opt/gatepost').split()[0]} MB on the disk; {memory / 1e6:.0f} MB of memory"

    def exposure(self) -> str:
        """Hold the unit against systemd's own list."""
        said = self.run("systemd-analyze security --no-pager gatepost")
        level = float(re.findall(r"exposure level for gatepost.service: ([\d.]+)", said)[0])
        must(level <= TIGHT, f"the exposure level is {level}")
        return str(level)

    def reboot(self) -> str:
        """Boot again from inside."""
        began, before = time.monotonic(), self.run("cat /proc/sys/kernel/random/boot_id")
        run = self.status()["run"]
        self.run("systemd-run --quiet --on-active=1 systemctl reboot")

        def is_back() -> bool:
            with contextlib.suppress(TimeoutError, AssertionError, MachineError):
                self._machine.wait_agent(10)
                return self.run("cat /proc/sys/kernel/random/boot_id") != before
            return False

        until(is_back, "the machine is back", PATIENCE)
        self.await_readings(after=run)
        return f"{time.monotonic() - began:.0f} s, with the shutdown"

    def kill(self) -> str:
        """Kill the agent."""
        run, pid = self.status()["run"], self.show("MainPID")
        began = time.monotonic()
        self.run("systemctl kill --signal=KILL gatepost")
        until(lambda: self.is_active() and self.show("MainPID") != pid, "it is back", PATIENCE)
        took = time.monotonic() - began
        self.await_readings(after=run)
        must(self.show("NRestarts") == "1", f"started again {self.show('NRestarts')} times")
        return f"active again after {took:.1f} s"

    def closed(self) -> str:
        """Configure devices, and do not tell the unit."""
        self.run(
            "modprobe configfs && insmod /root/gpio-sim.ko && (mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config)"
        )
        self.run(
            f"mkdir -p {CHIP}/bank0 && echo 28 > {CHIP}/bank0/num_lines && echo 1 > {CHIP}/live && udevadm settle"
        )
        mode = self.run("stat -c '%G %a' /dev/gpiochip0")
        must(mode == "gpio 660", f"/dev/gpiochip0 is {mode}")
        self.configure(DEVICES)
        self.run("systemctl restart gatepost")

        def refused() -> bool:
            devices = self.status()["devices"]
            return all("service install" in devices[name].get("reason", "") for name in ("door", "fan"))

        until(refused, lambda: f"the chip is refused: {self.status()['devices']}", PATIENCE)
        status = self.run("gatepost service status", check=False)
        must("have changed; let the service at them" in status, status)
        return str(self.status()["devices"]["door"]["reason"])

    def open(self) -> str:
        """Tell the unit, and then plug a serial adapter in."""
        self.run("gatepost service install", timeout=PATIENCE)
        self.until_up("door", "fan")
        self._machine.plug("scale")
        self._line = self._machine.port("scale")
        self.until_up("scale")
        must(self.value("door", "state") == 0 and self.level(OUT) == "0", "the pins are low")
        self.run(f"echo pull-up > {self.pin(IN)}/pull")
        until(lambda: self.value("door", "state") == 1, "the input is read", PATIENCE)
        self._line.sendall(b"\n12.5\n40.5\n")
        until(lambda: self.value("scale", "weight") == 40.5, "the scale is read", PATIENCE)
        until(lambda: self.level(OUT) == "1", "the rule has set the output", PATIENCE)
        groups = self.run("grep Groups /proc/$(systemctl show -P MainPID gatepost)/status")
        return f"input, output and serial line work; exposure {self.exposure()}; {' '.join(groups.split())}"

    def fault(self) -> str:
        """Break the configuration, start, and mend it."""
        good = self._machine.get(CONFIGURATION)
        self._machine.put(good + b"rules:\n  x: {}\n", CONFIGURATION)
        must(
            self._machine.run("systemctl restart gatepost", timeout=PATIENCE, check=False).status != 0,
            "it started",
        )
        since = time.monotonic()
        until(lambda: time.monotonic() > since + 20, "some time passes", PATIENCE)
        must(self.show("NRestarts") == "0", "it was started again")
        must(self.show("ExecMainStatus") == "78", f"exit status {self.show('ExecMainStatus')}")
        said = self._machine.run("gatepost service status", timeout=PATIENCE, check=False)
        must(said.status == 1 and "gatepost.yaml:" in said.out, said.out)
        must(
            "gatepost.yaml:" in self.run("systemctl status --no-pager gatepost", check=False),
            "not in systemctl status",
        )
        self._machine.put(good, CONFIGURATION)
        self.run("gatepost service install", timeout=PATIENCE)
        self.await_readings()
        return next(line.strip() for line in said.out.splitlines() if "gatepost.yaml:" in line)

    def upgrade(self) -> str:
        """Install a newer package while events wait and an alarm is active."""
        site = {"mqtt": {"host": OUTSIDE, "port": 1}, "reconnect": {"min": "1s", "max": "2s"}}
        own = {name: DEVICES[name] for name in ("machine", "pulse")}
        rule = {"threshold": {"of": "machine.memory_used", "above": 0}}
        self.configure(DEVICES if self._gpio else own, {"site": site}, {"alive": rule})
        self.run("gatepost service install && systemctl restart gatepost", timeout=PATIENCE)
        until(lambda: self.status()["alarms"] and self.waiting() > 5, "an alarm, and a backlog", PATIENCE)
        before, waiting = self.status(), self.waiting()
        sum_before = self.run(f"sha256sum {CONFIGURATION}")
        began = time.monotonic()
        self.run("dpkg --install /root/newer.deb", timeout=PATIENCE)
        took = time.monotonic() - began
        self.await_readings(after=before["run"])
        after = self.status()
        must(self.run("dpkg-query -W -f '${Version}' gatepost") == "9.9", "it is not the newer one")
        must(sum_before == self.run(f"sha256sum {CONFIGURATION}"), "the configuration was changed")
        must(self.waiting() >= waiting, f"{waiting} events waited, and {self.waiting()} do")
        must(
            {(a["rule"], a["raised"]) for a in after["alarms"]}
            == {(a["rule"], a["raised"]) for a in before["alarms"]},
            f"the alarms are not the same: {before['alarms']}, {after['alarms']}",
        )
        return f"dpkg {took:.0f} s; {waiting} events wait on, the alarm of {after['alarms'][0]['raised']} is active"

    def remove(self) -> str:
        """Remove the package, look, and install it again."""
        run = self.status()["run"]
        self.run("dpkg --remove gatepost", timeout=PATIENCE)
        must(not self.is_active(), "it still runs")
        left = self.run(
            f"ls -d /opt/gatepost {CONFIGURATION} {STATE}/events.db 2>/dev/null", check=False
        ).split()
        must(left == [CONFIGURATION, f"{STATE}/events.db"], f"left: {left}")
        self.run("dpkg --install /root/package.deb", timeout=PATIENCE)
        self.await_readings(after=run)
        must(self.waiting() > 5, "the backlog is gone")
        return f"kept: {', '.join(left)}; {self.waiting()} events wait"

    def purge(self) -> str:
        """Purge the package; its environment is put aside for the next step."""
        self.run("cp -a /opt/gatepost /srv/gatepost && dpkg --purge gatepost", timeout=PATIENCE)
        left = self.run(
            "find / -xdev -iname '*gatepost*' -not -path '/srv/*' -not -path '/sys/*'; getent passwd gatepost",
            check=False,
        )
        must(not left, f"left: {left}")
        return "no file and no user of that name"

    def alone(self) -> str:
        """Install the environment that was put aside, again, and remove it."""
        self.allow_time()
        program = "/srv/gatepost/bin/python -I -m agent"
        said = self.run(f"cd / && {program} service install", timeout=PATIENCE)
        must("write /etc/systemd/system/gatepost.service" in said, said)
        must(self.show("ExecStart").count("/srv/gatepost/bin/python -I -m agent run"), self.show("ExecStart"))
        until(self.is_active, "it runs", PATIENCE)
        pid = self.show("MainPID")
        again = self.run(f"{program} service install", timeout=PATIENCE)
        must(
            "write" not in again and self.show("MainPID") == pid, f"the second time it did something: {again}"
        )
        self.run(f"{program} service remove", timeout=PATIENCE)
        must(not self.is_active(), "it still runs")
        kept = self.run(f"ls -d {CONFIGURATION} {STATE}/events.db", check=False).split()
        must(len(kept) == 2, f"kept: {kept}")
        self.run(f"{program} service remove --purge", timeout=PATIENCE)
        left = self.run(
            "ls -d /etc/gatepost /var/lib/gatepost /etc/systemd/system/gatepost* 2>/dev/null; getent passwd gatepost",
            check=False,
        )
        must(not left, f"left: {left}")
        return "installed, again without a restart, removed, purged"

    # --- looking ------------------------------------------------------------------------------------------------------

    def run(self, command: str, *, timeout: float = PATIENCE, check: bool = True) -> str:
        """Run a command and return what it printed."""
        return self._machine.run(command, timeout=timeout, check=check).out.strip()

    def allow_time(self) -> None:
        """Give the service the time that an emulated machine needs."""
        self.run(f"mkdir -p {DROP_INS}")
        self._machine.put(EMULATED.encode(), f"{DROP_INS}/90-emulated.conf")
        self.run(f"chmod 644 {DROP_INS}/90-emulated.conf")  # the guest agent lets everybody write

    def show(self, name: str) -> str:
        """Return a property of the unit."""
        return self.run(f"systemctl show --value --property={name} gatepost")

    def is_active(self) -> bool:
        """Tell whether systemd takes the service as ready."""
        return self.show("ActiveState") == "active"

    def status(self) -> dict[str, Any]:
        """Return what the agent says of itself, once it answers."""
        told: dict[str, Any] = {}

        def answers() -> bool:
            told.update(self._status() or {})
            return bool(told)

        until(answers, lambda: self.run("journalctl -u gatepost -n 30 --no-pager -o cat"), PATIENCE)
        return told

    def _status(self) -> dict[str, Any] | None:
        """Return what the agent says of itself; None while it does not answer."""
        done = self._machine.run(f"gatepost status --json {CONFIGURATION}", timeout=PATIENCE, check=False)
        said: dict[str, Any] | None = json.loads(done.out) if done.status == 0 else None
        return said

    def value(self, device: str, channel: str) -> Any:
        """Return the latest value of a channel, None where there is none."""
        return self.status()["devices"][device]["latest"].get(channel, {}).get("value")

    def waiting(self) -> int:
        """Return how many events wait for the broker that cannot be reached."""
        return int(self.status()["forwarders"]["site"]["waiting"])

    def await_readings(self, after: int = 0) -> None:
        """Wait until there are readings of the agent's present run, which is a later one than `after`."""

        def there() -> bool:
            status = self._status()
            return status is not None and status["run"] > after and status["devices"]["pulse"]["readings"] > 0

        until(there, lambda: self.run("journalctl -u gatepost -n 30 --no-pager -o cat"), PATIENCE)

    def until_up(self, *names: str) -> None:
        """Wait until devices are up."""
        until(
            lambda: all(self.status()["devices"][name]["health"] == "up" for name in names),
            lambda: f"{names} are up: {self.status()['devices']}",
            PATIENCE,
        )

    def configure(
        self,
        devices: dict[str, Any],
        forward: dict[str, Any] | None = None,
        rules: dict[str, Any] | None = None,
    ) -> None:
        """Write a configuration, into the file that is there, whose owner and mode it keeps."""
        heavy = {"heavy": HEAVY} if "scale" in devices else {}
        settings = {
            "gateway": "lab",
            "devices": devices,
            "rules": heavy | (rules or {}),
            "forward": forward or {},
        }
        self._machine.put(yaml.safe_dump(settings).encode(), CONFIGURATION)

    def pin(self, line: int) -> str:
        """Return where the outer side of a line of the simulated chip is."""
        return self.run(
            f"echo /sys/devices/platform/$(cat {CHIP}/dev_name)/$(cat {CHIP}/bank0/chip_name)/sim_gpio{line}"
        )

    def level(self, line: int) -> str:
        """Return the level of a line, seen from outside."""
        return self.run(f"cat {self.pin(line)}/value")


def newer(package: Path, folder: Path) -> Path:
    """Return the same package with a higher version."""
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder / "newer"], check=True)
    control = folder / "newer/DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", "Version: 9.9", control.read_text(), flags=re.MULTILINE))
    built = folder / "newer.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", folder / "newer", built],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    shutil.rmtree(folder / "newer")
    return built


def main() -> int:
    """Run the trial and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--no-gpio", action="store_true", help="without GPIO and serial: needs no kernel headers"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no machine is left behind
    if not options.no_gpio:
        subprocess.run([HERE / "gpio.sh"], check=True)
    package = max(DIST.glob("gatepost_*_amd64.deb"), key=lambda path: path.stat().st_mtime)
    print(f"{package.name}, {package.stat().st_size / 1e6:.1f} MB; virtual machine in {LAB}", flush=True)
    with (
        (LAB / "lock").open("a") as lock,
        tempfile.TemporaryDirectory(prefix="installation-", dir=LAB) as name,
    ):
        fcntl.flock(lock, fcntl.LOCK_SH)
        trial = Trial(Path(name), package, newer(package, Path(name)), gpio=not options.no_gpio)
        try:
            for what, step in trial.steps():
                began = time.monotonic()
                print(f"{what} …", flush=True)
                try:
                    found = step()
                except (AssertionError, MachineError) as error:
                    print(f"  FAILED after {time.monotonic() - began:.0f} s: {error}", flush=True)
                    return 1
                print(f"  ok, {time.monotonic() - began:.0f} s: {found}", flush=True)
        finally:
            trial.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
