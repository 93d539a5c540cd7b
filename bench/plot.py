"""A small line chart as SVG: both axes logarithmic, one line per series, values written at the points."""

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10

WIDTH, HEIGHT = 720, 400
LINE = 15
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 40, 50
COLOURS = ("#2563eb", "#dc2626", "#059669", "#7c3aed")

Points = Sequence[tuple[float, float]]


def log_chart(title: str, x_label: str, y_label: str, series: Mapping[str, Points]) -> str:
    """The chart as text. Values must be positive."""
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    low_x, high_x = log10(min(xs)), log10(max(xs))
    low_y, high_y = floor(log10(min(ys))), ceil(log10(max(ys)))

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            round(LEFT + (log10(x) - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - (log10(y) - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM), 1),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14" font-weight="bold">{title}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{x_label}</text>',
        f'<text x="16" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 16 {HEIGHT / 2})">{y_label}</text>',
    ]
    for exponent in range(low_y, high_y + 1):
        _, y = at(min(xs), 10.0**exponent)
        parts.append(f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{10.0**exponent:g}</text>')
    for value in sorted(set(xs)):
        x, _ = at(value, min(ys))
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:,.0f}</text>')
    for colour, points in zip(COLOURS, series.values(), strict=False):
        path = " ".join(f"{x},{y}" for x, y in (at(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in (at(*point) for point in points)]
    lowest = HEIGHT - BOTTOM + LINE
    coloured = sorted(zip(series.items(), COLOURS, strict=False), key=lambda item: item[0][1][-1][1])
    for (name, points), colour in coloured:
        x, y = at(*points[-1])
        # Names stay readable where lines end close together.
        lowest = min(y + 4, lowest - LINE)
        parts.append(f'<text x="{x + 8}" y="{lowest}" fill="{colour}">{name}: {points[-1][1]:.3g}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
