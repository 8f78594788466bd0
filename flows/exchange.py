"""`orl export`: what a config has made, and backbones, in files of other programs."""

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


def export_encoder(word: str, to: str, out: Path) -> None:
    """Writes the backbone of an encoder for the library `to`, and says how far its features are from ours there.

    Raises:
        ValueError: there is no such encoder, or the library has no such network; see `export_backbone`.
    """
    from stages.evaluation.encoders import EncoderSource  # PyTorch, which files of JSON do without
    from stages.exchange.backbones import export_backbone

    _, source = EncoderSource.of(word, store_root(), seed=0)
    written = export_backbone(source.arguments(), to, out)
    console.print(f"{written.path}  [dim]{size(written.path.stat().st_size)}[/]", soft_wrap=True)
    console.print(
        f"{written.tensors} tensors, none missing, none left over. Largest difference of the features of both networks "
        f"on 4 photos: {written.difference:.2g}, of features up to {written.scale:.3g}.",
        soft_wrap=True,
    )
    console.print(written.usage, soft_wrap=True, markup=False, highlight=False)


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
