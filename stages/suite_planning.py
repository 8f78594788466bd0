"""The plan of an evaluation: catalogs, features of each encoder, and one node a protocol and encoder.

Each is an artifact of its own, so one more encoder, or one more protocol, computes nothing again that is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.config.dataset import Dataset
from stages.config.protocols import Discovery, ProtocolSection
from stages.config.suite import ActivationMaps, Suite
from stages.data.content_hashes import digest
from stages.data_nodes import DataNodes
from stages.evaluation.encoders import EncoderSource
from stages.plan import Inside, Plan
from stages.region_nodes import RegionNodes, settings_of

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class SuitePlan:
    """A plan, and which of its nodes has the outcome of each protocol and encoder: `outcomes[protocol][label]`."""

    plan: Plan
    outcomes: Mapping[str, Mapping[str, str]]


def plan_suite(
    suite: Suite,
    protocols: Mapping[str, ProtocolSection],
    encoders: Mapping[str, EncoderSource],
    fingerprint: Callable[[Dataset], str],
    hashes: Path,
) -> SuitePlan:
    """The plan to evaluate `encoders`, by label, by `protocols` on the data of `suite`.

    Args:
        fingerprint, hashes: see `stages.planning.make_plan`.

    Raises:
        ValueError, OSError: a data set or a file is not there or can't be used, or two encoders have one label.
    """
    names = [_plain(label) for label in encoders]
    if len(set(names)) < len(names):
        raise ValueError(f"the encoders {', '.join(encoders)} become {', '.join(names)}: give them different labels.")
    planner = _Planner(suite, protocols, encoders, fingerprint, hashes)
    outcomes: dict[str, dict[str, str]] = {}
    for name, section in protocols.items():
        outcomes[name] = {label: planner.protocol(name, section, label) for label in encoders}
        if isinstance(section, Discovery):
            outcomes[name] |= planner.discovered_regions(name, section)
    if suite.activation_maps is not None:
        planner.activation_maps(suite.activation_maps)
    return SuitePlan(Plan(planner.data.nodes.values()), outcomes)


class _Planner:
    def __init__(
        self,
        suite: Suite,
        protocols: Mapping[str, ProtocolSection],
        encoders: Mapping[str, EncoderSource],
        fingerprint: Callable[[Dataset], str],
        hashes: Path,
    ) -> None:
        self.data = DataNodes(suite.generated, suite.run, fingerprint, hashes)
        self._suite, self._encoders, self._hashes = suite, encoders, hashes
        self._resources = {"device": suite.run.device, "workers": suite.run.workers}
        self._places: dict[str, tuple[Inside, Any]] = {}
        # Of all protocols of the suite, so that one that is chosen later finds its features there.
        self._depths = tuple(dict.fromkeys(depth for section in suite.protocols.values() for depth in section.depths()))

    def protocol(self, name: str, section: ProtocolSection, label: str) -> str:
        """The node of one protocol for one encoder; its name."""
        return self._node(name, section, label, self._all_given(section.needs, label))

    def discovered_regions(self, name: str, section: Discovery) -> dict[str, str]:
        """The same for segmentations and boxes of stage 3, in place of an encoder: label -> name of the node."""
        found = {}
        for source in section.instead:
            chosen = getattr(self._suite, source)
            if chosen is not None:
                label = f"{source}:{chosen.method if source == 'masks' else chosen.proposals}"
                given = self._all_given([need for need in section.needs if need != "encoder"], label)
                found[label] = self._node(
                    name, section, label, given | {"encoder": None, source: self._regions(source)}
                )
        return found

    def activation_maps(self, section: ActivationMaps) -> None:
        """One picture of all encoders, whose labels are in it and therefore part of its version."""
        catalog, root = self._catalog("test")
        contents = {label: self._contents(source) for label, source in self._encoders.items()}
        encoders = {label: source.arguments() for label, source in self._encoders.items()}
        self.data.add("activation_maps", "activation_maps", section.result_fields() | {"encoders": contents},
                      {catalog.node: "test"}, encoders=encoders, test=catalog, test_root=root, **section.all_fields(),
                      device=self._resources["device"])  # fmt: skip

    def _node(self, protocol: str, section: ProtocolSection, label: str, given: dict[str, Any]) -> str:
        _, settings = settings_of(section, self._hashes)
        if given.get("encoder") is not None:
            settings["encoder"] = self._contents(self._encoders[label])
        if "seed" in given:
            settings["seed"] = given["seed"]
        inputs = {value.node: role for role, value in given.items() if isinstance(value, Inside)}
        arguments = dict.fromkeys(section.instead) | section.arguments() | given
        return self.data.add(f"{protocol}.{_plain(label)}", protocol, settings, inputs, **arguments).node

    def _all_given(self, needs: Sequence[str], label: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for need in needs:
            found |= self._given(need, label)
        return found

    def _given(self, need: str, label: str) -> dict[str, Any]:
        """The arguments behind one entry of `ProtocolSection.needs`."""
        if need == "encoder":
            return {"encoder": self._encoders[label].arguments()}
        if need in ("train", "test"):
            catalog, root = self._catalog(need)
            return {need: catalog, f"{need}_root": root}
        if need in ("features_train", "features_test"):
            return {need: self._features(label, need.removeprefix("features_"))}
        if need in ("maps_train", "maps_test"):
            part = need.removeprefix("maps_")
            return {f"{part}_maps": self._class_maps(part)}
        if need == "reference":
            labels = list(self._encoders)
            before = labels.index(label) - 1
            return {need: self._features(labels[before], "test") if before >= 0 else None}
        if need == "regions":
            return {need: self._regions("regions")}
        if need == "seed":
            return {need: self._suite.run.seed}
        return {need: self._resources[need]}

    def _catalog(self, part: str) -> tuple[Inside, Any]:
        if part not in self._places:
            try:
                self._places[part] = self.data.catalog(f"catalog_{part}", getattr(self._suite, part))
            except (ValueError, OSError) as error:
                raise ValueError(f"{part}: {error} {self._suite.layout or ''}".rstrip()) from None
        return self._places[part]

    def _features(self, label: str, part: str) -> Inside:
        catalog, root = self._catalog(part)
        section, source = self._suite.features, self._encoders[label]
        settings = section.result_fields() | {"depths": list(self._depths)}
        return self.data.add(f"features_{part}.{_plain(label)}", "features",
                             settings | {"encoder": self._contents(source)}, (catalog.node,),
                             encoder=source.arguments(), catalog=catalog, root=root, batch_size=section.batch_size,
                             **settings, **self._resources)  # fmt: skip

    def _class_maps(self, part: str) -> Inside:
        catalog, root = self._catalog(part)
        section = self._suite.class_maps
        labels = getattr(section, f"{part}_labels")
        settings: dict[str, Any] = {"source": section.source}
        if labels is not None:
            settings["labels"] = digest(labels, self._hashes)
        return self.data.add(f"class_maps_{part}", "class_maps", settings, (catalog.node,), catalog=catalog, root=root,
                             source=section.source, labels=labels, workers=self._resources["workers"],
                             engine=self._suite.run.engine)  # fmt: skip

    def _regions(self, source: str) -> Inside:
        """What stage 3 finds in the test photos: "masks" or "regions"."""
        catalog, root = self._catalog("test")
        nodes = RegionNodes(self.data, {"catalog": catalog, "root": root}, self._suite.run, self._hashes)
        return getattr(nodes, source)(getattr(self._suite, source))

    def _contents(self, source: EncoderSource) -> dict[str, Any]:
        """What decides the weights of an encoder: the content of its file, wherever it lies."""
        named = {"kind": source.kind, "backbone": source.backbone, "seed": source.seed}
        return named if source.file is None else named | {"weights": digest(source.file, self._hashes)}


def _plain(label: str) -> str:
    return _NOT_IN_NAMES.sub("-", label)
