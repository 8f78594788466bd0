"""Plans of evaluations: what is shared is one node, and what an encoder is called decides no version."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest
import torch

from stages.config.suite import load_suite, suite_names
from stages.evaluation.encoders import EncoderSource
from stages.learning.encoder import Encoder, save_encoder
from stages.plan import PROTOCOLS, TARGETS, Inside
from stages.suite_planning import SuitePlan, plan_suite


def planned(name: str, tmp_path: Path, *words: str, protocols: list[str] | None = None) -> SuitePlan:
    suite = load_suite(name, tiny=True)
    sources = dict(EncoderSource.of(word, tmp_path, seed=0) for word in words)
    return plan_suite(suite, suite.chosen(protocols), sources, lambda dataset: "abc", tmp_path / "hashes.npy")


def test_protocols_share_the_features_of_an_encoder(tmp_path: Path) -> None:
    made = planned("scenes", tmp_path, "a=random:conv4", "b=random:resnet10t", protocols=["linear_svm", "knn"])
    features = [node for node in made.plan.nodes.values() if node.step == "features"]
    assert len(features) == 4  # two encoders, two catalogs
    assert features[0].arguments["depths"] == ["gap"]
    assert made.outcomes == {
        "linear_svm": {"a": "linear_svm.a", "b": "linear_svm.b"},
        "knn": {"a": "knn.a", "b": "knn.b"},
    }


def test_a_label_changes_no_version(tmp_path: Path) -> None:
    first = planned("scenes", tmp_path, "a=random:conv4").plan
    second = planned("scenes", tmp_path, "b+c=random:conv4").plan
    versions = [
        {key.version for key in plan.keys.values() if key.step != "activation_maps"}  # whose picture shows the label
        for plan in (first, second)
    ]
    assert versions[0] == versions[1]


def test_labels_that_become_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="different labels"):
        planned("scenes", tmp_path, "a+b=random:conv4", "a-b=random:resnet10t")


def test_weights_decide_wherever_they_lie(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoders = [Encoder("conv4", projector_hidden=8, projector_out=4) for _ in range(2)]
    places = {"one": encoders[0], "moved": encoders[0], "other": encoders[1]}
    for name, encoder in places.items():
        (tmp_path / name).mkdir()
        save_encoder(encoder, tmp_path / name)
    plans = {name: planned("scenes", tmp_path, f"x={tmp_path / name}", protocols=["knn"]).plan for name in places}
    versions = {name: plan.keys["knn.x"].version for name, plan in plans.items()}
    assert versions["one"] == versions["moved"] != versions["other"]


def test_regions_of_stage_3_stand_beside_encoders(tmp_path: Path) -> None:
    made = planned("scenes", tmp_path, "a=random:conv4", protocols=["discovery"])
    assert list(made.outcomes["discovery"]) == ["a", "masks:felzenszwalb", "regions:selective_search"]
    node = made.plan.nodes["discovery.masks-felzenszwalb"]
    assert node.arguments["masks"] == Inside("masks")
    assert node.arguments.get("encoder") is None


@pytest.mark.parametrize("name", suite_names())
def test_every_node_has_exactly_the_arguments_of_its_step(name: str, tmp_path: Path) -> None:
    for node in planned(name, tmp_path, "a=random:resnet10t", "b=random:conv4").plan.nodes.values():
        if node.step == "catalog":  # whose step takes the fields of any format
            continue
        parameters = inspect.signature(importlib.import_module(node.target).run).parameters
        required = {p for p, parameter in parameters.items() if parameter.default is inspect.Parameter.empty}
        given = set(node.arguments) | {"out", "report"}
        assert given <= set(parameters), node.name
        assert required <= given, node.name


def test_every_protocol_is_a_module_with_a_run() -> None:
    assert all(callable(importlib.import_module(TARGETS[protocol]).run) for protocol in PROTOCOLS)


def test_an_absent_data_set_is_described(tmp_path: Path) -> None:
    suite = load_suite("coco")
    sources = dict([EncoderSource.of("random:conv4", tmp_path, seed=0)])

    def fingerprint(dataset: object) -> str:
        raise FileNotFoundError("dataset.root=data/coco/train2017 does not exist.")

    with pytest.raises(ValueError, match=r"^train: dataset\.root=.* Expected: .*train2017\.zip.*cocodataset\.org"):
        plan_suite(suite, suite.protocols, sources, fingerprint, tmp_path / "hashes.npy")
