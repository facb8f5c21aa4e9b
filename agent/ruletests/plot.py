"""Draws what rules saw and did as SVG, in plain text: channels with their limits above, alarms and outputs below."""

from __future__ import annotations

import math
from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WIDTH: Final = 1000
LEFT: Final = 170
RIGHT: Final = 110
PANEL: Final = 130
ROW: Final = 22
GAP: Final = 28
TOP: Final = 46

_COLUMNS: Final = WIDTH - LEFT - RIGHT
_STEPS: Final = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
)  # fmt: skip
"""Seconds between the lines of a time axis."""

_STYLE: Final = """
text { font: 12px system-ui, sans-serif; fill: #333 } .title { font-size: 15px; font-weight: 600 } .small { font-size: 11px; fill: #666 }
.frame { fill: #fafafa; stroke: #ccc } .grid { stroke: #e4e4e4 } .line { fill: none; stroke: #1f5fa8; stroke-width: 1.6 }
.limit { stroke: #c62828; stroke-dasharray: 6 4 } .clear { stroke: #2e7d32; stroke-dasharray: 2 4 }
.limit-text { font-size: 11px; fill: #c62828 } .clear-text { font-size: 11px; fill: #2e7d32 }
.warning { fill: #f2b134 } .minor { fill: #ef8a2c } .major { fill: #e0552b } .critical { fill: #c62828 } .output { fill: #5b8a72 }
.missing { fill: #fff; stroke: #b00020; stroke-width: 2.5 } .unexpected { fill: #b00020; stroke: #fff }
.in-bar { font-size: 11px; fill: #fff; paint-order: stroke; stroke: #0006; stroke-width: 2px }
"""


class Limit(NamedTuple):
    """A line across a panel.

    Attributes:
        value: Where.
        text: What it is called.
        is_clear: Whether an alarm clears there; otherwise it is raised.
    """

    value: float
    text: str
    is_clear: bool = False


class Panel(NamedTuple):
    """A channel.

    Attributes:
        name: Its name, with the unit.
        points: Time and value, by rising time; None where there is no number.
        limits: The lines across it.
        is_switch: Whether it is on or off.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    limits: Sequence[Limit] = ()
    is_switch: bool = False


class Span(NamedTuple):
    """A time in which an alarm was active, or an output on.

    Attributes:
        begin: From when.
        end: Until when.
        look: A severity, or `output`.
        text: What it was.
    """

    begin: float
    end: float
    look: str
    text: str


class Wrong(NamedTuple):
    """Something that was not as expected.

    Attributes:
        at: When.
        text: How.
        is_missing: Whether it was expected and did not happen; otherwise it happened and was not expected.
    """

    at: float
    text: str
    is_missing: bool


class Row(NamedTuple):
    """An alarm or an output.

    Attributes:
        name: Its name.
        spans: When it was on.
        wrong: When it was not as expected.
    """

    name: str
    spans: Sequence[Span]
    wrong: Sequence[Wrong] = ()


class Figure(NamedTuple):
    """A picture.

    Attributes:
        title: What stands above it.
        begin: The first second.
        end: The last second.
        panels: The channels.
        rows: The alarms and outputs.
        clock: Says a time; for a label of the axis.
    """

    title: str
    begin: float
    end: float
    panels: Sequence[Panel]
    rows: Sequence[Row]
    clock: Callable[[float], str]


def svg(figure: Figure) -> str:
    """Return a figure as an SVG document."""
    tops = list(accumulate((_height(panel) for panel in figure.panels), initial=TOP))
    rows_top = tops[-1]
    bottom = rows_top + len(figure.rows) * ROW
    height = bottom + 48
    drawing = _Drawing(figure)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<title>{escape(figure.title)}</title><style>{_STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text class="title" x="16" y="24">{escape(_short(figure.title, 110))}</text>',
        *drawing.time_axis(bottom),
    ]
    for index, panel in enumerate(figure.panels):
        lines += drawing.panel(panel, tops[index])
    for index, row in enumerate(figure.rows):
        lines += drawing.row(row, rows_top + index * ROW)
    if any(row.wrong for row in figure.rows):
        at = bottom + 36
        lines += [
            f'<circle class="missing" cx="{LEFT + 5}" cy="{at - 4}" r="5"/>',
            f'<text class="small" x="{LEFT + 16}" y="{at}">expected, and not so</text>',
            f'<circle class="unexpected" cx="{LEFT + 165}" cy="{at - 4}" r="5"/>',
            f'<text class="small" x="{LEFT + 176}" y="{at}">so, and not expected</text>',
        ]
    lines.append("</svg>")
    return "\n".join(lines) + "\n"


def _height(panel: Panel) -> float:
    return (PANEL / 2 if panel.is_switch else PANEL) + GAP


class _Drawing:
    """Turns times and values into places."""

    def __init__(self, figure: Figure) -> None:
        self._figure = figure
        self._length = max(figure.end - figure.begin, 1e-9)

    def _x(self, at: float) -> float:
        share = (at - self._figure.begin) / self._length
        return round(LEFT + min(max(share, 0.0), 1.0) * _COLUMNS, 1)

    def time_axis(self, bottom: float) -> Iterator[str]:
        """Yield the lines down the picture, and the times below."""
        step = next(
            (each for each in _STEPS if self._length / each <= 9),
            _STEPS[-1] * math.ceil(self._length / _STEPS[-1] / 9),
        )
        at = math.ceil(self._figure.begin / step) * step
        while at <= self._figure.end:
            x = self._x(at)
            yield f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}"/>'
            yield f'<text class="small" x="{x}" y="{bottom + 18}" text-anchor="middle">{escape(self._figure.clock(at))}</text>'
            at += step

    def panel(self, panel: Panel, top: float) -> Iterator[str]:
        """Yield a channel's frame, limits and line."""
        height = PANEL / 2 if panel.is_switch else PANEL
        values = [0.0, 1.0] if panel.is_switch else [value for _, value in panel.points if value is not None]
        values += [limit.value for limit in panel.limits]
        low, high = min(values, default=0.0), max(values, default=1.0)
        margin = (high - low) * 0.08 or max(abs(high) * 0.05, 0.5)
        low, high = low - margin, high + margin

        def y(value: float) -> float:
            return round(top + (high - value) / (high - low) * height, 1)

        yield f'<rect class="frame" x="{LEFT}" y="{top}" width="{_COLUMNS}" height="{height}" fill-opacity="0.5"/>'
        yield f'<text x="16" y="{top + 16}">{escape(_short(panel.name, 21))}</text>'
        for value in (0, 1) if panel.is_switch else _ticks(low, high):
            text = ("off", "on")[int(value)] if panel.is_switch else f"{value:g}"
            yield f'<line class="grid" x1="{LEFT}" x2="{LEFT + _COLUMNS}" y1="{y(value)}" y2="{y(value)}"/>'
            yield f'<text class="small" x="{LEFT - 6}" y="{y(value) + 4}" text-anchor="end">{text}</text>'
        taken: list[float] = []
        for limit in sorted(panel.limits, key=lambda each: each.is_clear):
            look = "clear" if limit.is_clear else "limit"
            at = y(limit.value)
            yield f'<line class="{look}" x1="{LEFT}" x2="{LEFT + _COLUMNS}" y1="{at}" y2="{at}"/>'
            if all(abs(at - other) >= 11 for other in taken):
                taken.append(at)
                yield f'<text class="{look}-text" x="{LEFT + _COLUMNS + 5}" y="{at + 4}">{escape(_short(limit.text, 17))}</text>'
        for path in self._paths(panel.points, y):
            yield f'<path class="line" d="{path}"/>'

    def _paths(
        self, points: Sequence[tuple[float, float | None]], y: Callable[[float], float]
    ) -> Iterator[str]:
        """Yield a line that holds each value until the next; of many in one column of pixels the first, extremes and last."""
        path: list[str] = []
        last = self._figure.end
        for x, values in _columns(points, self._x, last):
            if values is None:
                if path:
                    path.append(f"H{x}")
                    yield "".join(path)
                path = []
                continue
            path += [f"H{x}" if path else f"M{x} {y(values[0])}", *(f"V{y(value)}" for value in values)]
        if path:
            yield "".join([*path, f"H{self._x(last)}"])

    def row(self, row: Row, top: float) -> Iterator[str]:
        """Yield an alarm's or an output's row."""
        middle = top + ROW / 2
        yield f'<text x="16" y="{middle + 4}">{escape(_short(row.name, 23))}</text>'
        yield f'<line class="grid" x1="{LEFT}" x2="{LEFT + _COLUMNS}" y1="{middle}" y2="{middle}"/>'
        for span in row.spans:
            x = self._x(span.begin)
            width = max(round(self._x(span.end) - x, 1), 2)
            tip = f"{span.text}: {self._figure.clock(span.begin)} to {self._figure.clock(span.end)}"
            yield (
                f'<rect class="{escape(span.look)}" x="{x}" y="{top + 3}" width="{width}" height="{ROW - 6}">'
                f"<title>{escape(tip)}</title></rect>"
            )
            if width > 8 * len(span.text):
                yield f'<text class="in-bar" x="{x + 6}" y="{middle + 4}">{escape(span.text)}</text>'
        for at, text, is_missing in row.wrong:
            look = "missing" if is_missing else "unexpected"
            yield f'<circle class="{look}" cx="{self._x(at)}" cy="{middle}" r="5"><title>{escape(text)}</title></circle>'


def _columns(
    points: Sequence[tuple[float, float | None]], place: Callable[[float], float], last: float
) -> Iterator[tuple[float, list[float] | None]]:
    """Yield the values of each column of pixels by its place; None where they end."""
    column = -1.0
    values: list[float] = []
    for at, value in points:
        if at > last:
            break
        x = place(at)
        if values and (int(x) != int(column) or value is None):
            yield column, _extremes(values)
            values = []
        if value is None:
            yield x, None
        else:
            if not values:
                column = x
            values.append(value)
    if values:
        yield column, _extremes(values)


def _extremes(values: list[float]) -> list[float]:
    return values if len(values) <= 4 else [values[0], min(values), max(values), values[-1]]


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round values within two."""
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step)
    return [round(index * step, 10) for index in range(first, math.floor(high / step) + 1)]


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
