"""HTML pages in one file: their text and numbers, and a document whose policy lets in nothing from elsewhere."""

import base64
import hashlib
import html
import math
from pathlib import Path

DASH = "–"


def escape(text: object) -> str:
    """The text, safe inside HTML elements and quoted attributes."""
    return html.escape(str(text), quote=True)


def tag(element: str, content: str = "", **attributes: object) -> str:
    """An element with escaped attributes (`class_` for class, _ for -, floats to a tenth) around content.

    `content` is markup: escape texts before.
    """
    words = [element]
    for name, value in attributes.items():
        text = f"{value:.1f}" if isinstance(value, float) else escape(value)
        words.append(f'{name.rstrip("_").replace("_", "-")}="{text}"')
    return f"<{' '.join(words)}>{content}</{element}>"


def format_number(value: object, digits: int = 4) -> str:
    """A number for reading: `digits` significant digits, thousands apart, a dash where it is missing or not finite."""
    if value is None or isinstance(value, bool) or not math.isfinite(value):
        return DASH if value is None or not isinstance(value, bool) else str(value)
    value = float(value)
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -3 or magnitude >= 9:
        mantissa, exponent = f"{value:.{max(digits - 2, 0)}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    if value == int(value):
        text = f"{int(value):,}"
    else:
        text = f"{value:,.{max(digits - 1 - magnitude, 0)}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace(",", "\u202f").replace("-", "−")


def document(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """The HTML document; its policy lets in nothing but its styles, pictures and the one script that it carries.

    `body` is markup. `style` follows that of every page (html.css), which has light and dark colours as variables.
    """
    style = Path(__file__).with_name("html.css").read_text(encoding="utf-8") + style
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
