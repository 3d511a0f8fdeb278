"""Several views of one thing behind switches, of which one is shown; without a script."""

from collections.abc import Mapping

from rig3r_jax.formats.html import escape, tag

MOST_SWITCHES = 12  # as many as the page's style (page.css) knows


def switches(views: Mapping[str, str], identity: str, legend: str) -> str:
    """Markup by label as a fieldset; one view, or more than `MOST_SWITCHES`, one after the other.

    `identity` tells the switches of a page apart, `legend` says in words what they are of.
    """
    parts = "".join(tag("div", view, class_="split") for view in views.values())
    if len(views) == 1 or len(views) > MOST_SWITCHES:
        return parts
    buttons = ""
    for index, label in enumerate(views):
        chosen = {"checked": ""} if index == 0 else {}
        box = tag("input", type="radio", name=identity, id=f"{identity}-{index}", **chosen)
        buttons += box.removesuffix("</input>") + tag("label", escape(label), for_=f"{identity}-{index}")
    return tag("fieldset", tag("legend", escape(legend), class_="hidden") + buttons + parts, class_="splits")
