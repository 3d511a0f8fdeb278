"""The HTML document around the body of a page of charts: their style and the script that reads them out."""

from pathlib import Path

from rig3r_jax.formats import html


def document(title: str, body: str) -> str:
    """The HTML document; see `formats.html.document`."""
    style, script = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return html.document(title, body, style=style, script=script)
