"""Sweep files: what they say, the configurations that come of them, and errors that help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from stages.config.files import CONFIG_FOLDERS, load_config
from stages.config.reading import ConfigError
from stages.config.sweep import load_sweep
from stages.config.tree import Config

ABLATIONS = CONFIG_FOLDERS[1] / "ablations"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes a sweep file that extends a minimal configuration, and returns its path."""
    (tmp_path / "base.yaml").write_text("dataset: {format: demo_photos}\nretrieval: {neighbors: 7, crop: 96}\n")

    def written(text: str, name: str = "some.yaml") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return written


def config_of(file: str, member: str, seed: int, *, tiny: bool = False) -> Config:
    """The configuration of one run, as `orl sweep` writes and loads it."""
    _, sweep = load_sweep(file)
    path = Path(file).with_name("run.yaml")
    path.write_text(yaml.safe_dump({"extends": str(sweep.extends)} | sweep.settings(member, seed)))
    return load_config(str(path), tiny=tiny)


def test_a_member_may_be_written_dotted_or_nested_and_changes_nothing_else(write: Callable[..., str]) -> None:
    file = write(
        "extends: base.yaml\n"
        "common: {retrieval.neighbors: 5, correspondence: {fraction: 0.2}}\n"
        "members:\n"
        "  dotted: {retrieval.neighbors: 20, object_pretraining.orl.weight_inter: 0}\n"
        "  nested: {retrieval: {neighbors: 20}, object_pretraining: {orl: {weight_inter: 0}}}\n"
        "  plain:\n"
    )
    dotted, nested, plain = (config_of(file, member, 4) for member in ("dotted", "nested", "plain"))
    assert dotted == nested
    assert (dotted.retrieval.neighbors, dotted.retrieval.crop, dotted.correspondence.fraction) == (20, 96, 0.2)
    assert (plain.retrieval.neighbors, plain.correspondence.fraction, plain.run.seed) == (5, 0.2, 4)
    assert (dotted.object_pretraining.orl.weight_inter, plain.object_pretraining.orl.weight_inter) == (0, 1)


def test_a_rehearsal_shrinks_what_a_member_makes_large_but_keeps_its_variant(write: Callable[..., str]) -> None:
    member = "{object_pretraining: {epochs: 1600 epochs, orl.weight_intra: 0}}"
    file = write(f"extends: base.yaml\nmembers: {{long: {member}}}\n")
    assert config_of(file, "long", 0).object_pretraining.epochs == "1600 epochs"
    tiny = config_of(file, "long", 0, tiny=True).object_pretraining
    assert tiny.epochs == "6 steps"
    assert tiny.orl.weight_intra == 0


def test_seeds_and_members_can_be_chosen(write: Callable[..., str]) -> None:
    file = write("extends: base.yaml\nseeds: [0, 1]\nmembers: {a: , b: , c: }\n")
    name, sweep = load_sweep(file)
    assert (name, sweep.seeds, list(sweep.members)) == ("some", (0, 1), ["a", "b", "c"])
    _, chosen = load_sweep(file, seeds=[7], only=["c", "a"])
    assert (chosen.seeds, list(chosen.members)) == ((7,), ["a", "c"]), "in the order of the file"
    with pytest.raises(ConfigError, match=r"has no member d. It has: a, b, c"):
        load_sweep(file, only=["d"])
    with pytest.raises(ConfigError, match="listed twice"):
        load_sweep(file, seeds=[1, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("members: {a: }", "extends: is missing"),
        ("extends: base.yaml", "members: is missing"),
        ("extends: base.yaml\nmembers: {}", "members: "),
        ("extends: no.yaml\nmembers: {a: }", "there is no file"),
        ("extends: base.yaml\nmember: {a: }\nmembers: {a: }", "member: a sweep has no such field. Known: title"),
        ("extends: base.yaml\nmembers: {../a: }", "a name begins with a letter or digit"),
        ("extends: base.yaml\nmembers: {a: 3}", "members.a: write fields and their values"),
        ("extends: base.yaml\nmembers: {a: {run: {seed: 3}}}", "list the numbers under `seeds`"),
        ("extends: base.yaml\nseeds: []\nmembers: {a: }", "seeds: "),
        ("extends: base.yaml\nseeds: [-1]\nmembers: {a: }", "seeds.0: Input should be greater than or equal to 0"),
        ("[1]", "needs `extends` and `members`"),
        ("extends: base.yaml\nmembers: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_errors_name_the_place_the_rule_and_the_remedy(write: Callable[..., str], text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_sweep(write(text))
    assert message in str(error.value)


def test_an_unknown_sweep_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"There are: .*orl_table5a"):
        load_sweep("orl_table6")


@pytest.mark.parametrize("file", sorted(ABLATIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_sweep_is_valid_and_its_members_differ(file: Path, tmp_path: Path) -> None:
    name, sweep = load_sweep(file.stem)
    assert name == file.stem
    assert sweep.title
    assert sweep.source
    assert all(word in file.read_text().split("title:")[0] for word in ("command", "shared", "expected"))
    configs = []
    for member in sweep.members:
        path = tmp_path / f"{member}.yaml"
        path.write_text(yaml.safe_dump({"extends": str(sweep.extends)} | sweep.settings(member, 0)))
        configs.append(load_config(str(path)))
        assert load_config(str(path), tiny=True).object_pretraining.method == configs[-1].object_pretraining.method
    for number, config in enumerate(configs):
        assert config not in configs[:number], f"{list(sweep.members)[number]} repeats another member"
