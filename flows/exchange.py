"""`orl export`: what a config has made, in files of other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.prepare import located, prepare, store_root
from flows.summary import size
from flows.terminal import console
from stages.data.catalog import Catalog
from stages.exchange.export import export
from stages.store import Store

_NEEDED = ("catalog", "retrieval", "regions", "correspondence")


def export_orl_json(config: str, overrides: Sequence[str], tiny: bool, out: Path) -> None:
    """Writes the JSON files of ORL's official code into `out`.

    Raises:
        ValueError: something that they hold has not been made yet.
    """
    _, settings, plan = prepare(config, overrides, tiny, "correspondence")
    store = Store(store_root())
    found = {name: store.find(plan.keys[name]) for name in _NEEDED}
    missing = [name for name, artifact in found.items() if artifact is None]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} of this config is not there yet: `orl run {config} --until correspondence` makes "
            "it, with the same --set."
        )
    paths = {name: artifact.path for name, artifact in found.items() if artifact is not None}
    photos = Catalog(paths["catalog"], located(plan.nodes["catalog"].arguments["root"], plan, store))
    regions = settings.regions
    written = export(
        out, photos=photos, retrieval=paths["retrieval"], regions=paths["regions"],
        correspondence=paths["correspondence"], min_side=regions.min_side, max_aspect=regions.max_aspect,
        max_iou=regions.max_iou, max_boxes=regions.max_boxes, fraction=settings.correspondence.fraction,
    )  # fmt: skip
    for path in written:
        console.print(f"{path}  [dim]{size(path.stat().st_size)}[/]", soft_wrap=True)
