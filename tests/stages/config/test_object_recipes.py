"""The recipes of stage 4: the papers' settings, what of them is handed on, and settings that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stages.config.files import load_config
from stages.config.pretraining import ObjectPretraining
from stages.config.reading import ConfigError


@pytest.fixture
def minimal(tmp_path: Path) -> str:
    path = tmp_path / "minimal.yaml"
    path.write_text("dataset: {format: demo_photos}\n")
    return str(path)


def stage(method: str, **fields: Any) -> ObjectPretraining:
    return ObjectPretraining.model_validate({"method": method} | fields)


def test_detcon_has_its_bases_settings_and_its_own() -> None:
    """DetCon (arXiv:2103.10957), sections 3.1 and 3.2, and the official configuration of DetCon_B."""
    s, b = stage("detcon_s").recipe, stage("detcon_b").recipe
    shared = {"regions": 16, "pooling": "hard", "min_crop": 0.08, "size": 224}
    assert shared.items() <= stage("detcon_s").shown().items()
    assert shared.items() <= stage("detcon_b").shown().items()
    objective = {"temperature": 0.1, "reading": "code", "negatives": "all", "views": "two"}
    assert s.objective() == objective
    assert b.objective() == objective | {"predictor_hidden": 4096, "tau": 0.996}
    assert (s.optimizer, s.base_lr, s.weight_decay, s.warmup) == ("lars", 0.3, 1e-6, "10 epochs")
    assert (b.optimizer, b.base_lr, b.weight_decay, b.warmup) == ("lars", 0.2, 1.5e-6, "10 epochs")
    assert {s.schedule, b.schedule} == {"cosine_after_warmup"}
    assert (s.projector_hidden, s.projector_out, b.projector_hidden, b.projector_out) == (2048, 128, 4096, 256)
    assert (s.photometry, b.photometry, s.interpolation, b.interpolation) == ("simclr", "byol", "bicubic", "bicubic")


def test_object_aware_cropping_is_the_papers_best() -> None:
    """Mishra et al., arXiv:2112.00319, section 3 and appendix G."""
    moco = stage("moco")
    assert moco.shown()["crops"] == {
        "mode": "obj_obj_dilate", "dilation": 0.1, "proposals": 10, "min_crop": None, "min_box": 224
    }  # fmt: skip
    assert moco.shown()["min_crop"] == 0.2
    assert moco.objective()["two_heads"]
    assert moco.objective()["swap_roles"]


@pytest.mark.parametrize(
    ("mode", "read"),
    [("obj_scene", set()), ("obj_obj_dilate", {"dilation"}), ("obj_obj_shift", {"shift"})],
)
def test_a_mode_is_given_the_fields_that_it_reads(mode: str, read: set[str]) -> None:
    shown = stage("simclr", crops={"mode": mode}).shown()["crops"]
    assert set(shown) == {"mode", "proposals", "min_crop", "min_box"} | read


def test_scene_crops_are_those_of_stage_1_with_one_head() -> None:
    plain = stage("simclr", crops={"mode": "scene_scene"})
    assert "crops" not in plain.shown()
    assert plain.objective() == {"temperature": 0.1}
    assert plain.needs == ()


def test_small_views_are_handed_on_together_or_not_at_all() -> None:
    """ORL, table 5c: 2 x 224 + 4 x 96."""
    scenes = {"mode": "scene_scene"}
    small = stage("byol", crops=scenes, byol={"small_views": 4})
    expected = {"small_views": 4, "small_size": 96, "small_scale": [0.05, 0.14]}
    assert expected.items() <= small.shown().items()
    assert small.objective()["small_views"] == 4
    none = stage("byol", crops=scenes, byol={"small_size": 64})
    assert expected.keys().isdisjoint(none.shown() | none.objective())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["detcon_b.regions=0"], "detcon_b.regions = 0: Input should be greater than or equal to 1"),
        (["detcon_b.pooling=max"], "detcon_b.pooling = 'max': Input should be 'hard', 'soft' or 'local'"),
        (["detcon_b.poling=soft"], "detcon_b.poling: there is no such field. Did you mean pooling?"),
        (["detcon_s.views=one", "detcon_s.regions=5"], "an even number of regions"),
        (["method=detcon"], "method = 'detcon': Input should be 'orl', 'detcon_s', 'detcon_b'"),
        (["orl.pairs=0"], "orl.pairs = 0: Input should be greater than 0"),
        (["orl.neighbors=11"], "orl.neighbors 11 is more than retrieval.neighbors, 10"),
        (["crops.mode=obj"], "crops.mode = 'obj': Input should be 'scene_scene'"),
        (["crops.dilation=10"], "crops.dilation = 10: Input should be less than or equal to 1"),
        (["crops.shift=[100, 80]"], "the smaller one first"),
        (["dilation=0.2"], "object_pretraining.dilation: there is no such field. It belongs to crops:"),
        (["method=byol", "byol.small_views=4"], "say crops.mode: scene_scene, or small_views: 0"),
    ],
)
def test_what_cannot_be_is_told_with_a_remedy(minimal: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(minimal, [f"object_pretraining.{override}" for override in overrides])
    assert message in str(error.value)


@pytest.mark.parametrize("method", ["ground_truth", "files"])
def test_masks_that_overlap_are_not_pooled_hard(minimal: str, method: str, tmp_path: Path) -> None:
    masks = [f"masks.method={method}", f"masks.files.folder={tmp_path}"]
    chosen = [*masks, "object_pretraining.method=detcon_b"]
    with pytest.raises(ConfigError, match=r"detcon_b\.pooling 'hard' .* say pooling: soft or local"):
        load_config(minimal, chosen)
    assert load_config(minimal, [*chosen, "object_pretraining.detcon_b.pooling=soft"])
    assert load_config(minimal, masks), "orl pools nothing"


def test_detcon_cannot_do_without_masks(minimal: str) -> None:
    with pytest.raises(ConfigError, match=r"masks\.method = None: Input should be 'felzenszwalb'"):
        load_config(minimal, ["object_pretraining.method=detcon_s", "masks.method=null"])
