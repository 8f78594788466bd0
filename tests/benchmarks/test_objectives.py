"""That each part of the benchmark runs, and that its last line says what others read; speed is not asked here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.objectives.__main__ import main
from benchmarks.objectives.steps import CASES, QUICK_CASES, inputs


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    main(["--quick", *arguments])
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_steps(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    report = run(capsys, "--parts", "steps", "--out", str(tmp_path / "objectives.json"))
    for pair in ("detcon_s_over_simclr", "detcon_b_over_byol", "orl_over_byol"):
        assert report[pair] > 0
        assert report[f"{pair}_limit"] > 1
    assert report["views"].startswith("not measured")
    assert json.loads((tmp_path / "objectives.json").read_text()) == report


def test_views(capsys: pytest.CaptureFixture[str], photos_dir: Path):
    threads = torch.get_num_threads()
    report = run(capsys, "--parts", "views", "--images", str(photos_dir))
    for name in ("byol", "detcon", "orl"):
        assert report[f"{name}_views_per_sample"] > 0
        assert report[f"{name}_views_vs_torchvision_pil"] > 0
    assert report["byol_views_per_sample"] == report["byol_views_per_pixel"] == 1
    assert report["views"]["orl"]["pixels"] == pytest.approx(1.367, abs=1e-3)
    assert torch.get_num_threads() == threads


def test_limits_at_the_papers_size_are_those_of_the_papers():
    (case,) = CASES["cuda"]
    assert {limit.ours: round(limit.times, 3) for limit in case.limits()} == {
        "detcon_s": 1.103, "detcon_b": 1.166, "orl": round(1.1 * (2 * 224**2 + 4 * 96**2) / (2 * 224**2), 3),
    }  # fmt: skip


def test_masks_are_those_of_the_regions_that_are_named():
    batch = inputs("detcon_b", QUICK_CASES[0], torch.device("cpu"))
    masks, ids = batch["view_1_masks"], batch["view_1_ids"]
    assert masks.shape == (4, 16, 2, 2)
    same = (ids[:, :, None] == ids[:, None, :]).float()  # (N, R, R): draws of one region have one mask
    assert torch.equal(torch.einsum("nrs,nsij->nrij", same, masks) / same.sum(2)[:, :, None, None], masks)
