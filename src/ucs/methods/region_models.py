"""One model for each region of the tissue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucs._utils.checks import listed
from ucs.methods.model import UCSModel
from ucs.methods.model_files import REGIONS_FILE, check_free, read_model, readable, write_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ucs.methods.params import MethodParams

_SHARED = "shared"

_SHARED_PARAMS = ("reach", "shape_exponent", "tau")
"""Parameters in which all models must agree: nuclei of several regions compete for a pixel on one raster."""


@dataclass(frozen=True, eq=False, repr=False)
class RegionModels(Mapping[str, UCSModel]):
    """Models by the name of the region whose nuclei they judge: a mapping, to be saved and loaded as one.

    Attributes
    ----------
    models
        Region -> model. Regions that were too poor to learn from have the shared model.
    shared
        Model of the whole tissue, for nuclei that lie in no region; None if there was no need of one.

    Raises
    ------
    ValueError
        If there is no model at all, or the models differ in method, resolution, ``reach``, ``shape_exponent`` or
        ``tau``: nuclei of several regions compete for a pixel on one raster.
    """

    models: Mapping[str, UCSModel]
    shared: UCSModel | None = None

    def __post_init__(self) -> None:
        distinct = self.distinct()
        if not distinct:
            msg = "There is no model for any region; pass a mapping of region -> model."
            raise ValueError(msg)
        seen = {
            (model.method, model.um_per_px, *(getattr(model.params, name, None) for name in _SHARED_PARAMS))
            for model in distinct
        }
        if len(seen) > 1:
            msg = (
                "The models of the regions must agree in method, resolution and "
                f"{', '.join(_SHARED_PARAMS)}, but are {', '.join(str(values) for values in sorted(seen))}. "
                "Train them with the same parameters."
            )
            raise ValueError(msg)

    def __repr__(self) -> str:
        shared = "" if self.shared is None else f", {sum(one is self.shared for one in self.values())} of them shared"
        return f"RegionModels({len(self)} regions{shared}: {listed(self)}; {self.distinct()[0]!r})"

    def __getitem__(self, region: str) -> UCSModel:
        return self.models[region]

    def __iter__(self) -> Iterator[str]:
        return iter(self.models)

    def __len__(self) -> int:
        return len(self.models)

    def distinct(self) -> list[UCSModel]:
        """Return every model once: the shared one first, if there is one, then those of the regions in their order."""
        candidates = [*([] if self.shared is None else [self.shared]), *self.models.values()]
        return list({id(model): model for model in candidates}.values())

    @property
    def method(self) -> str:
        """Name of the method of all of them."""
        return self.distinct()[0].method

    @property
    def uses_markers(self) -> bool:
        """Whether they look at marker genes in prediction."""
        return self.distinct()[0].uses_markers

    @property
    def params(self) -> MethodParams:
        """Parameters of the shared model, or else of the first."""
        return self.distinct()[0].params

    @property
    def history(self) -> dict[str, Any]:
        """How the models came about: plain values by ``"shared"`` and the number of the region, in its order."""
        shared = {} if self.shared is None else {_SHARED: self.shared.history}
        own = {str(k): model.history for k, model in enumerate(self.values()) if model is not self.shared}
        return {"regions": list(self), **shared, **own}

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the models into a directory, as :meth:`UCSModel.save` does: all of them or none.

        Parameters
        ----------
        path
            The directory; made if it does not exist.
        overwrite
            Whether models that are there may be replaced.

        Raises
        ------
        FileExistsError
            If there are any and ``overwrite`` is False.
        """
        path = Path(path)
        check_free(path, overwrite=overwrite)
        distinct = self.distinct()
        number = {id(model): k for k, model in enumerate(distinct)}
        content = {
            "models": [model.described() for model in distinct],
            "regions": {region: number[id(model)] for region, model in self.items()},
            "shared": None if self.shared is None else number[id(self.shared)],
        }
        write_model(path, REGIONS_FILE, content, [model.tensors() for model in distinct])

    @classmethod
    def load(cls, path: str | Path) -> RegionModels:
        """Read models that :meth:`save` wrote; nothing is unpickled.

        Raises
        ------
        FileNotFoundError
            If there are none at ``path``.
        ValueError
            If a file is malformed, damaged or too large, or its format or method is not known to this version.
        """
        path = Path(path)
        return read_model(path, REGIONS_FILE, lambda description: cls._of_description(path, description))

    @classmethod
    def _of_description(cls, path: Path, description: dict[str, Any]) -> RegionModels:
        with readable(path):
            models = [UCSModel.of_description(path, one) for one in description["models"]]
            by_region = {str(region): models[_index(k, models)] for region, k in description["regions"].items()}
            shared = description["shared"]
            return cls(by_region, None if shared is None else models[_index(shared, models)])


def _index(k: Any, models: list[UCSModel]) -> int:
    if not isinstance(k, int) or isinstance(k, bool) or not 0 <= k < len(models):
        msg = f"{k!r} is not the number of one of {len(models)} models"
        raise ValueError(msg)
    return k


def load_model(path: str | Path) -> UCSModel | RegionModels:
    """Read what :meth:`UCSModel.save` or :meth:`RegionModels.save` wrote, whichever it is."""
    return RegionModels.load(path) if (Path(path) / REGIONS_FILE).exists() else UCSModel.load(path)
