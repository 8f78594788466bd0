"""Depth from one photo: all of the network is trained with up-projections to measure how far each pixel is.

Source: BYOL (arXiv:2006.07733, appendix D.6) on NYU Depth v2, which DetCon follows; the network, the loss and the
figures are those of Laina et al. (arXiv:1606.00373).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from stages.data.catalog import Catalog, Roots
from stages.data.workers import make_loader
from stages.evaluation.encoders import open_backbone
from stages.evaluation.estimates import Figure, Outcome
from stages.evaluation.metrics import depth_errors
from stages.evaluation.pictures import evenly_spread
from stages.evaluation.pyramid import Pyramid
from stages.evaluation.saved import THIS, save_outcome
from stages.evaluation.tasks.dense.depth_data import HeldOutFrames, TrainingFrames
from stages.evaluation.tasks.dense.depth_maps import DepthMaps
from stages.evaluation.tasks.dense.examples import EXAMPLES_FILE, SHOWN, Row, depth_colours, save_examples
from stages.evaluation.tasks.dense.up_projection import DepthNetwork
from stages.evaluation.tasks.loop import train_task
from stages.evaluation.tasks.optimizers import sgd
from stages.evaluation.tasks.schedules import multi_step
from stages.learning.devices import autocast, resolve_device, resolve_precision
from stages.learning.distributed import local_device, rank
from stages.learning.schedules import steps
from stages.report import Report

SUMS_FILE = "depth_error_sums.npy"
_GUESSES = 256  # pixels of a photo that stand for all of its, where guessing is measured

_PCT = "Share of the pixels whose predicted depth is less than {} times too far or too near"
FIGURES = {
    "pct_1": Figure("depth pct < 1.25", _PCT.format("1.25") + ".", metric="depth_pct_1.25"),
    "pct_2": Figure("depth pct < 1.25^2", _PCT.format("1.25 squared") + "."),
    "pct_3": Figure("depth pct < 1.25^3", _PCT.format("1.25 cubed") + "."),
    "rms": Figure(
        "depth rms (m)", "Root of the mean squared error, metres; lower is better.",
        metric="depth_rms", percent=False, ranked=False,
    ),
    "rel": Figure(
        "depth rel", "Mean of the error as a share of the measured depth; lower is better.",
        metric="depth_rel", percent=False, ranked=False,
    ),
    "log10": Figure(
        "depth log10", "Mean distance of the decimal logarithms; lower is better.", percent=False, ranked=False
    ),
}  # fmt: skip


def run(
    *,
    out: Path,
    report: Report,
    encoder: dict[str, Any],
    train: Path,
    train_root: Roots,
    train_depth: Path,
    test: Path,
    test_root: Roots,
    test_depth: Path,
    depth_scale: float,
    short_side: int,
    crop: tuple[int, int],
    training: str,
    batch_size: int,
    lr: float,
    weight_decay: float,
    drops: Sequence[float],
    seed: int,
    device: str,
    workers: int,
    precision: str = "auto",
    checkpoint_minutes: float = 10,
) -> None:
    """Trains, tests, and writes the outcome, `depth_error_sums.npy` (see `metrics.depth_errors.error_sums`: (N, 7)
    float64, a row a test photo), `examples.png`, and the curves of the training. SGD with momentum 0.9.

    What is predicted for the middle of a frame is enlarged to the frame's resolution and compared with what was
    measured there, as by Laina et al. (section 4.2).

    Args:
        encoder: arguments of `open_backbone`.
        train, train_root, test, test_root: catalogs and the folders of their photos.
        train_depth, test_depth: folders of depth maps, see `tasks.dense.depth_maps`.
        depth_scale: units of a 16-bit depth map in a metre.
        short_side: of a frame, in pixels, before its middle is cropped.
        crop: width and height of that, what the network sees.
        training: a duration such as "7500 steps", see `stages.learning.schedules.steps`.
        lr: the base rate, for this `batch_size`.
        drops: shares of the training after which the rate is divided by ten.

    Raises:
        ValueError, OSError: depth maps are missing or not as they should be, or a setting does not fit.
        SystemExit: with status 75, after a checkpoint was saved on a signal.
    """
    photos, held_out = Catalog(train, train_root), Catalog(test, test_root)
    window: dict[str, Any] = {"short_side": short_side, "crop": tuple(crop)}
    shown = HeldOutFrames(held_out, DepthMaps(held_out, test_depth, scale=depth_scale), **window)
    data = TrainingFrames(photos, DepthMaps(photos, train_depth, scale=depth_scale), **window, seed=seed)
    settings: dict[str, Any] = {
        "short_side": short_side, "crop": list(crop), "training": training, "batch_size": batch_size, "lr": lr,
        "weight_decay": weight_decay, "drops": list(drops), "seed": seed,
    }  # fmt: skip
    total = steps(training, images=len(photos), batch_size=batch_size)
    pyramid = Pyramid(open_backbone(**encoder))
    torch.manual_seed(seed)  # the head starts the same for all encoders of one architecture
    model = DepthNetwork(pyramid)
    train_task(
        model, data, out=out, report=report, steps=total, batch_size=batch_size,
        optimizer=partial(sgd, lr=lr, weight_decay=weight_decay),
        schedule=partial(multi_step, drops=[int(share * total) for share in drops]),
        settings=settings | {"backbone": pyramid.backbone.name}, seed=seed, device=device, workers=workers,
        precision=precision, checkpoint_minutes=checkpoint_minutes,
    )  # fmt: skip
    if rank() > 0:
        return
    sums, guessed, examples = tested(
        model, shown, seed=seed, device=device, precision=precision, workers=workers, report=report
    )
    np.save(out / SUMS_FILE, sums)
    save_examples(examples, ("photo", "measured", "predicted"), out / EXAMPLES_FILE)
    estimates = depth_errors.estimates(sums, guessed, seed=seed)
    values = {name: {THIS: estimate} for name, estimate in estimates.items()}
    save_outcome(Outcome("depth", test.name, settings, FIGURES, values), out)
    report.metric(**{str(figure.metric): estimates[name].value for name, figure in FIGURES.items() if figure.metric})


@torch.inference_mode()
def tested(
    model: DepthNetwork,
    frames: HeldOutFrames,
    *,
    seed: int,
    device: str,
    precision: str,
    workers: int,
    report: Report,
) -> tuple[np.ndarray, np.ndarray, list[Row]]:
    """The errors of each frame, (N, 7), those of guessing, (7,), see `depth_errors.error_sums`; and frames to show.

    A guess is the depth that was measured at another pixel; some pixels of each frame stand for all.
    """
    place = local_device(resolve_device(device))
    numbers, _ = resolve_precision(precision, place)
    model = model.to(place).eval()
    sums = np.zeros((len(frames), 1 + len(depth_errors.NAMES)))
    some: list[np.ndarray] = []
    shown, examples = set(evenly_spread(len(frames), SHOWN).tolist()), []
    for image, sample in enumerate(make_loader(frames, workers, batch_size=None)):
        measured = sample["depth"].numpy()
        with autocast(numbers, place):
            depth = model.depth(sample["pixels"].to(place)[None])
        predicted = F.interpolate(depth[None], measured.shape, mode="bilinear", align_corners=False)[0, 0].cpu().numpy()
        known = measured > 0
        sums[image] = depth_errors.error_sums(predicted[known], measured[known])
        some.append(measured[known][evenly_spread(int(known.sum()), _GUESSES)])
        if image in shown:
            both = (depth_colours(each, float(measured.max()) or 1.0) for each in (measured, predicted))
            examples.append((sample["pixels"].permute(1, 2, 0).numpy(), *both))
        report.progress(image + 1, len(frames), "test photos")
    truth = np.concatenate(some)
    guessed = depth_errors.error_sums(np.random.default_rng(seed).permutation(truth), truth)
    return sums, guessed, examples
