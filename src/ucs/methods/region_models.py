"""One model for each region of the tissue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucs._utils.checks import listed
from ucs.methods.model import FORMAT, MODEL_FILE, REGIONS_FILE, UCSModel, check_format, check_free

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
        """Write the models into a directory: one directory for each, as :meth:`UCSModel.save` does, and a list.

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
        folder = {
            region: _SHARED if model is self.shared else f"region_{k}" for k, (region, model) in enumerate(self.items())
        }
        for region, model in self.items():
            model.save(path / folder[region], overwrite=overwrite)
        if self.shared is not None:
            self.shared.save(path / _SHARED, overwrite=True)
        # Last, so that what a failure leaves behind is not taken for a model; and one folder holds one kind only.
        description = {"format": FORMAT, "folders": folder, "shared": None if self.shared is None else _SHARED}
        (path / REGIONS_FILE).write_text(json.dumps(description, indent=1))
        (path / MODEL_FILE).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> RegionModels:
        """Read models that :meth:`save` wrote; nothing is unpickled.

        Raises
        ------
        FileNotFoundError
            If there are none at ``path``.
        ValueError
            If their format is not known to this version.
        """
        path = Path(path)
        if not (path / REGIONS_FILE).exists():
            msg = f"{path} holds no models of regions: {REGIONS_FILE} is missing."
            raise FileNotFoundError(msg)
        description = json.loads((path / REGIONS_FILE).read_text())
        check_format(path, description)
        folders = set(description["folders"].values()) | {description["shared"]} - {None}
        models = {folder: UCSModel.load(path / folder) for folder in sorted(folders)}
        by_region = {region: models[folder] for region, folder in description["folders"].items()}
        return cls(by_region, models.get(description["shared"]))


def load_model(path: str | Path) -> UCSModel | RegionModels:
    """Read what :meth:`UCSModel.save` or :meth:`RegionModels.save` wrote, whichever it is."""
    return RegionModels.load(path) if (Path(path) / REGIONS_FILE).exists() else UCSModel.load(path)
