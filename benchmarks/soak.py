"""Ten minutes of load with the broker down half of the time: memory must stay level, and nothing be missing.

The subscriber has a session that the broker keeps, over its own restarts too; so all that the broker acknowledged must
come, in order, whoever was down when.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Final

from benchmarks._harness import Broker, Line, Subscriber, folder, progress
from benchmarks._programs import Agent, Usage, one_line
from benchmarks._results import Row, mosquitto
from benchmarks._subscriber import Wanted

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE: Final = 500
UP: Final = 30.0
DOWN: Final = 30.0
"""Seconds in turn."""
EVERY: Final = 5.0
"""Seconds between looks at the memory."""
AIM_GROWTH: Final = 1.03
"""The memory of the last quarter against that of the second; in the first, SQLite's caches are filling."""
MB: Final = 1e6


def measure(*, minutes: float) -> list[Row]:
    """Measure.

    Raises:
        RuntimeError: There is no Mosquitto, whose sessions outlast it.
    """
    if mosquitto() is None:
        raise RuntimeError("the soak needs Mosquitto: apt install mosquitto")
    count = int(minutes * 60 * RATE)
    with folder() as place, Broker(place, keeps_sessions=True) as broker, Line() as line:
        subscriber = Subscriber(Wanted(port=broker.port, count=count, qos=1, session=True))
        writer = line.writer("csv", count, RATE)
        with subscriber, writer, Agent(place, one_line(line.port, broker.port_v5, place)) as program:
            program.wait(subscriber, "online")
            program.wait_open(line.port)
            before = program.usage()
            writer.go()
            samples = list(_sample(program, broker, minutes * 60))
            writer.read(60)
            received = subscriber.received(120)
            used = program.stop().since(before)
    return _rows(samples, used, received, count)


def _sample(program: Agent, broker: Broker, seconds: float) -> Iterator[tuple[float, float]]:
    """Stop and start the broker, and yield the time in hours and the memory in MB."""
    began = time.monotonic()
    down = False
    while (at := time.monotonic() - began) < seconds:
        if (at % (UP + DOWN) >= UP) is not down:
            down = not down
            progress(f"soak: {at:.0f} s, broker {'down' if down else 'up'}")
            (broker.stop if down else broker.start)()
        yield at / 3600, program.usage().rss / MB
        time.sleep(EVERY)
    if down:
        broker.start()


def _rows(samples: list[tuple[float, float]], used: Usage, received: dict[str, int], count: int) -> list[Row]:
    memory = [size for _, size in samples]
    quarter = max(1, len(memory) // 4)
    second = statistics.median(memory[quarter : 2 * quarter] or memory)
    last = statistics.median(memory[-quarter:])
    second_half = samples[len(samples) // 2 :]
    slope = (
        statistics.linear_regression(*zip(*second_half, strict=True)).slope if len(second_half) > 1 else 0.0
    )
    missing = count - received["unique"]
    return [
        Row("soak: RSS", statistics.median(memory), "MB", runs=tuple(memory), note=f"{len(memory)} samples"),
        Row("soak: RSS, second quarter", second, "MB"),
        Row("soak: RSS, last quarter", last, "MB", round(second * AIM_GROWTH, 1)),
        Row("soak: slope of the second half", slope, "MB/h"),
        Row(
            "soak: events missing", missing, "", 0, note=f"of {count:,}; came twice: {received['repeats']:,}"
        ),
        Row("soak: events out of order", received["disordered"], "", 0),
        Row("soak: CPU an event", used.cpu / count * 1e6, "µs", note=f"at {RATE}/s"),
        Row("soak: written to disk", used.written / count, "B/event"),
    ]
