"""Runs in the machine: tells the outside what is durable in the log, as soon as it is.

    observer.py LOG PORT AFTER

It reads the log as any second reader would. In WAL mode with `synchronous=FULL`, SQLite first syncs the write-ahead log
and then lets other connections see the transaction (`sqlite3WalFrames`: the sync comes before `walIndexWriteHdr`), so
what is read here has been synced. Each line is a JSON array: the time now, and what is new as [seq, urgent, time]; times
are in microseconds since 1970-01-01 UTC. A line that says nothing new still says how long the machine has lived.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from pathlib import Path

LOOK = 0.02


def main() -> None:
    log, port, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
    database = sqlite3.connect(f"file:{log}?mode=ro", uri=True, timeout=60)
    with Path(port).open("wb", buffering=0) as line:
        line.write(b"\n")  # what was cut off before is no part of this
        while True:
            new = database.execute(
                "SELECT seq, stream < 0, time FROM events WHERE seq > ? ORDER BY seq", (last,)
            ).fetchall()
            line.write(json.dumps([time.time_ns() // 1000, new]).encode() + b"\n")
            last = new[-1][0] if new else last
            time.sleep(LOOK)


main()
