"""The HTML document around a page's body: its style, its one script, and a policy that lets in nothing else."""

import base64
import hashlib
from pathlib import Path

from rig3r_jax.viz.svg import escape, tag


def document(title: str, body: str) -> str:
    """The HTML document; its policy lets in nothing but the style, the pictures and the one script it carries."""
    style, script = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style>"
    )
    footer = tag("footer", "Self-contained page: nothing on it is loaded from elsewhere.")
    main = tag("main", body + footer)
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{main}<script>{script}</script></body></html>\n'
    )
