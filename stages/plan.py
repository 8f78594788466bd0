"""The steps of the pipeline, and a plan: which of them a run needs, in which order, and the version of each.

`stages.planning` makes the plan of a configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stages.config.tree import STAGES
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
    "object_pretraining": 3,
    "evaluation": 3,
    "features": 1,
    "class_maps": 1,
    "activation_maps": 1,
    "linear_svm": 1,
    "low_shot_svm": 1,
    "knn": 1,
    "linear_probe": 1,
    "fine_tuning": 1,
    "detection": 1,
    "segmentation": 1,
    "depth": 1,
    "discovery": 1,
    "pair_purity": 1,
    "retrieval_map": 1,
    "label_free": 1,
}

# Protocols of the evaluation: of `orl evaluate`, one step each; those that train may do it in several processes.
TRAINED_PROTOCOLS = ("linear_probe", "fine_tuning", "detection", "segmentation", "depth")
PROTOCOLS = (
    "linear_svm", "low_shot_svm", "knn", *TRAINED_PROTOCOLS, "discovery", "pair_purity", "retrieval_map", "label_free"
)  # fmt: skip

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
    "features": "evaluation",
    "class_maps": "evaluation",
    "activation_maps": "evaluation",
} | dict.fromkeys(PROTOCOLS, "evaluation")

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
    "evaluation": "stages.evaluation.stage",
    "features": "stages.evaluation.features",
    "class_maps": "stages.evaluation.tasks.dense.class_maps",
    "activation_maps": "stages.evaluation.activation_maps",
} | {protocol: f"stages.evaluation.protocols.{protocol}" for protocol in PROTOCOLS}

# Steps that some objectives do without. They are planned where one needs them, or where they are asked for by name.
OPTIONAL_STEPS = ("image_pretraining", "retrieval", "regions", "masks", "roi_features", "correspondence")

TRAINING_STEPS = ("image_pretraining", "object_pretraining")
PARALLEL_STEPS = (*TRAINING_STEPS, *TRAINED_PROTOCOLS)  # one process a GPU


@dataclass(frozen=True)
class Inside:
    """A path inside the artifact that another node makes."""

    node: str
    path: str = "."


@dataclass(frozen=True)
class Node:
    """One step of a plan. `arguments` go to its `run`; `Inside` values become paths once their artifact exists.

    `inputs` decide its version; nodes in `after` have to be there too, but change nothing that it makes. `roles` are
    the names of inputs in its key where these are not the names of their nodes.
    """

    name: str
    step: str
    settings: Mapping[str, Any]
    inputs: tuple[str, ...]
    arguments: Mapping[str, Any]
    seed: int | None = None
    after: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
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
            versions = {node.roles.get(name, name): self.keys[name].version for name in node.inputs}
            self.keys[node.name] = Key(node.step, VERSIONS[node.step], dict(node.settings), versions)

    def select(self, name: str) -> list[Node]:
        """The nodes of the stage, or else the node, or else the step `name`. Raises PlanError when there is none."""
        nodes = list(self.nodes.values())
        chosen = [node for node in nodes if node.stage == name] or [node for node in nodes if node.name == name]
        chosen = chosen or [node for node in nodes if node.step == name]
        if not chosen:
            known = dict.fromkeys([*STAGES, *OPTIONAL_STEPS, *self.nodes])
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
