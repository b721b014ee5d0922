"""Methods that find nuclei in an image: the registry, and networks of other packages."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._utils.checks import listed

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Labeller = Callable[[NDArray], NDArray]

WATERSHED = "watershed"
_NUCLEUS_UM = 7.5  # typical diameter, for networks that need it


@dataclass(frozen=True)
class Network:
    """A network of another package.

    Attributes
    ----------
    package
        Name to import.
    distribution
        Name to install.
    load
        Called with the size of a pixel in um and the options; returns a function from ``(c, y, x)`` float32, scaled so
        that 0 and 1 are the 1st and the 99.8th percentile of the whole image, to labels ``(y, x)``.
    weights
        Origin of the weights, for the error if they cannot be loaded.
    """

    package: str
    distribution: str
    load: Callable[[float, dict[str, Any]], Labeller]
    weights: str


def _load_cellpose(um_per_px: float, options: dict[str, Any]) -> Labeller:
    """Cellpose 4 (Cellpose-SAM), or Cellpose 3 and its model of nuclei."""
    import torch
    from cellpose import models

    is_version_3 = hasattr(models, "Cellpose")
    model = options.pop("model", "nuclei" if is_version_3 else None)
    arguments: dict[str, Any] = {"gpu": options.pop("gpu", torch.cuda.is_available())}
    if model is not None:
        arguments["model_type" if is_version_3 else "pretrained_model"] = model
    network = models.CellposeModel(**arguments)
    if is_version_3:
        options = {"channels": [0, 0], "diameter": _NUCLEUS_UM / um_per_px} | options
    # The image is already scaled by percentiles of the whole image instead of a tile.
    options = {"normalize": False} | options

    def label(image: NDArray) -> NDArray:
        planes = image[0] if len(image) == 1 or is_version_3 else image
        extra = {} if planes.ndim == 2 else {"channel_axis": 0}
        return network.eval(planes, **extra, **options)[0]

    return label


def _load_stardist(um_per_px: float, options: dict[str, Any]) -> Labeller:  # noqa: ARG001 - StarDist takes no size
    from stardist.models import StarDist2D

    name = options.pop("model", "2D_versatile_fluo")
    network = StarDist2D.from_pretrained(name) if isinstance(name, str) else name
    if network is None:  # its way to report an unknown name
        msg = f"StarDist has no pretrained model {name!r}."
        raise ValueError(msg)
    return lambda image: network.predict_instances(image[0], **options)[0]


def _load_instanseg(um_per_px: float, options: dict[str, Any]) -> Labeller:
    from instanseg import InstanSeg

    name = options.pop("model", "fluorescence_nuclei_and_cells")
    network = InstanSeg(name, device=options.pop("device", None), verbosity=0)
    options = {"target": "nuclei", "normalise": False} | options

    def label(image: NDArray) -> NDArray:
        out = network.eval_small_image(image, um_per_px, return_image_tensor=False, **options)
        return np.asarray(out.cpu()).reshape(image.shape[1:]).astype(np.int64)

    return label


NETWORKS = {
    "cellpose": Network(
        "cellpose", "cellpose", _load_cellpose,
        "downloaded on first use to ~/.cellpose/models (or $CELLPOSE_LOCAL_MODELS_PATH); model= also takes a path",
    ),
    "stardist": Network(
        "stardist", "stardist tensorflow", _load_stardist,
        "downloaded on first use to ~/.keras/models; model= also takes a loaded StarDist2D",
    ),
    "instanseg": Network(
        "instanseg", "instanseg-torch", _load_instanseg,
        "downloaded on first use to $INSTANSEG_BIOIMAGEIO_PATH; model= also takes a loaded network",
    ),
}  # fmt: skip


def check_method(method: object, options: dict[str, Any]) -> None:
    """Check a method by its name, before anything is read.

    Raises
    ------
    ValueError
        If it is unknown.
    TypeError
        If it is neither a name nor a function, or a function is given options.
    """
    if callable(method):
        if options:
            msg = (
                f"method is a function and takes no options, but {listed(options)} given: bind them with "
                "functools.partial."
            )
            raise TypeError(msg)
        return
    if not isinstance(method, str):
        msg = f"method={method!r} must be {listed([WATERSHED, *NETWORKS])} or a function (c, y, x) -> labels (y, x)."
        raise TypeError(msg)
    if method != WATERSHED and method not in NETWORKS:
        msg = (
            f"method={method!r} is unknown; known are {listed([WATERSHED, *NETWORKS])}, and any function (c, y, x) -> "
            "labels (y, x)."
        )
        raise ValueError(msg)


def load_network(method: str, um_per_px: float, options: dict[str, Any]) -> Labeller:
    """Return a function from ``(c, y, x)`` to labels.

    Raises
    ------
    ImportError
        If the package is not installed.
    RuntimeError
        If its weights cannot be loaded.
    """
    network = NETWORKS[method]
    try:
        return network.load(um_per_px, dict(options))
    except ImportError as error:
        msg = (
            f"method={method!r} needs the package {network.package!r}, which cannot be imported ({error}). Install it "
            f"with: pip install {network.distribution}. method='watershed' needs no other package."
        )
        raise ImportError(msg) from error
    except Exception as error:
        msg = (
            f"method={method!r} could not be loaded ({type(error).__name__}: {error}). Its weights are "
            f"{network.weights}. method='watershed' needs none."
        )
        raise RuntimeError(msg) from error


def checked_labels(labels: Any, shape: tuple[int, int], method: str) -> NDArray[np.integer]:
    """Return the result of a method for a window as an array, after checking that it is labels.

    Raises
    ------
    ValueError
        If the shape differs, the type is not integer, or a label is negative.
    """
    array = np.asarray(labels)
    if array.shape != shape or array.dtype.kind not in "iu" or (array.size and array.min() < 0):
        found = f"an array of shape {array.shape} and type {array.dtype}"
        if array.dtype.kind == "i" and array.size and array.min() < 0:
            found += f" with negative values (lowest {array.min()})"
        msg = (
            f"{method} returned {found} for a window of shape {shape}: it must return integer labels of that shape, "
            "0 = background. From a mask they come with skimage.measure.label(mask)."
        )
        raise ValueError(msg)
    return array


def name_of(method: str | Labeller) -> str:
    """Return a method's name, for messages."""
    if isinstance(method, str):
        return f"method={method!r}"
    return f"method={method.__name__}" if inspect.isroutine(method) else f"method={type(method).__name__}"
