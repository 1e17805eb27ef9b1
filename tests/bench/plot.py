"""The picture of the table: what one event costs, as a bar each, in SVG."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from report import Table

BARS = {
    "bare": "python3 that does nothing",
    "unchanged": "multihook, nothing changed",
    "changed": "multihook, 4 links",
    "changed of 1000": "multihook, 1000 links",
    "seed 002": "eight ip commands in a script",
    "seed 001": "how-to's script for PPP lines",
    "seed 000": "script for DHCP cards, one card",
    "ifupdown-multi": "ifupdown-multi",
    "shorewall": "shorewall enable",
    "amazon-ec2-net-utils": "amazon-ec2-net-utils",
}
WIDTH, LEFT, RIGHT, TOP, ROW, BAR = 760, 220, 60, 46, 26, 16
OURS, OTHER, INK = "#2563a8", "#9a9a9a", "#222222"


def svg(table: Table) -> str:
    """A bar is the median, its whisker the range without the lowest and the highest tenth."""
    unit = table.wall("bare")
    longest = max(table.deciles(row)[1] for row in BARS) / unit
    scale = (WIDTH - LEFT - RIGHT) / longest
    height = TOP + ROW * len(BARS) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(10, 18, "What one event costs: time from start to end, as a multiple of an interpreter that does nothing", 13),
        _text(10, 35, f"1 = {unit * 1000:.1f} ms; bars are medians, lines reach from the lowest to the highest tenth", 11),
    ]
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if longest / step < 12)
    bottom = TOP + ROW * len(BARS)
    for tick in range(0, int(longest) + 1, step):
        x = LEFT + tick * scale
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#dddddd"/>')
        parts.append(_text(x, bottom + 16, str(tick), 11, "middle"))
    for number, (row, words) in enumerate(BARS.items()):
        y = TOP + number * ROW + (ROW - BAR) / 2
        middle = y + BAR / 2
        median = table.wall(row) / unit
        low, high = (decile / unit for decile in table.deciles(row))
        colour = OURS if words.startswith("multihook") else OTHER
        parts.append(_text(LEFT - 8, middle + 4, words, 12, "end"))
        parts.append(f'<rect x="{LEFT}" y="{y:.1f}" width="{median * scale:.1f}" height="{BAR}" fill="{colour}"/>')
        parts.append(
            f'<line x1="{LEFT + low * scale:.1f}" y1="{middle:.1f}" x2="{LEFT + high * scale:.1f}" y2="{middle:.1f}" '
            f'stroke="{INK}" stroke-width="1.5"/>'
        )
        parts.append(_text(LEFT + max(high, median) * scale + 6, middle + 4, f"{median:.2f}", 12))
    return "\n".join([*parts, "</svg>\n"])


def _text(x: float, y: float, words: str, size: int, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{INK}">{escape(words)}</text>'
