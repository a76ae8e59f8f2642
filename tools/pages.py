"""The pieces of a page: a frame for it, tables, pictures with captions; one file without anything outside."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO
from string import Template
from urllib.parse import quote

import numpy as np
from PIL import Image

QUALITY = 70  # of the JPEG of a picture

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 84rem; margin: 0 auto; padding: 1rem }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #8888 }
nav a { margin-right: 1rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .15rem .6rem; border-bottom: 1px solid #8884; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
figure { margin: 1.5rem 0 }
figcaption { margin-bottom: .4rem }
figcaption table { margin: .3rem 0; font-size: .9em }
img { max-width: 100%; height: auto }
.plot { width: 100%; max-width: 60rem }
.plot path, .swatch path { fill: none; stroke-width: 2; stroke-linecap: round }
.plot .grid { stroke: #8888; stroke-width: 1 }
.plot text { fill: currentColor; font-size: 12px }
.plot circle { fill: Canvas; stroke-width: 2.5 }
.swatch { width: 30px; height: 12px }
$style</style>
</head>
<body>
$body
$script</body>
</html>
""")


def page(title: str, body: Iterable[str], *, style: str = "", script: str = "") -> str:
    """A whole page from the HTML of its parts; style: CSS after that of every page; script: JavaScript."""
    script = f"<script>\n{script}</script>\n" if script else ""
    return PAGE.substitute(title=escape(title), body="\n".join(body), style=style, script=script)


def table(rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table of cells that are HTML; the first row are the headings, the first column names the rows.

    kind: the class of the table, which style and script look for
    """
    head, *body = rows
    lines = ["<tr>" + "".join(f'<th scope="col">{cell}</th>' for cell in head)]
    for name, *cells in body:
        lines.append(f'<tr><th scope="row">{name}</th>' + "".join(f"<td>{cell}</td>" for cell in cells))
    inside = "</tr>\n".join(lines)
    kind = f' class="{kind}"' if kind else ""
    return f'<div class="scroll"><table{kind}>\n{inside}</tr>\n</table></div>'


def text_table(rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table of cells that are plain text."""
    return table([[escape(cell) for cell in row] for row in rows], kind)


def _video_anchor(name: str) -> str:
    return f"video-{quote(name, safe='')}"


def video_heading(name: str) -> str:
    """The heading of a video's part of the page."""
    return f'<h3 id="{_video_anchor(name)}">{escape(name)}</h3>'


def video_link(name: str) -> str:
    """A link to the part of a video."""
    return f'<a href="#{_video_anchor(name)}">{escape(name)}</a>'


def figure(caption: str, uri: str, alt: str) -> str:
    """A picture under its caption, which is HTML; `alt` is plain text that says what it shows."""
    return f'<figure><figcaption>{caption}</figcaption><img src="{uri}" alt="{escape(alt)}"></figure>'


def to_uri(picture: np.ndarray) -> str:
    """An (H, W, 3) uint8 picture as a data: URI."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}"


def section(anchor: str, title: str, parts: Iterable[str]) -> str:
    """A section with a heading in plain text; the parts are HTML."""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>\n' + "\n".join(parts) + "\n</section>"
