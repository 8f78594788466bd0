"""What each objective makes a plan of: the steps that it needs, those asked for by name, and no others."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from stages import object_pretraining
from stages.config.tree import Config
from stages.learning.encoder import Encoder
from stages.learning.settings import Training
from stages.plan import OPTIONAL_STEPS, Plan, PlanError
from stages.planning import make_plan

STAGE_4 = {"catalog", "object_pretraining", "evaluation"}
BOXES = STAGE_4 | {"regions"}
STAGE_1 = {"image_pretraining"}
MINED = STAGE_1 | {"retrieval", "roi_features", "correspondence"}
SCENES = {"mode": "scene_scene"}


def plan(until: str | None = None, force: tuple[str, ...] = (), regions: dict | None = None, **stage: Any) -> Plan:
    sections = {
        "dataset": {"format": "folder", "root": "photos"},
        "regions": regions or {},
        "object_pretraining": stage,
    }
    return make_plan(Config.model_validate(sections), lambda dataset: "abc", Path("hashes.npy"), until, force)


def versions(made: Plan) -> dict[str, str]:
    return {name: key.version for name, key in made.keys.items()}


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ({"method": "orl"}, BOXES | MINED),
        ({"method": "orl", "orl": {"weight_intra": 0}}, BOXES | MINED),
        ({"method": "orl", "orl": {"weight_inter": 0}}, BOXES),
        ({"method": "orl", "orl": {"weight_inter": 0, "weight_intra": 0}}, STAGE_4),
        ({"method": "detcon_s"}, STAGE_4 | {"masks"}),
        ({"method": "detcon_b"}, STAGE_4 | {"masks"}),
        ({"method": "detcon_b", "init": "image_pretraining"}, STAGE_4 | {"masks"} | STAGE_1),
        ({"method": "moco"}, BOXES),
        ({"method": "densecl", "crops": {"mode": "obj_scene"}}, BOXES),
        ({"method": "simclr", "crops": SCENES}, STAGE_4),
        ({"method": "byol", "crops": SCENES, "byol": {"small_views": 4}}, STAGE_4),
        ({"method": "byol", "regions": {"proposals": "learned"}}, BOXES | STAGE_1),
    ],
)
def test_what_an_objective_does_not_need_is_not_planned(stage: dict[str, Any], expected: set[str]) -> None:
    made = plan(**stage)
    assert set(made.nodes) == expected
    trained = {"image_pretraining", "object_pretraining"} & expected
    assert set(made.nodes["evaluation"].arguments["encoders"]) == trained


@pytest.mark.parametrize("name", OPTIONAL_STEPS)
@pytest.mark.parametrize("method", object_pretraining.METHODS)
def test_what_is_asked_for_is_planned_and_changes_no_version(name: str, method: str) -> None:
    plain, asked, forced = plan(method=method), plan(until=name, method=method), plan(force=(name,), method=method)
    assert name in {node.name for node in asked.until(name)}
    assert name in forced.nodes
    assert versions(plain).items() <= versions(forced).items(), "nor which encoders are compared"
    assert versions(asked).items() <= versions(forced).items()
    assert "evaluation" in forced.nodes
    assert "evaluation" not in asked.nodes


def test_a_wrong_name_is_answered_with_all_that_can_be_asked_for() -> None:
    with pytest.raises(PlanError, match=r"'maskz' is neither .* roi_features"):
        plan(until="maskz").until("maskz")


@pytest.mark.parametrize("method", object_pretraining.METHODS)
@pytest.mark.parametrize("more", [{}, {"crops": SCENES}, {"orl": {"neighbors": 3, "pairs": 0.5}}])
def test_the_arguments_fit_the_stage_and_the_method(method: str, more: dict[str, Any]) -> None:
    given = plan(method=method, **more).nodes["object_pretraining"].arguments
    assert inspect.signature(object_pretraining.run).bind(out=None, report=None, **given)
    assert inspect.signature(Encoder).bind(**given["encoder"])
    assert inspect.signature(object_pretraining.METHODS[method]).bind(None, **given["objective"])
    place = {name: given[name] for name in ("seed", "device", "workers")}
    assert Training(**given["training"], **place).batch_size == 512


@pytest.mark.parametrize(
    ("method", "field", "value"),
    [
        ("orl", "size", 96),
        ("orl", "crops", {"dilation": 0.2}),
        ("orl", "detcon_b", {"regions": 8}),
        ("detcon_b", "crops", SCENES),
        ("detcon_b", "orl", {"neighbors": 3}),
        ("moco", "crops", {"shift": (10, 20)}),
        ("byol", "byol", {"small_size": 64}),
    ],
)
def test_a_field_that_nothing_reads_changes_no_version(method: str, field: str, value: Any) -> None:
    assert versions(plan(method=method)) == versions(plan(method=method, **{field: value}))


@pytest.mark.parametrize(
    ("method", "field", "value"),
    [
        ("orl", "orl", {"neighbors": 3}),
        ("orl", "orl", {"pairs": 0.5}),
        ("detcon_b", "detcon_b", {"pooling": "soft"}),
        ("detcon_s", "detcon_s", {"views": "one"}),
        ("detcon_s", "size", 384),
        ("moco", "crops", {"dilation": 0.2}),
        ("moco", "crops", {"two_heads": False}),
        ("densecl", "crops", {"min_crop": 0.2}),
        ("byol", "crops", SCENES),
    ],
)
def test_a_field_that_is_read_changes_the_training_and_nothing_before_it(method: str, field: str, value: Any) -> None:
    before, after = versions(plan(method=method)), versions(plan(method=method, **{field: value}))
    assert {name for name in after if after[name] != before[name]} == {"object_pretraining", "evaluation"}


def test_a_field_that_came_later_is_not_in_the_versions_of_what_does_without_it() -> None:
    """Else every encoder that was trained before would have to be trained again."""
    training = {
        "backbone", "projector_hidden", "projector_out", "projector_layers", "projector_norm", "seed", "optimizer",
        "base_lr", "momentum", "weight_decay", "schedule", "warmup", "clip_norm", "sync_batch_norm", "interpolation",
        "scaled_decode", "epochs", "batch_size", "accumulate", "precision", "renderer", "log_every", "keep_every",
    }  # fmt: skip
    shared = training | {"method", "min_crop", "photometry", "predictor_hidden", "tau"}
    made = plan()
    assert set(made.nodes["image_pretraining"].settings) == shared | {"size"}
    orl = {"global_size", "patch_size", "jitter", "weights"}
    assert set(made.nodes["object_pretraining"].settings) == shared | orl
