"""The plan: what a configuration needs, and which versions follow from it."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from stages import image_pretraining, object_pretraining
from stages.config.tree import Config, Dataset
from stages.learning.encoder import Encoder
from stages.learning.settings import Training
from stages.plan import TARGETS, VERSIONS, Plan, PlanError
from stages.planning import make_plan

FOLDER = {"dataset": {"format": "folder", "root": "photos"}}
LABELLED = {"train": {"format": "scenes", "split": "train"}, "test": {"format": "scenes", "split": "test"}}


def plan(contents: str = "abc", **sections: dict) -> Plan:
    return make_plan(Config.model_validate(FOLDER | sections), lambda dataset: contents, Path("hashes.npy"))


def versions(made: Plan) -> dict[str, str]:
    return {name: key.version for name, key in made.keys.items()}


def changed(first: Plan, second: Plan) -> set[str]:
    before, after = versions(first), versions(second)
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


AFTER_STAGE_1 = {"image_pretraining", "retrieval", "roi_features", "correspondence", "object_pretraining", "evaluation"}


@pytest.mark.parametrize(
    ("section", "field", "value", "expected"),
    [
        ("retrieval", "neighbors", 3, {"retrieval", "correspondence", "object_pretraining", "evaluation"}),
        ("image_pretraining", "byol", {"tau": 0.9}, AFTER_STAGE_1),
        ("image_pretraining", "method", "simclr", AFTER_STAGE_1),
        ("regions", "min_side", 50, {"regions", "roi_features", "correspondence", "object_pretraining", "evaluation"}),
        ("correspondence", "fraction", 0.2, {"correspondence", "object_pretraining", "evaluation"}),
        ("object_pretraining", "orl", {"weight_intra": 0.0}, {"object_pretraining", "evaluation"}),
        ("evaluation", "crop", 96, {"evaluation"}),
        ("run", "seed", 1, AFTER_STAGE_1 | {"regions"}),
    ],
)
def test_one_field_changes_the_steps_that_depend_on_it(section: str, field: str, value: object, expected: set) -> None:
    assert changed(plan(), plan(**{section: {field: value}})) == expected


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("run", "device", "cpu"),
        ("run", "workers", 7),
        ("run", "processes", 4),
        ("image_pretraining", "checkpoint_minutes", 7.0),
        ("image_pretraining", "compile", True),
        ("image_pretraining", "moco", {"temperature": 0.5}),  # the method is byol
        ("retrieval", "batch_size", 3),
        ("dataset", "root", "elsewhere"),
        ("dataset", "max_rejected", 0.5),
    ],
)
def test_where_and_how_fast_it_runs_changes_nothing(section: str, field: str, value: object) -> None:
    sections = FOLDER | {section: FOLDER.get(section, {}) | {field: value}}
    assert changed(plan(), plan(**sections)) == set()


def test_other_photos_change_everything() -> None:
    assert changed(plan("abc"), plan("abd")) == set(versions(plan()))


def test_the_encoder_is_an_input_only_where_it_is_used() -> None:
    assert "image_pretraining" not in plan().nodes["object_pretraining"].inputs
    warm = plan(object_pretraining={"init": "image_pretraining"})
    assert "image_pretraining" in warm.nodes["object_pretraining"].inputs


@pytest.mark.parametrize("method", image_pretraining.METHODS)
def test_the_arguments_of_a_training_fit_what_takes_them(method: str) -> None:
    made = plan(image_pretraining={"method": method})
    for step, stage in (("image_pretraining", image_pretraining), ("object_pretraining", object_pretraining)):
        given = made.nodes[step].arguments
        assert inspect.signature(stage.run).bind(out=None, report=None, **given)
        assert inspect.signature(Encoder).bind(**given["encoder"])
        assert inspect.signature(stage.METHODS[given["method"]]).bind(None, **given["objective"])
        place = {name: given[name] for name in ("seed", "device", "workers")}
        assert Training(**given["training"], **place).batch_size == 512


def test_small_copies_are_made_once_for_both_trainings() -> None:
    made = plan(copies={"side": 256})
    assert made.nodes["copies"].arguments["side"] == 256
    assert {name for name, node in made.nodes.items() if "copies" in node.inputs} == {
        "image_pretraining", "object_pretraining"
    }  # fmt: skip
    assert "copies" not in plan().nodes


def test_a_probe_is_there_before_the_training_and_changes_no_version() -> None:
    scenes = {"format": "scenes", "split": "test"}
    probed = plan(image_pretraining={"probe": {"data": scenes}})
    assert {"catalog_probe", "scenes"} <= {node.name for node in probed.until("image_pretraining")}
    assert versions(plan()).items() <= versions(probed).items()
    assert probed.nodes["image_pretraining"].arguments["probe"]["catalog"].node == "catalog_probe"


def test_until_takes_what_is_needed_and_no_more() -> None:
    made = plan(evaluation=LABELLED)
    assert [node.name for node in made.until("retrieval")] == ["catalog", "image_pretraining", "retrieval"]
    assert [node.name for node in made.until("regions")] == ["catalog", "regions"]
    assert {node.name for node in made.until("object_pretraining")}.isdisjoint({"scenes", "demo_photos"})
    assert made.until(None) == list(made.nodes.values())


def test_until_something_unknown_is_an_error() -> None:
    with pytest.raises(PlanError, match="'retrival' is neither a stage nor a step"):
        plan().until("retrival")


def test_labelled_data_that_are_not_there_stop_only_an_evaluation() -> None:
    voc = {"format": "voc", "root": "nowhere", "split": "train"}
    config = Config.model_validate(FOLDER | {"evaluation": {"train": voc, "test": voc}})

    def fingerprint(dataset: Dataset) -> str:
        if dataset.format == "voc":
            raise FileNotFoundError("there is no such folder.")
        return "abc"

    for until in ("object_pretraining", "correspondence", "catalog"):
        made = make_plan(config, fingerprint, Path("hashes.npy"), until)
        assert "evaluation" not in made.nodes
        assert versions(made).items() <= versions(plan()).items(), "versions do not depend on how far a run goes"
    with pytest.raises(ValueError, match=r"evaluation.train: there is no such folder. `--until object_pretraining`"):
        make_plan(config, fingerprint, Path("hashes.npy"))


def test_labelled_data_do_not_touch_pretraining() -> None:
    without, with_labels = versions(plan()), versions(plan(evaluation=LABELLED))
    assert {name for name in without if without[name] != with_labels[name]} == {"evaluation"}


def test_nodes_come_after_their_inputs_and_every_step_has_a_version_and_a_place() -> None:
    seen: set[str] = set()
    for node in plan(evaluation=LABELLED).nodes.values():
        assert set(node.inputs) <= seen
        seen.add(node.name)
    assert VERSIONS.keys() == TARGETS.keys()
