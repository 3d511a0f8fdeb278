"""Pictures inside a page."""

import base64
import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

_QUALITY = 75


def jpeg_data_uri(picture: UInt8[np.ndarray, "h w 3"]) -> str:
    """The picture as a `data:` address for an `<img>`."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
