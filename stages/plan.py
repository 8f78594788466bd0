"""Which steps a configuration needs, what each is made from, and therefore which version each will have.

This is the one table of the pipeline. Nothing is computed here but digests, so that a plan is cheap to make and says,
before anything runs, what is cached and what is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.config.recipes import Optimization, Projector
from stages.config.section import Section, runtime_fields
from stages.config.tree import STAGES, Config, Dataset, ImagePretraining, ObjectPretraining, Training
from stages.data.content_hashes import digest
from stages.store.key import Key

# Raised by hand when a step's code starts to make something else from the same settings and inputs.
VERSIONS = {
    "demo_photos": 1,
    "scenes": 1,
    "catalog": 2,
    "copies": 1,
    "image_pretraining": 2,
    "retrieval": 2,
    "regions": 2,
    "masks": 1,
    "roi_features": 2,
    "correspondence": 2,
    "import_neighbors": 1,
    "import_regions": 1,
    "import_correspondence": 1,
    "object_pretraining": 2,
    "evaluation": 2,
}

# Which of the five stages a step belongs to; the others prepare data.
STAGE_OF_STEP = {
    "image_pretraining": "image_pretraining",
    "retrieval": "retrieval",
    "regions": "correspondence",
    "masks": "correspondence",
    "roi_features": "correspondence",
    "correspondence": "correspondence",
    "import_neighbors": "retrieval",
    "import_regions": "correspondence",
    "import_correspondence": "correspondence",
    "object_pretraining": "object_pretraining",
    "evaluation": "evaluation",
}

TARGETS = {
    "demo_photos": "stages.data.demo_photos",
    "scenes": "stages.data.scenes",
    "catalog": "stages.data.indexing",
    "copies": "stages.data.copies",
    "image_pretraining": "stages.image_pretraining",
    "retrieval": "stages.retrieval",
    "regions": "stages.correspondence.regions",
    "masks": "stages.correspondence.masks",
    "roi_features": "stages.correspondence.roi_features",
    "correspondence": "stages.correspondence.pairs",
    "import_neighbors": "stages.exchange.neighbors",
    "import_regions": "stages.exchange.regions",
    "import_correspondence": "stages.exchange.pairs",
    "object_pretraining": "stages.object_pretraining",
    "evaluation": "stages.evaluation",
}

TRAINING_STEPS = ("image_pretraining", "object_pretraining")


_FILTERS_OF_PROPOSALS = ("min_side", "max_aspect", "max_iou", "max_boxes")
_FILTERS = {"max_side", "max_pixels", "min_side", "max_aspect", "max_iou", "max_boxes", "min_saliency"}


@dataclass(frozen=True)
class Inside:
    """A path inside the artifact that another node makes."""

    node: str
    path: str = "."


@dataclass(frozen=True)
class Node:
    """One step of a plan. `arguments` go to its `run`; `Inside` values become paths once their artifact exists.

    `inputs` decide its version; nodes in `after` have to be there too, but change nothing that it makes.
    """

    name: str
    step: str
    settings: Mapping[str, Any]
    inputs: tuple[str, ...]
    arguments: Mapping[str, Any]
    seed: int | None = None
    after: tuple[str, ...] = ()
    stage: str | None = field(init=False)
    target: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stage", STAGE_OF_STEP.get(self.step))
        object.__setattr__(self, "target", TARGETS[self.step])


class PlanError(ValueError):
    """A stage or step that does not exist."""


class Plan:
    """The nodes in an order in which they can run, and the key of each."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.keys: dict[str, Key] = {}
        for node in self.nodes.values():
            versions = {name: self.keys[name].version for name in node.inputs}
            self.keys[node.name] = Key(node.step, VERSIONS[node.step], dict(node.settings), versions)

    def select(self, name: str) -> list[Node]:
        """The nodes of the stage, or else the node, or else the step `name`. Raises PlanError when there is none."""
        nodes = list(self.nodes.values())
        chosen = [node for node in nodes if node.stage == name] or [node for node in nodes if node.name == name]
        chosen = chosen or [node for node in nodes if node.step == name]
        if not chosen:
            known = [*STAGES, *(other for other in self.nodes if other not in STAGES)]
            raise PlanError(f"'{name}' is neither a stage nor a step of this config. There are: {', '.join(known)}.")
        return chosen

    def until(self, name: str | None) -> list[Node]:
        """Everything that `name` needs, itself included; all nodes for None."""
        if name is None:
            return list(self.nodes.values())
        wanted = {node.name for node in self.select(name)}
        for node in reversed(list(self.nodes.values())):
            if node.name in wanted:
                wanted |= {*node.inputs, *node.after}
        return [node for node in self.nodes.values() if node.name in wanted]


def make_plan(config: Config, fingerprint: Callable[[Dataset], str], hashes: Path, until: str | None = None) -> Plan:
    """The plan of `config`.

    Args:
        until: when this stage or step comes before the evaluation, the evaluation is left out, and its labelled data
            sets need not be there.
        fingerprint: gives the digest of the contents of a data set that lies on the disk.
        hashes: the file that remembers the hashes of photos, so that none is read twice to hash it.
    """
    nodes: list[Node] = []
    run, workers, device = config.run, config.run.workers, config.run.device

    def add(name: str, step: str, settings: Mapping[str, Any], inputs: tuple[str, ...], **arguments: Any) -> str:
        if all(node.name != name for node in nodes):  # what two steps need is one node
            nodes.append(Node(name, step, settings, inputs, arguments, settings.get("seed")))
        return name

    def chosen(section: Section | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The settings of a section as they are used, and as they decide a version: by the contents of files."""
        if section is None:
            return {}, {}
        used = {name: getattr(section, name) for name in type(section).model_fields}
        contents = {name: digest(value, hashes) for name, value in used.items() if isinstance(value, Path)}
        return used, section.result_fields() | contents

    def photos() -> str:
        settings = {"max_side": config.generated.photo_side, "interiors": config.generated.interiors}
        return add("demo_photos", "demo_photos", settings, (), **settings)

    def scenes() -> str:
        made = config.generated
        settings = {"train_images": made.train_images, "test_images": made.test_images,
                    "side": made.scene_side, "seed": made.seed}  # fmt: skip
        folder = Inside(photos(), "photos")
        return add("scenes", "scenes", settings, (folder.node,), photos=folder, workers=workers, **settings)

    def copies() -> str:
        settings = {"side": config.copies.side, "quality": config.copies.quality}
        return add("copies", "copies", settings, ("catalog",), **shown, **settings, workers=workers)

    def catalog(name: str, dataset: Dataset) -> tuple[Inside, Any]:
        """The catalog of `dataset` and the folder that its paths start from, of joined data sets the list of theirs."""
        settings: dict[str, Any] = {"min_side": dataset.min_side}
        inputs: tuple[str, ...] = ()
        source: dict[str, Any]
        if dataset.format == "demo_photos":
            source, inputs = {"format": "folder", "root": Inside(photos(), "photos")}, ("demo_photos",)
        elif dataset.format == "scenes":
            source = {"format": "coco", "root": Inside(scenes(), str(dataset.split)),
                      "annotations": Inside("scenes", f"instances_{dataset.split}.json")}  # fmt: skip
            inputs = ("scenes",)
            settings["split"] = dataset.split
        else:
            source = dataset.source()
            settings |= {"format": dataset.format, "contents": fingerprint(dataset)}
        add(name, "catalog", settings, inputs, min_side=dataset.min_side, max_rejected=dataset.max_rejected,
            workers=workers, engine=run.engine, hashes=hashes, **source)  # fmt: skip
        return Inside(name), source["root"]

    images, root = catalog("catalog", config.dataset)
    shown = {"catalog": images, "root": root}
    resources = {"device": device, "workers": workers}

    def training(
        step: str, section: ImagePretraining | ObjectPretraining, inputs: Mapping[str, Inside], **extra: Any
    ) -> Inside:
        recipe = section.recipe
        views = recipe.part(recipe.AUGMENTATION) | extra
        loop = recipe.part(Optimization) | {"interpolation": views.pop("interpolation")}
        loop |= {"scaled_decode": config.dataset.scaled_decode}
        loop |= section.model_dump(mode="json", include=set(Training.model_fields) - {"probe"})
        encoder = {"backbone": config.image_pretraining.backbone} | recipe.part(Projector)
        settings = {"method": section.method, **encoder, **views, **recipe.objective(), "seed": run.seed, **loop}
        for name in runtime_fields(Training) - {"probe"}:
            del settings[name]

        inputs = dict(inputs)
        if config.copies.side is not None:
            inputs["copies"] = Inside(copies())
        arguments: dict[str, Any] = {"method": section.method, "encoder": encoder, "views": views, "training": loop,
                                     "objective": recipe.objective(), "seed": run.seed}  # fmt: skip
        after: tuple[str, ...] = ()
        if section.probe is not None:
            labelled, labelled_root = catalog("catalog_probe", section.probe.data)
            after = (labelled.node,)
            arguments["probe"] = section.probe.model_dump(mode="json", exclude={"data"}) | {
                "catalog": labelled, "root": labelled_root
            }  # fmt: skip
        used = tuple(place.node for place in inputs.values())
        arguments |= shown | inputs | resources
        nodes.append(Node(step, step, settings, ("catalog", *used), arguments, run.seed, after))
        return Inside(step)

    first = training("image_pretraining", config.image_pretraining, {}, size=config.image_pretraining.size)

    # Files of ORL's official code may stand for what these steps make.
    files, digests = chosen(config.exchange)
    all_in_one = files["correspondence"] is not None

    given = "neighbors" if files["neighbors"] else "correspondence"
    if files[given] is not None:
        settings = {"file": digests[given], "neighbors": config.retrieval.neighbors}
        add("retrieval", "import_neighbors", settings, ("catalog",),
            **shown, file=files[given], neighbors=config.retrieval.neighbors)  # fmt: skip
    else:
        settings = config.retrieval.result_fields()
        add("retrieval", "retrieval", settings, ("catalog", first.node),
            **shown, encoder=first, **config.retrieval.all_fields(), **resources)  # fmt: skip

    # Steps whose shards a cluster may work on.
    shared = resources | {"engine": run.engine}

    regions = config.regions
    filters = regions.model_dump(mode="json", include=_FILTERS)
    given = "correspondence" if all_in_one else "proposals"
    if files[given] is not None:
        # The boxes of a correspondence have passed a filter already.
        kept = None if all_in_one else {name: filters[name] for name in _FILTERS_OF_PROPOSALS}
        order = given if all_in_one else "order" if files["order"] else "neighbors"
        settings = {"file": digests[given], "order": digests[order], "filters": kept}
        add("regions", "import_regions", settings, ("catalog",),
            **shown, file=files[given], order=files[order], filters=kept)  # fmt: skip
    else:
        options, of_files = chosen(regions.chosen)
        settings = {"proposals": regions.proposals, **filters, **of_files, "seed": run.seed}
        inputs: tuple[str, ...] = ("catalog",)
        encoder = None
        if regions.proposals == "learned":
            encoder, inputs = first, ("catalog", first.node)
        add("regions", "regions", settings, inputs, **shown, proposals=regions.proposals, options=options,
            encoder=encoder, **filters, seed=run.seed, **shared)  # fmt: skip

    if config.masks.method is not None:
        options, of_files = chosen(config.masks.chosen)
        add("masks", "masks", {"method": config.masks.method, **of_files}, ("catalog",),
            **shown, method=config.masks.method, options=options, **shared)  # fmt: skip

    mined = {"retrieval": Inside("retrieval"), "regions": Inside("regions")}
    if all_in_one:
        settings = {"gallery_images": config.correspondence.gallery_images}
        add("correspondence", "import_correspondence", settings | {"file": digests["correspondence"]},
            ("catalog", *mined), **shown, **mined, **settings, file=files["correspondence"])  # fmt: skip
    else:
        add("roi_features", "roi_features", config.roi_features.result_fields(), ("catalog", first.node, "regions"),
            **shown, encoder=first, regions=Inside("regions"), **config.roi_features.all_fields(), **shared)  # fmt: skip
        mined["roi_features"] = Inside("roi_features")
        settings = config.correspondence.result_fields()
        add("correspondence", "correspondence", settings, ("catalog", *mined), **shown, **mined, **settings,
            **resources)  # fmt: skip

    found = {"regions": Inside("regions"), "correspondence": Inside("correspondence")}
    if config.object_pretraining.init == "image_pretraining":
        found["init"] = first
    second = training("object_pretraining", config.object_pretraining, found)

    if until is not None and any(until in (node.name, node.step, node.stage) for node in nodes):
        return Plan(nodes)
    labelled: dict[str, Any] = {"train": None, "train_root": None, "test": None, "test_root": None}
    measured = ["catalog", first.node, second.node]
    for part in ("train", "test"):
        dataset = getattr(config.evaluation, part)
        if dataset is not None:
            name = f"catalog_{part}"
            try:
                labelled[part], labelled[f"{part}_root"] = catalog(name, dataset)
            except (ValueError, OSError) as error:
                raise ValueError(f"evaluation.{part}: {error} `--until object_pretraining` does without it.") from None
            measured.append(name)
    settings = config.evaluation.result_fields() | {"seed": run.seed}
    for part in ("train", "test"):
        settings.pop(part)  # what counts of them is in the versions of their catalogs
    add("evaluation", "evaluation", settings, tuple(measured),
        **shown, **labelled, **settings, batch_size=config.evaluation.batch_size, **resources,
        encoders={first.node: first, second.node: second})  # fmt: skip
    return Plan(nodes)
