"""Which steps a configuration needs, what each is made from, and therefore which version each will have.

Nothing is computed here but digests, so that a plan is cheap to make and says, before anything runs, what is cached and
what is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from stages.config.dataset import Dataset
from stages.config.pretraining import ImagePretraining, ObjectPretraining, Training
from stages.config.recipes import Optimization, Projector
from stages.config.section import runtime_fields
from stages.config.tree import Config
from stages.data_nodes import DataNodes
from stages.plan import OPTIONAL_STEPS, TRAINING_STEPS, Inside, Node, Plan
from stages.region_nodes import FILTERS, RegionNodes, settings_of


def make_plan(
    config: Config,
    fingerprint: Callable[[Dataset], str],
    hashes: Path,
    until: str | None = None,
    force: Iterable[str] = (),
) -> Plan:
    """The plan of `config`: the last training, what its objective needs, and an evaluation of what was trained.

    Args:
        until: when this stage or step comes before the evaluation, the evaluation is left out, and its labelled data
            sets need not be there.
        force: stages or steps that are to be made again. What `until` and these name is planned even where the
            objective does without it, and with it all that it needs; the versions of the others do not change.
        fingerprint: gives the digest of the contents of a data set that lies on the disk.
        hashes: the file that remembers the hashes of photos, so that none is read twice to hash it.

    Raises:
        ValueError, OSError: a data set or a file that the configuration names is not there or can't be used.
    """
    planner = _Planner(config, fingerprint, hashes)
    planner.object_pretraining()
    trained = [Inside(step) for step in TRAINING_STEPS if step in planner.nodes]
    for name in (until, *force):
        planner.add(name)
    if until is None or not any(until in (node.name, node.step, node.stage) for node in planner.nodes.values()):
        planner.evaluation(*trained)
    return Plan(planner.nodes.values())


class _Planner:
    """Collects the nodes of a plan. Each method adds one, after those that it needs, unless it is there already, and
    returns where to find what it makes."""

    def __init__(self, config: Config, fingerprint: Callable[[Dataset], str], hashes: Path) -> None:
        self._config, self._hashes = config, hashes
        self._data = DataNodes(config.generated, config.run, fingerprint, hashes)
        self.nodes, self._add = self._data.nodes, self._data.add
        self._resources = {"device": config.run.device, "workers": config.run.workers}
        # Of steps whose shards a cluster may work on.
        self._shared = self._resources | {"engine": config.run.engine}
        images, root = self._data.catalog("catalog", config.dataset)
        self._shown = {"catalog": images, "root": root}
        self._found = RegionNodes(self._data, self._shown, config.run, hashes)

    def add(self, name: str | None) -> None:
        """The step `name`, where it is one that some objectives do without."""
        if name in OPTIONAL_STEPS:
            getattr(self, name)()

    def _copies(self) -> Inside:
        settings = {"side": self._config.copies.side, "quality": self._config.copies.quality}
        workers = self._config.run.workers
        return self._add("copies", "copies", settings, ("catalog",), **self._shown, **settings, workers=workers)

    def image_pretraining(self) -> Inside:
        return self._training("image_pretraining", self._config.image_pretraining)

    def object_pretraining(self) -> Inside:
        return self._training("object_pretraining", self._config.object_pretraining)

    def _training(self, step: str, section: ImagePretraining | ObjectPretraining) -> Inside:
        if step in self.nodes:  # its probe's data set is not looked at twice
            return Inside(step)
        inputs: dict[str, Inside] = {}
        if isinstance(section, ObjectPretraining):
            inputs |= {name: getattr(self, name)() for name in section.needs}
            if section.init == "image_pretraining":
                inputs["init"] = self.image_pretraining()
        if self._config.copies.side is not None:
            inputs["copies"] = self._copies()

        recipe, seed = section.recipe, self._config.run.seed
        views, objective = section.shown(), section.objective()
        loop = recipe.part(Optimization) | {"interpolation": views.pop("interpolation")}
        loop |= {"scaled_decode": self._config.dataset.scaled_decode}
        loop |= section.model_dump(mode="json", include=set(Training.model_fields) - {"probe"})
        encoder = {"backbone": self._config.image_pretraining.backbone} | recipe.part(Projector)
        settings = {"method": section.method, **encoder, **views, **objective, "seed": seed, **loop}
        for name in runtime_fields(Training) - {"probe"}:
            del settings[name]

        arguments: dict[str, Any] = {"method": section.method, "encoder": encoder, "views": views, "training": loop,
                                     "objective": objective, "seed": seed}  # fmt: skip
        after: tuple[str, ...] = ()
        if section.probe is not None:
            labelled, labelled_root = self._data.catalog("catalog_probe", section.probe.data)
            after = (labelled.node,)
            arguments["probe"] = section.probe.model_dump(mode="json", exclude={"data"}) | {
                "catalog": labelled, "root": labelled_root
            }  # fmt: skip
        used = tuple(place.node for place in inputs.values())
        arguments |= self._shown | inputs | self._resources
        self.nodes[step] = Node(step, step, settings, ("catalog", *used), arguments, seed, after)
        return Inside(step)

    @cached_property
    def _exchange(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Files of ORL's official code, which may stand for what some steps make, and the digests of their contents."""
        return settings_of(self._config.exchange, self._hashes)

    def retrieval(self) -> Inside:
        files, digests = self._exchange
        for name in ("correspondence", "neighbors"):
            if files[name] is not None:
                return self._imported_neighbors(files[name], digests[name])
        section, encoder = self._config.retrieval, self.image_pretraining()
        return self._add("retrieval", "retrieval", section.result_fields(), ("catalog", encoder.node),
                         **self._shown, encoder=encoder, **section.all_fields(), **self._resources)  # fmt: skip

    def regions(self) -> Inside:
        files, digests = self._exchange
        section = self._config.regions
        if files["correspondence"] is not None:  # its boxes have passed a filter already
            return self._imported_regions(files["correspondence"], digests["correspondence"], filters=None)
        if files["proposals"] is not None:
            order = "order" if files["order"] is not None else "neighbors"
            filters = section.model_dump(mode="json", include=FILTERS)
            return self._imported_regions(
                files["proposals"], digests["proposals"], filters, files[order], digests[order]
            )
        return self._found.regions(section, self.image_pretraining() if section.proposals == "learned" else None)

    def masks(self) -> Inside:
        return self._found.masks(self._config.masks)

    def roi_features(self) -> Inside:
        section, encoder, regions = self._config.roi_features, self.image_pretraining(), self.regions()
        return self._add("roi_features", "roi_features", section.result_fields(),
                         ("catalog", encoder.node, regions.node), **self._shown, encoder=encoder, regions=regions,
                         **section.all_fields(), **self._shared)  # fmt: skip

    def correspondence(self) -> Inside:
        files, digests = self._exchange
        if files["correspondence"] is not None:
            return self._imported_pairs(files["correspondence"], digests["correspondence"])
        mined = {"retrieval": self.retrieval(), "regions": self.regions(), "roi_features": self.roi_features()}
        settings = self._config.correspondence.result_fields()
        return self._add("correspondence", "correspondence", settings, ("catalog", *mined),
                         **self._shown, **mined, **settings, **self._resources)  # fmt: skip

    def _imported_neighbors(self, file: Path, contents: str) -> Inside:
        neighbors = self._config.retrieval.neighbors
        return self._add("retrieval", "import_neighbors", {"file": contents, "neighbors": neighbors}, ("catalog",),
                         **self._shown, file=file, neighbors=neighbors)  # fmt: skip

    def _imported_regions(
        self,
        file: Path,
        contents: str,
        filters: Mapping[str, Any] | None,
        order: Path | None = None,
        order_contents: str | None = None,
    ) -> Inside:
        """`order` says which photo is at which place of `file`; None where `file` itself does."""
        settings = {"file": contents, "order": order_contents or contents, "filters": filters}
        return self._add("regions", "import_regions", settings, ("catalog",),
                         **self._shown, file=file, order=order or file, filters=filters)  # fmt: skip

    def _imported_pairs(self, file: Path, contents: str) -> Inside:
        shown = {"gallery_images": self._config.correspondence.gallery_images}
        mined = {"retrieval": self.retrieval(), "regions": self.regions()}
        return self._add("correspondence", "import_correspondence", shown | {"file": contents}, ("catalog", *mined),
                         **self._shown, **mined, **shown, file=file)  # fmt: skip

    def evaluation(self, *encoders: Inside) -> Inside:
        section, seed = self._config.evaluation, self._config.run.seed
        labelled: dict[str, Any] = {"train": None, "train_root": None, "test": None, "test_root": None}
        inputs = ["catalog", *(encoder.node for encoder in encoders)]
        for part in ("train", "test"):
            dataset = getattr(section, part)
            if dataset is None:
                continue
            try:
                labelled[part], labelled[f"{part}_root"] = self._data.catalog(f"catalog_{part}", dataset)
            except (ValueError, OSError) as error:
                raise ValueError(f"evaluation.{part}: {error} `--until object_pretraining` does without it.") from None
            inputs.append(f"catalog_{part}")
        settings = section.result_fields() | {"seed": seed}
        for part in ("train", "test"):
            settings.pop(part)  # what counts of them is in the versions of their catalogs
        return self._add("evaluation", "evaluation", settings, tuple(inputs), **self._shown, **labelled, **settings,
                         batch_size=section.batch_size, encoders={encoder.node: encoder for encoder in encoders},
                         **self._resources)  # fmt: skip
