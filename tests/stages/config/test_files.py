"""The configuration: defaults of the paper, files that extend each other, overrides, and errors that help."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from stages.config.files import CONFIG_FOLDERS, config_names, load_config
from stages.config.reading import ConfigError
from stages.config.tiny import shrunk
from stages.config.tree import Config, Dataset, ImagePretraining


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.fixture
def minimal(tmp_path: Path) -> str:
    return write(tmp_path, "minimal.yaml", "dataset: {format: demo_photos}\n")


def test_the_papers_settings_are_the_defaults(minimal: str) -> None:
    config = load_config(minimal)
    first, second = config.image_pretraining, config.object_pretraining
    assert (first.backbone, first.size, first.epochs, first.batch_size) == ("resnet50", 224, "800 epochs", 512)
    byol, orl = first.byol, second.orl
    assert (byol.optimizer, byol.base_lr, byol.momentum, byol.weight_decay, byol.tau) == ("sgd", 0.2, 0.9, 1e-4, 0.99)
    assert (orl.global_size, orl.patch_size, second.init) == (224, 96, "scratch")
    assert (config.retrieval.neighbors, config.correspondence.fraction) == (10, 0.1)
    costs = config.evaluation.costs
    assert (len(set(costs)), max(costs), min(costs)) == (19, 100.0, 0.5**19)
    regions = config.regions
    assert (regions.min_side, regions.max_aspect, regions.max_iou, regions.max_boxes) == (96, 3.0, 0.5, 100)


def test_each_method_has_its_own_papers_settings() -> None:
    simclr, moco, densecl = (ImagePretraining(method=method).recipe for method in ("simclr", "moco", "densecl"))
    assert (simclr.optimizer, simclr.base_lr, simclr.weight_decay, simclr.warmup) == ("lars", 0.3, 1e-6, "10 epochs")
    assert (moco.optimizer, moco.base_lr, moco.weight_decay, moco.min_crop) == ("sgd", 0.03, 1e-4, 0.2)
    assert moco.objective() == {
        "temperature": 0.2, "queue_size": 65536, "key_momentum": 0.999, "batch_norm_groups": 8
    }  # fmt: skip
    assert (densecl.base_lr, densecl.objective()["dense_weight"]) == (0.3, 0.5)
    assert {recipe.projector_norm for recipe in (simclr, moco, densecl)} == {"all", "none"}


@pytest.mark.parametrize(
    ("epochs", "base_lr", "weight_decay", "tau"),
    [(100, 0.45, 1e-6, 0.99), (300, 0.3, 1e-6, 0.99), (1000, 0.2, 1.5e-6, 0.996)],
)
def test_byols_presets(minimal: str, epochs: int, base_lr: float, weight_decay: float, tau: float) -> None:
    preset = f"image_pretraining.byol.preset=imagenet_{epochs}"
    byol = load_config(minimal, [preset]).image_pretraining.byol
    assert (byol.optimizer, byol.base_lr, byol.weight_decay, byol.tau) == ("lars", base_lr, weight_decay, tau)
    assert (byol.schedule, byol.warmup, byol.interpolation) == ("cosine_after_warmup", "10 epochs", "bicubic")
    assert load_config(minimal, [preset, "image_pretraining.byol.tau=0.5"]).image_pretraining.byol.tau == 0.5


def test_a_start_from_stage_1_needs_the_same_projector(minimal: str) -> None:
    start = "object_pretraining.init=image_pretraining"
    assert load_config(minimal, [start])
    with pytest.raises(ConfigError, match=r"needs the same projector_hidden in both stages, not 2048 and 4096"):
        load_config(minimal, [start, "image_pretraining.method=simclr"])


@pytest.mark.parametrize("name", config_names())
def test_every_shipped_config_is_valid_and_can_be_rehearsed(name: str) -> None:
    config = load_config(name)
    tiny = shrunk(config)
    assert tiny.dataset.format == "scenes"
    assert tiny.correspondence.fraction == config.correspondence.fraction, "a rehearsal keeps what chooses a variant"


def test_an_override_has_the_last_word_in_a_rehearsal() -> None:
    assert load_config("coco", tiny=True).retrieval.neighbors == 3
    assert load_config("coco", ["retrieval.neighbors=2"], tiny=True).retrieval.neighbors == 2


def test_every_shipped_config_has_a_header_and_a_deployment() -> None:
    import yaml

    deployed = yaml.safe_load((CONFIG_FOLDERS[1].parent / "prefect.yaml").read_text())["deployments"]
    assert {entry["name"]: entry["parameters"]["config"] for entry in deployed} == {n: n for n in config_names()}
    for name in config_names():
        header = (CONFIG_FOLDERS[1] / f"{name}.yaml").read_text().split("dataset:")[0]
        assert all(word in header for word in ("command", "hardware", "time", "expected")), name


def test_extends_merges_section_by_section(tmp_path: Path, minimal: str) -> None:
    write(tmp_path, "base.yaml", "extends: minimal.yaml\nretrieval: {neighbors: 7, crop: 96}\n")
    top = write(tmp_path, "top.yaml", "extends: base.yaml\nretrieval: {neighbors: 3}\n")
    assert load_config(top).retrieval.model_dump()["neighbors"] == 3
    assert load_config(top).retrieval.crop == 96


def test_a_circle_of_extends_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "extends: b.yaml\n")
    name = write(tmp_path, "b.yaml", "extends: a.yaml\n")
    with pytest.raises(ConfigError, match=r"b.yaml -> a.yaml -> b.yaml"):
        load_config(name)


def test_overrides_are_yaml_values(minimal: str) -> None:
    config = load_config(minimal, ["retrieval.neighbors=3", "regions.max_side=null", "evaluation.costs=[0.5, 2]"])
    assert config.retrieval.neighbors == 3
    assert config.regions.max_side is None
    assert config.evaluation.costs == (0.5, 2.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("retrieval.neigbors=3", "retrieval.neigbors: there is no such field. Did you mean neighbors?"),
        ("retreival.neighbors=3", "Did you mean retrieval?"),
        ("retrieval.neighbors=0", "retrieval.neighbors = 0: Input should be greater than or equal to 1"),
        ("image_pretraining.epochs=many", "'800 epochs', '20000 steps'"),
        ("image_pretraining.method=simsiam", "image_pretraining.method = 'simsiam'"),
        ("evaluation.train.formt=voc", "Did you mean format?"),
        ("evaluation.train={format: voc, root: x, split: trainval}", "give both labelled data sets or neither"),
        ("dataset={format: coco, root: x}", "format 'coco' needs `annotations`"),
        ("image_pretraining.tau=0.9", "image_pretraining.tau: there is no such field. It belongs to byol: image"),
        ("image_pretraining.moco.tau=0.9", "image_pretraining.moco.tau: there is no such field."),
        ("image_pretraining.byol.preset=imagenet_200", "Input should be 'coco', 'imagenet_100'"),
        ("neighbors=3", "section.field=value"),
        ("retrieval.neighbors", "section.field=value"),
    ],
)
def test_errors_name_the_field_the_value_and_the_remedy(minimal: str, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(minimal, [override])
    assert message in str(error.value)


def test_an_unknown_config_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="Did you mean demo"):
        load_config("dmeo")


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    name = write(tmp_path, "bad.yaml", "dataset: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(name)


def test_runtime_fields_are_not_part_of_the_result() -> None:
    fields = ImagePretraining().result_fields()
    assert "checkpoint_minutes" not in fields
    assert fields["batch_size"] == 512, "the training batch changes the result"
    assert "root" not in Dataset(format="folder", root=Path("x")).result_fields(), "a data set may move"


def test_every_field_is_read_somewhere() -> None:
    """An option that nothing reads is a defect: each field's name must occur outside the configuration."""
    sources = Path(__file__).parents[3]
    text = "".join(
        path.read_text()
        for folder in ("stages", "flows")
        for path in (sources / folder).rglob("*.py")
        if "config" not in path.parts
    )

    def names(section: type[BaseModel]) -> list[str]:
        found = []
        for name, field in section.model_fields.items():
            kind = field.annotation
            found += names(kind) if isinstance(kind, type) and issubclass(kind, BaseModel) else [name]
        return found

    # Read where they stand, in stages/config/recipes.py.
    own = {"preset", "weight_image", "weight_intra", "weight_inter"}
    assert [name for name in names(Config) if name not in text and name not in own] == []
