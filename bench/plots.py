"""Bar charts as SVG, without a library: one group of bars for each figure, one bar for each preload."""

import re
from xml.sax.saxutils import escape

COLOURS = ["#9aa0a6", "#1a73e8", "#e8710a", "#12a483", "#b13bb5", "#d93025", "#7a5c00"]
WIDTH, LEFT, BAR, GAP = 760, 170, 14, 18


def bars(title, groups, folder):
    """Writes FOLDER/title.svg and gives its path. `groups`: {figure: {name: value}}; each group has a scale of its own."""
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    parts, y = [f'<text x="8" y="22" font-size="15" font-weight="bold">{escape(title)}</text>'], 40
    for figure, values in groups.items():
        most = max([*values.values(), 1e-9])
        parts.append(f'<text x="8" y="{y + 12}">{escape(figure)}</text>')
        for name, value in values.items():
            length = max(1, (WIDTH - LEFT - 190) * max(value, 0) / most)
            colour = COLOURS[names.index(name) % len(COLOURS)]
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 3}" fill="{colour}"/>')
            parts.append(f'<text x="{LEFT + length + 6:.1f}" y="{y + 10}" font-size="11">{escape(name)} {value:,.0f}</text>')
            y += BAR
        y += GAP
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") + ".svg")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" font-family="sans-serif" font-size="12">'
    background = f'<rect width="{WIDTH}" height="{y}" fill="white"/>'
    path.write_text("\n".join([head, background, *parts, "</svg>"]) + "\n")
    return path
