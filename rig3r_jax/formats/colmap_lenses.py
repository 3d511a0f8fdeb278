"""COLMAP's camera models as lenses and back; pixel centres lie at +0.5 on both sides."""

from collections.abc import Sequence

from rig3r_jax.geometry.camera import Lens
from rig3r_jax.geometry.lenses import LENSES, lens_from_numbers

_F, _FX_FY = ("f", "cx", "cy"), ("fx", "fy", "cx", "cy")
_OPENCV = ("k1", "k2", "p1", "p2")
_RATIONAL = ("k4", "k5", "k6")  # of FULL_OPENCV: the denominator, which no lens here has
MODELS = {  # those that a lens here is, exactly: its kind, and the names of COLMAP's parameters in their order
    "SIMPLE_PINHOLE": ("pinhole", _F),
    "PINHOLE": ("pinhole", _FX_FY),
    "SIMPLE_RADIAL": ("brown", (*_F, "k1")),
    "RADIAL": ("brown", (*_F, "k1", "k2")),
    "OPENCV": ("brown", (*_FX_FY, *_OPENCV)),
    "FULL_OPENCV": ("brown", (*_FX_FY, *_OPENCV, "k3", *_RATIONAL)),
    "SIMPLE_FISHEYE": ("fisheye", _F),
    "FISHEYE": ("fisheye", _FX_FY),
    "SIMPLE_RADIAL_FISHEYE": ("fisheye", (*_F, "k1")),
    "RADIAL_FISHEYE": ("fisheye", (*_F, "k1", "k2")),
    "OPENCV_FISHEYE": ("fisheye", (*_FX_FY, "k1", "k2", "k3", "k4")),
}


def lens_of_colmap(model: str, parameters: Sequence[float | int], where: str) -> Lens:
    """The lens of a camera model by its name; ValueError, naming `where`, for models that no lens here is."""
    if model not in MODELS:
        raise ValueError(
            f"{where}: camera model {model} is none of {', '.join(MODELS)}; undistort the images in COLMAP "
            "(colmap image_undistorter), whose model has pinholes"
        )
    kind, names = MODELS[model]
    if len(parameters) != len(names):
        raise ValueError(f"{where}: {model} has {len(parameters)} parameters, must be {', '.join(names)}; correct it")
    stated = dict(zip(names, map(float, parameters), strict=True))
    bent = {name: value for name in _RATIONAL if kind == "brown" and (value := stated.pop(name, 0.0))}
    if bent:
        raise ValueError(
            f"{where}: FULL_OPENCV with {bent}: no lens here has that denominator; undistort the images in COLMAP "
            "(colmap image_undistorter), or fit a model with k4 = k5 = k6 = 0"
        )
    if (focal := stated.pop("f", None)) is not None:
        stated |= {"fx": focal, "fy": focal}
    numbers = dict.fromkeys((*_FX_FY, *LENSES[kind].coefficients), 0.0) | stated
    try:
        return lens_from_numbers({"kind": kind, **numbers})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def colmap_of_lens(lens: Lens) -> tuple[str, list[float]]:
    """Model and parameters of a lens; ValueError for a lens that COLMAP has no model of."""
    numbers = lens.to_numbers()
    model = {"pinhole": "PINHOLE", "fisheye": "OPENCV_FISHEYE"}.get(lens.kind)
    if lens.kind == "brown":
        model = "FULL_OPENCV" if numbers["k3"] else "OPENCV"
    if model is None:
        raise ValueError(f"COLMAP has no model of a {lens.kind} lens; make pinholes of its images first (rectify=true)")
    return model, [float(numbers.get(name, 0.0)) for name in MODELS[model][1]]
