"""The nodes of a plan that prepare data: what the project makes itself, and a catalog for each data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stages.config.dataset import Dataset
from stages.config.tree import Generated, Run
from stages.plan import Inside, Node


class DataNodes:
    """Collects the nodes of a plan, each once, and adds those that data sets need.

    Attributes:
        nodes: by name, in an order in which they can run.
    """

    def __init__(self, generated: Generated, run: Run, fingerprint: Callable[[Dataset], str], hashes: Path) -> None:
        """fingerprint, hashes: see `stages.planning.make_plan`."""
        self.nodes: dict[str, Node] = {}
        self._generated, self._run, self._fingerprint, self._hashes = generated, run, fingerprint, hashes

    def add(
        self,
        name: str,
        step: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str] | tuple[str, ...],
        **arguments: Any,
    ) -> Inside:
        """inputs: names of nodes; or node -> what it is for this one, where names of nodes are a matter of the user."""
        if name not in self.nodes:  # what two steps need is one node
            roles = inputs if isinstance(inputs, Mapping) else {}
            self.nodes[name] = Node(name, step, settings, tuple(inputs), arguments, settings.get("seed"), roles=roles)
        return Inside(name)

    def catalog(self, name: str, dataset: Dataset) -> tuple[Inside, Any]:
        """The catalog of `dataset` and the folder that its paths start from, of joined data sets the list of theirs."""
        settings: dict[str, Any] = {"min_side": dataset.min_side}
        inputs: tuple[str, ...] = ()
        source: dict[str, Any]
        if dataset.format == "demo_photos":
            source, inputs = {"format": "folder", "root": Inside(self._photos().node, "photos")}, ("demo_photos",)
        elif dataset.format == "scenes":
            source = {"format": "coco", "root": Inside(self._scenes().node, str(dataset.split)),
                      "annotations": Inside("scenes", f"instances_{dataset.split}.json")}  # fmt: skip
            inputs = ("scenes",)
            settings["split"] = dataset.split
        else:
            source = dataset.source()
            settings |= {"format": dataset.format, "contents": self._fingerprint(dataset)}
        run = self._run
        self.add(name, "catalog", settings, inputs, min_side=dataset.min_side, max_rejected=dataset.max_rejected,
                  workers=run.workers, engine=run.engine, hashes=self._hashes, **source)  # fmt: skip
        return Inside(name), source["root"]

    def _photos(self) -> Inside:
        made = self._generated
        settings = {"max_side": made.photo_side, "interiors": made.interiors}
        return self.add("demo_photos", "demo_photos", settings, (), **settings)

    def _scenes(self) -> Inside:
        made, workers = self._generated, self._run.workers
        settings = {"train_images": made.train_images, "test_images": made.test_images,
                    "side": made.scene_side, "seed": made.seed}  # fmt: skip
        folder = Inside(self._photos().node, "photos")
        return self.add("scenes", "scenes", settings, (folder.node,), photos=folder, workers=workers, **settings)
