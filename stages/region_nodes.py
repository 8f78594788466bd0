"""The nodes of a plan that find regions in the photos of a catalog: boxes, and masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.config.correspondence import Masks, Regions
from stages.config.section import Section
from stages.config.tree import Run
from stages.data.content_hashes import digest
from stages.data_nodes import DataNodes
from stages.plan import Inside

# What is left of the proposals of a photo, whichever way they come; and in what picture we search ourselves.
FILTERS = {"min_side", "max_aspect", "max_iou", "max_boxes"}
_SEARCH = {"max_side", "max_pixels", "min_saliency"}


def settings_of(section: Section | None, hashes: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a section as they are used, and as they decide a version: by the contents of files."""
    if section is None:
        return {}, {}
    used = {name: getattr(section, name) for name in type(section).model_fields}
    contents = {name: digest(value, hashes) for name, value in used.items() if isinstance(value, Path)}
    return used, section.result_fields() | contents


class RegionNodes:
    """Adds them to `data`, for one catalog.

    Args:
        shown: arguments `catalog` and `root`.
        hashes: see `stages.planning.make_plan`.
    """

    def __init__(self, data: DataNodes, shown: Mapping[str, Any], run: Run, hashes: Path) -> None:
        self._data, self._shown, self._seed, self._hashes = data, shown, run.seed, hashes
        self._shared = {"device": run.device, "workers": run.workers, "engine": run.engine}

    def regions(self, section: Regions, encoder: Inside | None = None) -> Inside:
        """encoder: for learned proposals."""
        filters = section.model_dump(mode="json", include=_SEARCH | FILTERS) | {"seed": self._seed}
        options, of_files = settings_of(section.chosen, self._hashes)
        settings = {"proposals": section.proposals, **filters, **of_files}
        inputs = (self._catalog,) if encoder is None else (self._catalog, encoder.node)
        return self._data.add("regions", "regions", settings, inputs, **self._shown, proposals=section.proposals,
                              options=options, encoder=encoder, **filters, **self._shared)  # fmt: skip

    def masks(self, section: Masks) -> Inside:
        options, of_files = settings_of(section.chosen, self._hashes)
        return self._data.add("masks", "masks", {"method": section.method, **of_files}, (self._catalog,),
                              **self._shown, method=section.method, options=options, **self._shared)  # fmt: skip

    @property
    def _catalog(self) -> str:
        return self._shown["catalog"].node
