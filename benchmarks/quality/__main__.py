"""Does it learn? Every method beside a random network and beside its base, in three seeds, at equal numbers of photos.

    python -m benchmarks.quality --data VOCdevkit [--hours 2] [--device cpu|cuda] [--epochs N] [--seeds 0 1 2]

On a CPU: `conv4` at 64 pixels, and as many epochs as fit into `--hours`, found by a rehearsal. On a GPU: ResNet-18 at
128 pixels, 400 epochs. Artifacts lie in `--work` and are shared by all methods; a run that was stopped goes on when the
same command is given again. Writes `--out` (quality.md), a JSON file and the curves beside it; prints a table, and as
its last line one JSON object.

Neither Prefect nor FAISS is needed. For a machine that is sent all it needs, make small photos first:

    python -m benchmarks.quality.shrink --data VOCdevkit --out build/voc --side 160
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.quality.curves import draw_curves
from benchmarks.quality.estimate import fitting_epochs, rehearse, words
from benchmarks.quality.figures import of_data_set
from benchmarks.quality.methods import METHODS
from benchmarks.quality.report import table, write_report
from benchmarks.quality.runs import Runs

DATA_SETS = ("voc", "scenes")
_HERE = Path(__file__).parent
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn")
_EPOCHS_ON_GPU = 400
_ON_GPU = (
    "copies.side=160", "image_pretraining.backbone=resnet18",
    "image_pretraining.size=128", "object_pretraining.size=128",
    "object_pretraining.orl.global_size=128", "object_pretraining.orl.patch_size=56",
    "image_pretraining.batch_size=128", "object_pretraining.batch_size=128",
    "retrieval.resize=146", "retrieval.crop=128", "roi_features.size=128",
    "evaluation.resize=146", "evaluation.crop=128", "evaluation.object_size=96", "evaluation.view_size=128",
)  # fmt: skip
_QUICK_LENGTH = "4 steps"


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    started = time.monotonic()

    def say(words: str) -> None:
        print(f"[{(time.monotonic() - started) / 60:6.1f} min] {words}", flush=True)

    runs = {name: _runs(name, options, say) for name in (("scenes",) if options.quick else options.data_sets)}
    length, costs = _length(runs, options, started)
    found = {name: of_data_set(each, options.methods, options.seeds, length) for name, each in runs.items()}

    given = sys.argv[1:] if arguments is None else arguments
    config = next(iter(runs.values())).config
    orl = config.object_pretraining.orl
    report: dict[str, Any] = {
        "benchmark": "quality",
        **_headlines(found),
        "command": shlex.join(["python", "-m", "benchmarks.quality", *given]),
        "machine": machine(_PACKAGES),
        "device": options.device,
        "backbone": config.image_pretraining.backbone,
        "size": config.image_pretraining.size,
        "orl_pixels": 1 + 2 * (orl.patch_size / orl.global_size) ** 2,
        "minutes": (time.monotonic() - started) / 60,
        "costs": costs,
        "data_sets": found,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    plots = {name: options.out.with_name(f"{options.out.stem}_{name}.png") for name in found}
    for name, figures in found.items():
        draw_curves(figures["curves"], plots[name])
    write_report(report, plots, options.out)
    options.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    print(table(found))
    for figures in found.values():
        del figures["curves"]  # they are in the file
    print(json.dumps(report))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="VOCdevkit, whole or shrunken; needed for the data set voc")
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, help="default: both, without --data the scenes")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--hours", type=float, default=2.0, help="for everything, on a CPU (2)")
    parser.add_argument("--epochs", type=int, help="of each training, instead of as many as fit; 400 on cuda")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--work", type=Path, default=Path("build/quality"), help="folder of the artifacts")
    parser.add_argument("--out", type=Path, default=Path("build/quality/quality.md"))
    parser.add_argument("--quick", action="store_true", help="toy sizes: does it work at all?")
    options = parser.parse_args(arguments)
    if options.data_sets is None:
        options.data_sets = DATA_SETS if options.data is not None else ("scenes",)
    if "voc" in options.data_sets and options.data is None:
        parser.error("the data set voc needs --data, the folder VOCdevkit")
    for method in options.methods:
        base = METHODS[method].base
        if base is not None and base not in options.methods:
            parser.error(f"{method} is compared with its base: add {base} to --methods")
    if options.device == "cuda" and options.epochs is None:
        options.epochs = _EPOCHS_ON_GPU
    return options


def _runs(name: str, options: argparse.Namespace, say: Any) -> Runs:
    overrides = [f"run.device={options.device}", *(_ON_GPU if options.device == "cuda" else ())]
    if name == "voc":
        places = ("dataset", "evaluation.train", "evaluation.test", "image_pretraining.probe.data",
                  "object_pretraining.probe.data")  # fmt: skip
        overrides += [f"{place}.root={options.data.absolute()}" for place in places]
    work = options.work / ("quick" if options.quick else options.device)
    return Runs(_HERE / f"{name}.yaml", overrides, work, say, tiny=options.quick)


def _length(runs: dict[str, Runs], options: argparse.Namespace, started: float) -> tuple[str, dict[str, Any]]:
    """The length of every training, and what the rehearsal has cost.

    The first call decides: a later one must go on with the trainings that have begun.
    """
    if options.quick:
        return _QUICK_LENGTH, {}
    if options.epochs is not None:
        return f"{options.epochs} epochs", {}
    asked = [options.hours, sorted(runs), options.methods, options.seeds]
    decided = options.work / "epochs.json"
    former = json.loads(decided.read_text()) if decided.is_file() else {}
    if former.get("asked") != asked:
        costs = {name: rehearse(each, options.methods, options.seeds[0]) for name, each in runs.items()}
        left = 3600 * options.hours - (time.monotonic() - started)
        epochs = fitting_epochs(costs.values(), left, len(options.seeds))
        if epochs < 1:
            raise SystemExit("Not one epoch fits into that time: give more --hours, or fewer --methods or --seeds.")
        former = {
            "asked": asked,
            "words": words(costs, options.methods, epochs, len(options.seeds)),
            "length": f"{epochs} epochs",
            "costs": {name: cost.figures() for name, cost in costs.items()},
        }
        decided.write_text(json.dumps(former) + "\n")
    print(former["words"], flush=True)
    return former["length"], former["costs"]


def _headlines(found: dict[str, Any]) -> dict[str, float]:
    """`DATASET_METHOD_svm_map` and `..._same_class`, means over the seeds, 0 .. 1."""
    figures: dict[str, float] = {}
    for name, each in found.items():
        for figure in ("svm_map", "same_class"):
            figures |= {f"{name}_{method}_{figure}": value for method, value in each["mean"][figure].items()}
    return figures


if __name__ == "__main__":
    main()
