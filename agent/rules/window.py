"""Raises an alarm while the mean, the sum or another aggregate of a channel over the last minutes is beyond limits.

`take` says what is held against the limits: mean, min, max, sum, count (of readings), stddev (of a sample), median, or
percentile, with `percentile: 95`. The window slides with every reading; with `tumbling` there is one after another, each
begins where the last one ended, and only at its end is it held against the limits. Where one ended empty, the next begins
with the next reading.

A sliding window is 60 slices (30 for the median and percentiles), and readings leave it a slice at a time, also when none
come: nothing in it is older than `over`, and where readings come more seldom than slices, it is exact. Median and
percentiles are exact while no slice holds more than 128 different values. Beyond that a value is told to about a hundredth
of the range of a slice. A reading costs no more in a day than in a minute. A window takes about 7 kB; for
the median and percentiles 50 to 90 kB, and up to 350 kB where all values differ and are just few enough to be exact.

Text, missing values and numbers that are not finite are not in the window. Where it holds fewer readings than `at_least`,
the alarm stays as it is; so a channel that falls silent neither raises nor clears a mean: that is what `absence` is for. Sum
and count are of what there is, 0 for an empty window. What can only grow as the window fills (sum, count, max) is held against
`above` at once, against other limits not before the rule has listened for `over`; so is min against `below`. That begins anew
after the agent was away for longer than a slice.

What is in the window survives a restart; a crash loses a minute of it at most, of the median and percentiles up to nine, for
their states are long and a card wears. While the agent is away it ages: what is too
old leaves. A tumbling window that would have ended meanwhile is dropped unjudged, and one begins anew.

Sample::

    rules:
      warm-on-the-whole:
        window: {of: air.temperature, take: mean, over: 10m, above: 25, clear: 24}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from agent.conditions.aggregates import Extremes, Ranks, Spread, Totals
from agent.conditions.limits import LimitRule, Limits
from agent.conditions.windows import Window, usable
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.contracts import Verdict
    from agent.events import Value

SLICES: Final = 60
SLICES_OF_RANKS: Final = 30
SHORTEST: Final = Duration(1)


class Settings(Limits, frozen=True, kw_only=True):
    """What may be written under `window:`.

    Attributes:
        of: The channel to watch, such as `air.temperature`.
        take: What is held against the limits: mean, min, max, sum, count, stddev, median or percentile.
        over: The length of the window.
        percentile: Which percentile, such as 95, where that is what is taken.
        tumbling: One window after another, each judged at its end, rather than one that slides.
        at_least: Hold it against the limits only where it has that many readings; without it, one, and two for stddev.
    """

    of: str
    take: Literal["mean", "min", "max", "sum", "count", "stddev", "median", "percentile"]
    over: Duration
    percentile: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    tumbling: bool = False
    at_least: Annotated[int, msgspec.Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        """Refuse a window that cannot be."""
        super().__post_init__()
        if self.over < SHORTEST:
            raise ValueError(f"over expects {SHORTEST} or longer, not {self.over}")
        if self.take == "percentile" and self.percentile is None:
            raise ValueError("take: percentile expects to be told which, such as percentile: 95")
        if self.take != "percentile" and self.percentile is not None:
            raise ValueError(f"percentile expects take: percentile, not take: {self.take}")
        if self.take in {"count", "stddev"} and isinstance(self.clear, float) and self.clear < 0:
            raise ValueError(
                f"clear ({self.clear:g}) is below 0, which {self.take} never is, so the alarm could never clear"
            )
        if self.at_least is not None and self.take in {"sum", "count"}:
            raise ValueError(f"at_least cannot be said of take: {self.take}, which is of what there is")
        if self.at_least == 1 and self.take == "stddev":
            raise ValueError("at_least expects 2 or more for take: stddev, not 1")


class Rule(LimitRule[Settings]):
    """An aggregate over a window against the limits."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        take, self._over = settings.take, float(settings.over)
        what = f"{settings.percentile:g}th percentile" if take == "percentile" else take
        self.message = f"{{of}}: {what} over {settings.over} is {{value:.6g}}, {{limit}}"
        self._slices: Totals | Extremes | Spread | Ranks
        self._aggregate: Callable[[], float]
        if take in {"min", "max"}:
            self._slices = Extremes()
            self._aggregate = self._slices.min if take == "min" else self._slices.max
        elif take == "stddev":
            self._slices = Spread()
            self._aggregate = self._slices.stddev
        elif take in {"median", "percentile"}:
            self._slices = ranks = Ranks()
            percent = 50.0 if settings.percentile is None else settings.percentile
            self._aggregate = lambda: ranks.percentile(percent)
        else:
            self._slices = totals = Totals()
            taken = {"mean": totals.mean, "sum": totals.sum, "count": lambda: float(totals.count)}
            self._aggregate = taken[take]
        slices = SLICES_OF_RANKS if isinstance(self._slices, Ranks) else SLICES
        self._window = Window(self._over, slices, self._slices)
        of_what_there_is = take in {"sum", "count"}
        self._at_least = 0 if of_what_there_is else settings.at_least or (2 if take == "stddev" else 1)
        at_once = {"sum": "above", "count": "above", "max": "above", "min": "below"}.get(take)
        needs_whole = at_once is not None and getattr(settings, at_once) is None
        self._needs_whole = needs_whole and not settings.tumbling
        self._begun: float | None = 0.0  # when it began to listen, or when the tumbling window did
        self._look_at: float | None = None  # when it must look, whatever is in the window
        self._turns_at: float | None = None  # when a delay of the limits is over

    @property
    def of(self) -> str:
        """The channel."""
        return self.settings.of

    def watches(self) -> Sequence[str]:
        """Return the one channel."""
        return (self.settings.of,)

    def on_reading(self, channel: str, value: Value, at: float) -> Verdict | None:  # noqa: ARG002
        """Take a value into the window; text and missing values change nothing."""
        number = usable(value)
        if number is None:
            return None
        if at >= self._window.closes:
            self._window.open(at)
            if self._begun is None:
                self._begin(at)
            self._plan()
        self._slices.add(number)
        self.is_unsaved = True
        return None if self.settings.tumbling else self._hold(at)

    def on_time(self, now: float) -> Verdict | None:
        """Let go of what is too old, or end the window; or turn, where a delay is over."""
        if self._turns_at is not None and self._turns_at <= now:
            return super().on_time(now)
        self.is_unsaved = True
        if not self.settings.tumbling:
            self._window.expire(now)
            if self._look_at is not None and self._look_at <= now:
                self._look_at = None
            self._plan()
            return self._hold(now)
        if self._look_at is None or now < self._look_at:
            return None
        end = self._look_at
        if self._slices.count:
            self._begin(end)
        else:
            self._begun = self._look_at = None
        self._plan()
        verdict = self._hold(now)
        self._window.clear()
        return verdict

    def _begin(self, at: float) -> None:
        """Begin to listen, or a tumbling window."""
        self._begun = at
        self._look_at = at + self._over if self._needs_whole or self.settings.tumbling else None

    def value(self) -> float | None:
        """Return what the window comes to now; None where it holds too few readings to say."""
        return None if self._slices.count < self._at_least else self._aggregate()

    def _hold(self, at: float) -> Verdict | None:
        if self._slices.count < self._at_least or (self._needs_whole and self._look_at is not None):
            return None
        return self.judge(self._aggregate(), at)

    def _note_switches(self) -> None:
        super()._note_switches()
        self._turns_at = self.deadline
        self._plan()

    def _plan(self) -> None:
        leaves_at = None if self.settings.tumbling else self._window.deadline
        due = [at for at in (self._turns_at, self._look_at, leaves_at) if at is not None]
        self.deadline = min(due, default=None)

    def state(self, now: float) -> Mapping[str, Value]:
        """Return the state of the alarm, and what is in the window."""
        begun = None if self._begun is None else now - self._begun
        return {**super().state(now), "begun": begun, "window": self._window.state(now)}

    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None:
        """Go on from a saved state; what is in the window has aged meanwhile."""
        self._window.restore(state.get("window"), saved)
        begun = state.get("begun")
        if isinstance(begun, float | int):
            self._begin(saved - begun)
        elif self.settings.tumbling and "begun" in state:
            self._begun = self._look_at = None  # the last one was empty
        else:
            self._begin(now)
        if self.settings.tumbling:
            if self._look_at is not None and self._look_at <= now:
                self._window.clear()
                self._begin(now)
        else:
            if now - saved > self._window.width:
                self._begin(now)
            self._window.expire(now)
            if self._look_at is None or self._look_at <= now:
                self._look_at = (
                    now if now > saved else None
                )  # what is left is held against the limits at once
        super().restore(state, saved, now)
