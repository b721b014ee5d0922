"""One model for each region of the tissue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucs.methods.model import MODEL_FILE, REGIONS_FILE, UCSModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ucs.methods.params import TrainParams

_FORMAT = 1
_SHARED = "shared"


@dataclass(frozen=True, eq=False)
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
        If there is no model at all, or the models differ in kind, resolution, ``tau``, ``reach`` or ``stretch``: nuclei
        of several regions compete for a pixel on one raster.
    """

    models: Mapping[str, UCSModel]
    shared: UCSModel | None = None

    def __post_init__(self) -> None:
        distinct = self.distinct()
        if not distinct:
            msg = "There is no model for any region; pass a mapping of region -> model."
            raise ValueError(msg)
        seen = {
            (model.um_per_px, model.params.tau, model.params.reach, model.params.stretch, model.is_published)
            for model in distinct
        }
        if len(seen) > 1:
            msg = (
                "The models of the regions must be of one kind and share resolution, tau, reach and stretch, but have "
                f"(um per px, tau, reach, stretch, published) {', '.join(str(values) for values in sorted(seen))}. "
                "Train them with the same parameters."
            )
            raise ValueError(msg)

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
    def is_published(self) -> bool:
        """Whether they are of the published nets: all are, or none is."""
        return self.distinct()[0].is_published

    @property
    def params(self) -> TrainParams:
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
        if not overwrite and any((path / name).exists() for name in (REGIONS_FILE, MODEL_FILE)):
            msg = f"{path} holds a model already; pass overwrite=True to replace it."
            raise FileExistsError(msg)
        folder = {
            region: _SHARED if model is self.shared else f"region_{k}" for k, (region, model) in enumerate(self.items())
        }
        for region, model in self.items():
            model.save(path / folder[region], overwrite=overwrite)
        if self.shared is not None:
            self.shared.save(path / _SHARED, overwrite=True)
        # Last, so that what a failure leaves behind is not taken for a model; and one folder holds one kind only.
        description = {"format": _FORMAT, "folders": folder, "shared": None if self.shared is None else _SHARED}
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
        if description.get("format") != _FORMAT:
            msg = f"{path} has model format {description.get('format')!r}; this version reads format {_FORMAT}."
            raise ValueError(msg)
        folders = set(description["folders"].values()) | {description["shared"]} - {None}
        models = {folder: UCSModel.load(path / folder) for folder in sorted(folders)}
        by_region = {region: models[folder] for region, folder in description["folders"].items()}
        return cls(by_region, models.get(description["shared"]))


def load_model(path: str | Path) -> UCSModel | RegionModels:
    """Read what :meth:`UCSModel.save` or :meth:`RegionModels.save` wrote, whichever it is."""
    return RegionModels.load(path) if (Path(path) / REGIONS_FILE).exists() else UCSModel.load(path)
