"""How PNG charts look and are written; matplotlib is imported where the first one is drawn."""

import io
import math
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rig3r_jax.formats.atomic import write_atomically

# Okabe and Ito's colours, which colour-blind readers tell apart; the lightest are left out.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("-", "--", ":", "-.")
INK, QUIET = "#222222", "#8A8A8A"
DPI = 130
COLUMNS = 4  # panels side by side, at most
_STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.titlesize": 12.5,
    "figure.titleweight": "bold",
}


@contextmanager
def figure(
    path: Path, title: str, panels: int, *, panel_size: tuple[float, float] = (4.6, 3.5)
) -> Iterator[typing.Any]:
    """Axes, `panel_size` inches each, in rows of up to four; written to `path` as PNG when the block is left."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_STYLE}):
        rows, columns = math.ceil(panels / COLUMNS), min(panels, COLUMNS)
        drawing = Figure((panel_size[0] * columns, panel_size[1] * rows + 0.4), dpi=DPI, layout="constrained")
        drawing.suptitle(title, x=0.01, ha="left")
        axes = list(drawing.subplots(rows, columns, squeeze=False).flat)
        for empty in axes[panels:]:
            empty.remove()
        yield axes[:panels]
        png = io.BytesIO()
        drawing.savefig(png, format="png", metadata={"Software": None})
    write_atomically(path, png.getvalue())


def plain_ticks(axis: typing.Any) -> None:
    """Numbers instead of powers on a logarithmic axis of few decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    if low <= 0 or high / low > 1e4:
        return
    factors = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0) if high / low < 5 else (1.0, 2.0, 5.0) if high / low < 200 else (1.0,)
    axis.set_major_locator(LogLocator(subs=factors))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
