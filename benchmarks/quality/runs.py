"""The steps of the pipeline for one data set, without Prefect: what is in the store already is not made again.

So a benchmark that was killed goes on where it was, trainings from their checkpoints, and methods share the catalog,
the copies, the masks, and for each seed the regions, the pairs and their base.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.methods import METHODS
from flows.prepare import located, prepare
from stages.config.tree import Config
from stages.execute import build, portable
from stages.plan import VERSIONS, Node, Plan
from stages.report import Report
from stages.store import Artifact, Key, Store

Say = Callable[[str], None]

_TRAININGS = ("image_pretraining", "object_pretraining")


class Runs:
    """The runs of one data set."""

    def __init__(self, config: Path, overrides: Sequence[str], store: Path, say: Say, *, tiny: bool = False) -> None:
        """
        Args:
            config: the data set's YAML file. overrides: of it, for all methods and seeds.
            store: the folder of the artifacts.
            say: is told each step that is about to be made.
        """
        self.name = config.stem
        self._config, self._overrides, self._tiny = config, tuple(overrides), tiny
        self._store, self._say = Store(store), say

    @property
    def config(self) -> Config:
        """The settings that all methods share."""
        return self._prepared((), None)[1]

    def encoder(self, method: str, seed: int, length: str) -> Artifact:
        """The trained encoder of a method. length: of the training, such as "60 epochs"."""
        chosen = METHODS[method]
        plan = self._plan(chosen.overrides, seed, length, chosen.step)
        for node in plan.until(chosen.step):
            self._make(node, plan, f"{method}, seed {seed}")
        return self._store.get(chosen.step, plan.keys[chosen.step].version)

    def inputs(self, method: str, seed: int, length: str) -> dict[str, Artifact]:
        """All that was made for the encoder of a method, by the name of the step; itself included. Makes nothing."""
        chosen = METHODS[method]
        plan = self._plan(chosen.overrides, seed, length, chosen.step)
        found = {node.name: self._store.find(plan.keys[node.name]) for node in plan.until(chosen.step)}
        return {name: artifact for name, artifact in found.items() if artifact is not None}

    def evaluation(self, encoders: Mapping[str, Artifact], seed: int) -> Artifact:
        """All encoders of a seed side by side: photos are read once for all of them."""
        plan = self._plan((), seed, "1 epochs", None)
        node = plan.nodes["evaluation"]
        catalogs = [name for name in node.inputs if name.startswith("catalog")]
        for needed in (needed for name in catalogs for needed in plan.until(name)):
            self._make(needed, plan, f"evaluation, seed {seed}")
        inputs = {name: plan.keys[name].version for name in catalogs}
        inputs |= {name: encoder.version for name, encoder in encoders.items()}
        key = Key("evaluation", VERSIONS["evaluation"], node.settings, inputs)
        arguments = {**node.arguments, "encoders": {name: encoder.path for name, encoder in encoders.items()}}
        return self._build(node, key, arguments, plan, f"evaluation, seed {seed}")

    def _plan(self, overrides: Sequence[str], seed: int, length: str, until: str | None) -> Plan:
        lengths = [f"{step}.epochs={length}" for step in _TRAININGS]
        return self._prepared([*overrides, *lengths, f"run.seed={seed}"], until)[2]

    def _prepared(self, overrides: Sequence[str], until: str | None) -> tuple[str, Config, Plan]:
        os.environ["ORL_ARTIFACTS"] = str(self._store.root)  # where the hashes of the photos are remembered
        return prepare(str(self._config), [*self._overrides, *overrides], self._tiny, until)

    def _make(self, node: Node, plan: Plan, what: str) -> Artifact:
        return self._build(node, plan.keys[node.name], node.arguments, plan, what)

    def _build(self, node: Node, key: Key, arguments: Mapping[str, Any], plan: Plan, what: str) -> Artifact:
        artifact = self._store.find(key)
        if artifact is not None:
            return artifact
        self._say(f"{self.name}: {what}: {node.step}")
        given = portable(located(dict(arguments), plan, self._store))
        request = {"target": node.target, "arguments": given, "seed": node.seed, "force": False, "key": key.as_dict()}
        build(request | {"store": str(self._store.root)}, Report())
        return self._store.get(key.step, key.version)
