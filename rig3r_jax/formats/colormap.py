"""Colours of numbers: maps from [0, 1] to RGB."""

import numpy as np
from jaxtyping import Float, UInt8

# Anchors in equal steps; lightness falls from near to far and grows with confidence, so that print keeps the order.
# Those of time are of one lightness, so that no moment is lost on light or dark ground.
COLORMAPS = {
    "depth": ("#fff3cf", "#fbd08a", "#f3a05f", "#e06f5c", "#b94a6c", "#833a77", "#4d2f70", "#241f4f"),
    "confidence": ("#10222f", "#17424f", "#1d666a", "#2f8b7c", "#62b088", "#a5d396", "#e9f3b0"),
    "error": ("#f4f1ea", "#f7ddb5", "#f5b97b", "#ea8a55", "#d15845", "#a82f45", "#761a44", "#430f38"),
    "time": ("#5b7ff0", "#2e9fd8", "#1fae9b", "#5fae4c", "#b3a02b", "#dd8537", "#e4657a", "#c162c4"),
}


def colormap(values: Float[np.ndarray, "*shape"], name: str) -> UInt8[np.ndarray, "*shape 4"]:
    """RGBA of values in [0, 1] (clipped); NaN is transparent.

    Maps: depth (light: near), confidence (light: sure), error (light: small), time.
    """
    anchors = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in COLORMAPS[name]], np.float64)
    position = np.clip(np.where(np.isnan(values), 0.0, values), 0.0, 1.0) * (len(anchors) - 1)
    stops = np.arange(len(anchors))
    rgb = np.stack([np.interp(position, stops, anchors[:, channel]) for channel in range(3)], axis=-1)
    alpha = np.where(np.isnan(values), 0, 255)[..., None]
    return np.concatenate([np.rint(rgb), alpha], axis=-1).astype(np.uint8)
