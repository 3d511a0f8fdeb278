"""The part of the page that is drawn and played by its script."""

from rig3r_jax.exports.report.pack import Json
from rig3r_jax.formats.html import escape, tag

_KEYS = (
    "Drag to turn, Shift-drag or two fingers to move, pinch to zoom; after a click the wheel zooms. Click a camera to "
    "go to its step, a picture to stand where it was taken. Keys: arrows turn, Shift-arrows move, + and − zoom, 0 "
    "resets, comma and full stop step, space plays."
)


def controls(scene: Json) -> str:
    """The canvas with its sliders, the player and the pictures of a step."""
    colorings = "".join(tag("option", escape(words), value=name) for name, words in scene["colorings"].items())
    scopes = {"all": "all images", "step": "the step", "past": "the steps so far"}
    scope_options = "".join(tag("option", words, value=name) for name, words in scopes.items())
    last = len(scene["steps"]) - 1
    has_points = scene["points"] is not None
    fields = [
        _field("Colours of", f'<select id="coloring">{colorings}</select>'),
        _slider("share", "Surest", 1, 100, 100) if has_points else "",
        _slider("size", "Point size", 1, 12, 2) if has_points else "",
        _slider("cameras", "Camera size", 0, 40, 10),
        _field("Show", f'<select id="scope">{scope_options}</select>'),
        tag("label", '<input type="checkbox" id="pictures" checked> Pictures in the scene', class_="check"),
        tag("button", "Reset the view", type="button", id="reset"),
    ]
    player = [
        tag("button", "◀", type="button", id="before", aria_label="Step before"),
        tag("button", "Play", type="button", id="play"),
        tag("button", "▶", type="button", id="after", aria_label="Next step"),
        f'<input type="range" id="step" min="0" max="{last}" value="0" aria-label="Time step">',
        tag("output", "", id="moment"),
    ]
    canvas = tag("canvas", "", id="view", tabindex=0, role="application", aria_label="The scene in 3D. " + _KEYS)
    stage = tag("div", canvas + tag("p", "", id="status", role="status"), class_="stage")
    box = [
        stage,
        tag("div", "".join(fields), class_="fields"),
        tag("div", "".join(player), class_="player"),
        tag("div", "", id="strip", class_="strip"),
    ]
    script_off = tag("noscript", tag("p", "The scene is drawn by the page’s own script, which is turned off here."))
    heading = tag("h2", "Scene") + tag("p", escape(_KEYS), class_="note")
    return tag("section", heading + script_off + tag("div", "".join(box), class_="viewer", id="viewer"))


def _field(words: str, element: str) -> str:
    return tag("label", f"<span>{words}</span>{element}")


def _slider(name: str, words: str, least: int, most: int, value: int) -> str:
    element = f'<input type="range" id="{name}" min="{least}" max="{most}" value="{value}">'
    return _field(words, element + tag("output", "", id=f"{name}-value"))
