"""What does a series of numbers look like, in a terminal and in a file?"""

from collections.abc import Sequence
from dataclasses import dataclass

_BLOCKS = " ▁▂▃▄▅▆▇█"

_WIDTH, _HEIGHT, _LEFT, _TOP, _PANEL = 900, 220, 70, 40, 150


@dataclass(frozen=True)
class Curve:
    """A number over time, with the line it should be at, if there is one."""

    title: str
    points: tuple[tuple[float, float], ...]
    wanted: float | None = None


def as_blocks(curve: Curve, *, width: int = 72, height: int = 6) -> list[str]:
    """The curve in lines of text, the highest first; empty without points."""
    columns = _columns(curve.points, width)
    top = max([*columns, curve.wanted or 0.0])
    if not columns or top <= 0:
        return []
    eighths = [round(value / top * height * 8) for value in columns]
    rows = ["".join(_BLOCKS[min(8, max(0, level - 8 * row))] for level in eighths) for row in range(height)]
    labels = [f"{top:>9,.0f} ", *[" " * 10] * (height - 2), f"{0:>9} "]
    return [label + row for label, row in zip(labels, reversed(rows), strict=True)]


def as_svg(curves: Sequence[Curve]) -> str:
    """The curves below each other, as a picture that any browser shows."""
    height = _HEIGHT * len(curves)
    panels = "".join(_panel(curve, offset=index * _HEIGHT) for index, curve in enumerate(curves))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="13">'
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>{panels}</svg>\n'
    )


def _columns(points: Sequence[tuple[float, float]], width: int) -> list[float]:
    """The mean of each of `width` equal stretches of time; a stretch without a point repeats the one before."""
    if not points:
        return []
    first, last = points[0][0], points[-1][0]
    groups: list[list[float]] = [[] for _ in range(width)]
    for at, value in points:
        share = (at - first) / (last - first) if last > first else 0.0
        groups[min(width - 1, int(share * width))].append(value)
    columns, before = [], 0.0
    for group in groups:
        before = sum(group) / len(group) if group else before
        columns.append(before)
    return columns


def _panel(curve: Curve, *, offset: int) -> str:
    top = max([value for _, value in curve.points] + [curve.wanted or 0.0, 1e-9])
    first, last = curve.points[0][0], curve.points[-1][0]
    span = (last - first) or 1.0

    def place(at: float, value: float) -> str:
        x = _LEFT + (at - first) / span * (_WIDTH - _LEFT - 20)
        return f"{x:.1f},{offset + _TOP + _PANEL * (1 - value / top):.1f}"

    line = " ".join(place(at, value) for at, value in _thinned(curve.points))
    wanted = ""
    if curve.wanted is not None:
        ends = f"{place(first, curve.wanted)} {place(last, curve.wanted)}"
        wanted = f'<polyline points="{ends}" fill="none" stroke="#c33" stroke-dasharray="5 4"/>'
    base = offset + _TOP + _PANEL
    return (
        f'<text x="{_LEFT}" y="{offset + 24}" font-weight="bold">{curve.title}</text>'
        f'<text x="{_LEFT - 8}" y="{offset + _TOP + 5}" text-anchor="end">{top:,.0f}</text>'
        f'<text x="{_LEFT - 8}" y="{base}" text-anchor="end">0</text>'
        f'<text x="{_LEFT}" y="{base + 18}">{first:,.0f} s</text>'
        f'<text x="{_WIDTH - 20}" y="{base + 18}" text-anchor="end">{last:,.0f} s</text>'
        f'<path d="M{_LEFT} {base}H{_WIDTH - 20}" stroke="#999"/>{wanted}'
        f'<polyline points="{line}" fill="none" stroke="#26c" stroke-width="1.5"/>'
    )


def _thinned(points: Sequence[tuple[float, float]], most: int = 900) -> Sequence[tuple[float, float]]:
    """No more points than the picture has columns."""
    return points[:: max(1, -(-len(points) // most))]
