"""A virtual machine under QEMU: started, given commands, reset, plugged, saved, and cut from its power.

It has no network but the ports named in `reach`, which lead to this machine's 127.0.0.1. Commands go through the QEMU
guest agent on a virtual serial line. Its root file system is new at each start; what is to outlive a power cut is on
the disk that it is given.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LAB: Final = Path(
    os.environ.get("GATEPOST_LAB")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "gatepost-lab")
)
"""Where image.sh has built."""

OUTSIDE: Final = "10.0.2.100"
"""The address at which the ports in `reach` are found from inside."""

BOOT: Final = 180.0
"""Seconds after which a machine that does not answer is taken as dead; emulated, it takes 15 to 25."""

CHUNK: Final = 48_000
"""Bytes of a file in one message to the guest agent."""

_KERNEL_LINE: Final = (
    "root=/dev/vda rw console=ttyS0 quiet loglevel=3 mitigations=off nokaslr audit=0 random.trust_cpu=on "
    "tsc=unstable systemd.show_status=0"
)


class MachineError(Exception):
    """The machine, or its guest agent, does not do what it was told."""


@dataclass(frozen=True)
class Disk:
    """A disk beside the root one, /dev/vdb inside.

    Attributes:
        path: A raw image.
        cache: QEMU's cache mode: writeback, none (past this machine's page cache) or unsafe (flushes are ignored).
        write_log: Where every write and flush is recorded in order; None for nowhere. See writelog.py.
    """

    path: Path
    cache: str = "writeback"
    write_log: Path | None = None

    def arguments(self) -> list[str]:
        """Return QEMU's options."""
        if self.write_log is None:
            drive = ["-drive", f"file={self.path},if=none,id=data,cache={self.cache},format=raw"]
        else:
            drive = [
                "-blockdev", f"driver=file,filename={self.path},node-name=image-file",
                "-blockdev", "driver=raw,file=image-file,node-name=image",
                "-blockdev", f"driver=file,filename={self.write_log},node-name=log-file",
                "-blockdev", "driver=blklogwrites,file=image,log=log-file,log-sector-size=512,node-name=data",
            ]  # fmt: skip
        return [*drive, "-device", "virtio-blk-pci,drive=data"]


@dataclass(frozen=True)
class Done:
    """How a command in the machine ended."""

    status: int
    out: str
    err: str


class Machine:
    """One virtual machine, with a folder for its sockets and its console's text.

    Attributes:
        folder: Holds console.sock (a root shell), console.log, and a socket for each of `ports` and each plugged serial line.
        disk: The one beside the root disk; None where there is none.
    """

    def __init__(
        self,
        folder: Path,
        *,
        memory: int = 512,
        processors: int = 2,
        disk: Disk | None = None,
        reach: Mapping[int, int] | None = None,
        ports: tuple[str, ...] = (),
        image: str = "root.img",
    ) -> None:
        """Describe a machine, not started yet.

        Args:
            folder: For its files; made where it is not there.
            memory: In MiB.
            processors: How many it has.
            disk: What outlives it.
            reach: By port of `OUTSIDE`, the port of this machine to which it leads.
            ports: Names of virtual serial lines, /dev/virtio-ports/NAME inside, NAME.sock in the folder.
            image: Its root file system: root.img with gatepost in it, or bare.img without.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._memory = memory
        self._processors = processors
        self.disk = disk
        self._reach = reach or {}
        self._ports = ports
        self._image = LAB / image
        self._process: subprocess.Popen[bytes] | None = None
        self._monitor: socket.socket | None = None
        self._lines: Iterator[bytes] = iter(())
        self._agent: socket.socket | None = None
        self._ids = itertools.count(int(time.time()))
        self._plugs: set[str] = set()

    # --- its life ---------------------------------------------------------------------------------------------------

    def start(self, *, resume: str | None = None, accel: str | None = None, timeout: float = BOOT) -> None:
        """Switch on and wait until it takes commands.

        Args:
            resume: Go on from what `save` has kept under this name in this folder.
            accel: QEMU's accelerator; what `accelerator` found where it is not said.
            timeout: Seconds to wait at most.
        """
        assert self._process is None
        if not self._image.exists():
            raise MachineError(f"there is no image in {LAB}: run tests/lab/image.sh")
        root = self.folder / "root.qcow2"
        if resume is None:
            subprocess.run(
                [
                    "qemu-img",
                    "create",
                    "-q",
                    "-f",
                    "qcow2",
                    "-F",
                    "raw",
                    "-b",
                    str(self._image),
                    str(root),
                ],
                check=True,
            )
        for old in self.folder.glob("*.sock"):
            old.unlink()
        with (self.folder / "qemu.log").open("wb") as said:
            self._process = subprocess.Popen(
                self._command(root, accel or accelerator(), resume),
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip
        self._monitor = self.port("monitor")
        self._lines = iter(self._monitor.makefile("rb"))
        next(self._lines)  # the greeting
        self.qmp("qmp_capabilities")
        self._agent = self.port("agent")
        self.wait_agent(timeout)
        if resume is not None:
            self.run(f"date -s @{time.time():.0f}")  # its clock stood still

    def _command(self, root: Path, accel: str, resume: str | None) -> list[str]:
        reach = "".join(
            f",guestfwd=tcp:{OUTSIDE}:{inside}-cmd:socat - TCP:127.0.0.1:{outside}"
            for inside, outside in self._reach.items()
        )
        command = [
            "qemu-system-x86_64", "-machine", "q35", "-accel", accel, "-cpu", "max",
            "-m", str(self._memory), "-smp", str(self._processors),
            "-nodefaults", "-no-user-config", "-display", "none",
            "-kernel", str(LAB / "vmlinuz"), "-initrd", str(LAB / "initrd.img"), "-append", _KERNEL_LINE,
            "-drive", f"file={root},if=none,id=root,cache=unsafe,format=qcow2", "-device", "virtio-blk-pci,drive=root",
            "-netdev", f"user,id=net,restrict=on{reach}", "-device", "virtio-net-pci,netdev=net,id=nic,romfile=",
            "-device", "virtio-rng-pci", "-device", "qemu-xhci,id=usb", "-device", "virtio-serial-pci",
            *self._chardev("console", f",logfile={self.folder / 'console.log'}"), "-serial", "chardev:console",
            *self._chardev("monitor"), "-mon", "chardev=monitor,mode=control",
            *self._chardev("agent"), "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
        ]  # fmt: skip
        for port in self._ports:
            command += [*self._chardev(port), "-device", f"virtserialport,chardev={port},name={port}"]
        if self.disk is not None:
            command += self.disk.arguments()
        if resume is not None:
            command += ["-loadvm", resume]
        return command

    def _chardev(self, name: str, more: str = "") -> list[str]:
        return ["-chardev", f"socket,id={name},path={self.folder / f'{name}.sock'},server=on,wait=off{more}"]

    def port(self, name: str) -> socket.socket:
        """Return the outer end of one of its `ports`, or of a serial line that is plugged in."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)

        def connected() -> bool:
            if self._process is None or self._process.poll() is not None:
                raise MachineError(f"QEMU has ended: {(self.folder / 'qemu.log').read_text()}")
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                connection.connect(str(self.folder / f"{name}.sock"))
                return True
            return False

        until(connected, f"QEMU opens {name}.sock")
        return connection

    def cut(self) -> None:
        """Cut the power: QEMU is gone in the midst of whatever it did."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait(30)
            for end in (self._monitor, self._agent):
                if end is not None:
                    end.close()

    def reset(self) -> None:
        """Press the reset button, and let it stand still in its firmware until `go_on`."""
        self.qmp("system_reset")
        self.qmp("stop")

    def go_on(self, timeout: float = BOOT) -> None:
        """Go on after a `reset`, and wait until it takes commands again."""
        self.qmp("cont")
        self.wait_agent(timeout)

    def save(self, name: str) -> None:
        """Keep the whole state, to `start` from it in a second. Not with a disk: QEMU cannot keep a raw one."""
        self.hmp(f"savevm {name}")

    # --- the monitor ------------------------------------------------------------------------------------------------

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Give QEMU a command.

        Raises:
            MachineError: It refuses.
        """
        assert self._monitor is not None
        with contextlib.suppress(ConnectionError):
            self._monitor.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            for line in self._lines:
                said = json.loads(line)
                if "return" in said:
                    return said["return"]
                if "error" in said:
                    raise MachineError(f"{command}: {said['error']['desc']}")
        raise MachineError(f"{command}: QEMU has ended: {(self.folder / 'qemu.log').read_text()}")

    def hmp(self, command: str) -> None:
        """Give QEMU a command that exists for people only.

        Raises:
            MachineError: It said anything, which is a complaint.
        """
        said = self.qmp("human-monitor-command", **{"command-line": command})
        if said:
            raise MachineError(f"{command}: {said.strip()}")

    def network(self, *, up: bool) -> None:
        """Plug the network cable in or out."""
        self.qmp("set_link", name="nic", up=up)

    def plug(self, name: str) -> None:
        """Plug a USB serial adapter in (FTDI, so /dev/ttyUSB…); `port` is its other end."""
        if name not in self._plugs:
            self._plugs.add(name)
            address = {"type": "unix", "data": {"path": str(self.folder / f"{name}.sock")}}
            backend = {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
            self.qmp("chardev-add", id=name, backend=backend)
        self.qmp(
            "device_add",
            driver="usb-serial",
            id=f"plug-{name}",
            chardev=name,
            bus="usb.0",
            **{"always-plugged": True},
        )

    def unplug(self, name: str) -> None:
        """Pull a USB serial adapter out."""
        self.qmp("device_del", id=f"plug-{name}")

    # --- the guest agent --------------------------------------------------------------------------------------------

    def wait_agent(self, timeout: float = BOOT) -> None:
        """Wait until the machine takes commands."""

        def answers() -> bool:
            assert self._agent is not None
            number = next(self._ids)
            self._agent.settimeout(1)
            # The byte 255 ends whatever the agent had begun to read: QEMU guest agent protocol, guest-sync-delimited.
            try:
                self._tell("guest-sync-delimited", {"id": number}, before=b"\xff")
                while self._answer().get("return") != number:
                    pass
            except TimeoutError:
                return False
            self._agent.settimeout(60)
            return True

        console = self.folder / "console.log"
        until(answers, lambda: f"it takes commands; {console.read_text(errors='replace')[-2000:]}", timeout)

    def _tell(self, command: str, arguments: Mapping[str, Any], before: bytes = b"") -> None:
        assert self._agent is not None
        message = json.dumps({"execute": command, "arguments": arguments}).encode()
        self._agent.sendall(before + message + b"\n")

    def _answer(self) -> dict[str, Any]:
        assert self._agent is not None
        line = b""
        while not line.endswith(b"\n"):
            part = self._agent.recv(65_536)
            if not part:
                raise MachineError("QEMU has ended")
            line += part
        answer: dict[str, Any] = json.loads(line.rpartition(b"\xff")[2].strip().splitlines()[-1])
        return answer

    def _call(self, command: str, **arguments: Any) -> Any:
        self._tell(command, arguments)
        answer = self._answer()
        if "error" in answer:
            raise MachineError(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    def run(self, command: str, *, timeout: float = 120, check: bool = True) -> Done:
        """Run a shell command as root.

        Raises:
            MachineError: It failed, and `check` is said.
            AssertionError: It has not ended in time.
        """
        pid = self._call("guest-exec", path="/bin/sh", arg=["-c", command], **{"capture-output": True})["pid"]
        ended: dict[str, Any] = until(
            lambda: (status := self._call("guest-exec-status", pid=pid))["exited"] and status,
            command,
            timeout,
            look=0.1,  # each look takes some of an emulated processor
        )
        out, err = (
            base64.b64decode(ended.get(name, "")).decode(errors="replace")
            for name in ("out-data", "err-data")
        )
        done = Done(ended.get("exitcode", 128 + ended.get("signal", 0)), out, err)
        if check and done.status:
            raise MachineError(f"{command!r} failed with status {done.status}: {out}{err}")
        return done

    def put(self, content: bytes, path: str) -> None:
        """Write a file."""
        handle = self._call("guest-file-open", path=path, mode="w")
        for start in range(0, len(content), CHUNK):
            chunk = base64.b64encode(content[start : start + CHUNK]).decode()
            self._call("guest-file-write", handle=handle, **{"buf-b64": chunk})
        self._call("guest-file-close", handle=handle)

    def get(self, path: str) -> bytes:
        """Read a file."""
        handle = self._call("guest-file-open", path=path, mode="r")
        content, end = b"", False
        while not end:
            read = self._call("guest-file-read", handle=handle, count=CHUNK)
            content, end = content + base64.b64decode(read["buf-b64"]), read["eof"]
        self._call("guest-file-close", handle=handle)
        return content


def accelerator() -> str:
    """Return `kvm` where a machine really boots with it, else `tcg` (emulation); found out once and kept in `LAB`.

    A /dev/kvm that opens is not enough: under nested virtualization of some kinds no kernel gets beyond its firmware.
    """
    kept = LAB / "accelerator"
    if not kept.exists():
        found = "tcg,thread=multi,tb-size=256"
        if os.access("/dev/kvm", os.R_OK | os.W_OK):
            machine = Machine(LAB / "probe")
            with contextlib.suppress(AssertionError, MachineError):
                machine.start(accel="kvm", timeout=30)
                found = "kvm"
            machine.cut()
        kept.write_text(found)
    return kept.read_text()
