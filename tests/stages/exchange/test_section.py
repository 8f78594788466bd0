"""The section `exchange` and what it makes of a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.config.files import load_config
from stages.config.reading import ConfigError
from stages.plan import Plan
from stages.planning import make_plan


def planned(tmp_path: Path, *overrides: str) -> Plan:
    return make_plan(load_config("demo", overrides), lambda dataset: "contents", tmp_path / "hashes.parquet")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = {name: tmp_path / f"{name}.json" for name in ("neighbors", "proposals", "order", "correspondence")}
    for name, path in paths.items():
        path.write_text(name)
    return paths


def test_files_stand_for_steps(files: dict[str, Path], tmp_path: Path):
    plan = planned(tmp_path, f"exchange.neighbors={files['neighbors']}", f"exchange.proposals={files['proposals']}")
    assert plan.nodes["retrieval"].step == "import_neighbors"
    assert plan.nodes["retrieval"].inputs == ("catalog",)
    regions = plan.nodes["regions"]
    assert regions.step == "import_regions"
    assert regions.arguments["order"] == files["neighbors"]
    assert regions.arguments["filters"]["max_iou"] == 0.5
    assert {"roi_features", "correspondence"} <= set(plan.nodes)


def test_an_order_of_its_own(files: dict[str, Path], tmp_path: Path):
    plan = planned(tmp_path, f"exchange.order={files['order']}", f"exchange.proposals={files['proposals']}")
    assert plan.nodes["retrieval"].step == "retrieval"
    assert plan.nodes["regions"].arguments["order"] == files["order"]


def test_a_correspondence_stands_for_all_of_them(files: dict[str, Path], tmp_path: Path):
    plan = planned(tmp_path, f"exchange.correspondence={files['correspondence']}")
    steps = {name: node.step for name, node in plan.nodes.items()}
    assert "roi_features" not in steps
    assert steps["retrieval"] == "import_neighbors"
    assert steps["regions"] == "import_regions"
    assert plan.nodes["regions"].arguments["filters"] is None
    assert steps["correspondence"] == "import_correspondence"


def test_the_version_follows_the_content(files: dict[str, Path], tmp_path: Path):
    def versions() -> tuple[str, str]:
        plan = planned(tmp_path, f"exchange.neighbors={files['neighbors']}")
        return plan.keys["retrieval"].version, plan.keys["correspondence"].version

    before = versions()
    moved = files["neighbors"].rename(tmp_path / "moved.json")
    files["neighbors"] = moved
    assert versions() == before
    moved.write_text("other neighbours")
    assert all(new != old for new, old in zip(versions(), before, strict=True))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (["proposals"], "give `order`"),
        (["order"], "give both or neither"),
        (["correspondence", "neighbors"], "leave `neighbors` and `proposals` out"),
        (["correspondence", "proposals", "order"], "leave `neighbors` and `proposals` out"),
    ],
)
def test_files_that_do_not_fit(files: dict[str, Path], fields: list[str], message: str):
    with pytest.raises(ConfigError, match=message):
        load_config("demo", [f"exchange.{name}={files[name]}" for name in fields])


def test_a_filter_that_files_cannot_pass(files: dict[str, Path]):
    overrides = [f"exchange.{name}={files[name]}" for name in ("proposals", "order")]
    with pytest.raises(ConfigError, match=r"regions\.min_saliency looks at the photos"):
        load_config("demo", [*overrides, "regions.min_saliency=0.1"])
