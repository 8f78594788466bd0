"""The one training loop: data, forward, backward, step, EMA, log, checkpoint. It knows no method."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from stages.data.catalog import Catalog
from stages.data.contact_sheet import views_sheet
from stages.data.loading import EpochStream, training_loader
from stages.data.policies import Policy
from stages.learning import metrics
from stages.learning.checkpoints import Checkpoint, StopRequest
from stages.learning.devices import autocast, deterministic, resolve_device, resolve_precision
from stages.learning.encoder import Encoder, load_encoder, save_encoder
from stages.learning.metrics_log import MetricsLog
from stages.learning.optimizers import scaled_lr, sgd
from stages.learning.schedules import learning_rate, steps
from stages.report import Report

VIEWS_FILE = "views.png"
RESUMABLE = 75  # EX_TEMPFAIL: stopped on request, and the next start goes on from there
_SHOWN_IMAGES = 8

log = logging.getLogger(__name__)


class Method(Protocol):
    """What the loop needs of a method, besides being an `nn.Module`: a loss, an update of its own, an encoder."""

    @property
    def encoder(self) -> Encoder: ...

    def __call__(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss () and figures to log, among them `std` (see `metrics.embedding_std`)."""

    def after_step(self, progress: float) -> dict[str, float]:
        """Called after each optimizer step; `progress` is the share of the steps done before it. Figures to log."""


def train(
    make_method: Callable[[Encoder], Method],
    catalog: Catalog,
    policy: Policy,
    *,
    out: Path,
    report: Report,
    settings: Mapping[str, Any],
    encoder: Mapping[str, Any],
    init: Path | None,
    epochs: str,
    warmup: str,
    batch_size: int,
    base_lr: float,
    momentum: float,
    weight_decay: float,
    precision: str,
    log_every: int,
    checkpoint_minutes: float,
    scaled_decode: bool,
    seed: int,
    device: str,
    workers: int,
) -> None:
    """Trains a method on the views that `policy` draws of the photos in `catalog`, and writes its encoder to `out`.

    Writes `encoder.safetensors`, `metrics.jsonl`, `views.png` (the batch of step 0) and `tensorboard/`; a checkpoint
    into `scratch/` every `checkpoint_minutes`, at the end, and on SIGTERM or SIGINT. Called again with the same `out`
    it goes on from there: on a CPU with the same number of threads, with exactly the weights of a training that was
    never stopped.

    Args:
        make_method: gives the method, a `Method` and `nn.Module`, that trains a given encoder.
        settings: the method's and the policy's settings: a checkpoint made with others is refused.
        encoder: arguments of `Encoder`.
        init: directory of an artifact whose encoder to start from, None for random weights.
        epochs, warmup: durations, see `schedules.steps`.
        precision: "fp32", "bf16" or "auto", see `devices.resolve_precision`.
        device: "cpu", "cuda", "cuda:1", "auto".

    Raises:
        ValueError: a setting, the checkpoint or the encoder in `init` does not fit.
        FloatingPointError: the loss or a gradient is not finite.
        SystemExit: with status 75, after a checkpoint was saved on a signal.
    """
    if batch_size < 2:
        raise ValueError(f"batch_size {batch_size}: batch norm needs at least 2 photos, and learns well from 32 on.")
    place = resolve_device(device)
    numbers, reason = resolve_precision(precision, place)
    total = max(1, steps(epochs, images=len(catalog), batch_size=batch_size))
    warmup_steps = steps(warmup, images=len(catalog), batch_size=batch_size)
    peak_lr = scaled_lr(base_lr, batch_size)
    settings = {
        **settings, **encoder, "images": len(catalog), "steps": total, "warmup_steps": warmup_steps,
        "batch_size": batch_size, "base_lr": base_lr, "momentum": momentum, "weight_decay": weight_decay,
        "precision": precision, "seed": seed, "scaled_decode": scaled_decode,
    }  # fmt: skip
    log.info("%d steps of %d photos on %s in %s: %s", total, batch_size, place, numbers, reason)

    # How training starts: from the checkpoint of an earlier attempt, else from the weights in `init`, else at random.
    checkpoint = Checkpoint.load(out)
    torch.manual_seed(seed)
    # A Method that is an nn.Module too, for which there is no type.
    method: Any = make_method(Encoder(**encoder) if init is None else _given_encoder(init, encoder))
    method.train().to(place, memory_format=torch.channels_last)
    optimizer = sgd(method.parameters(), lr=peak_lr, momentum=momentum, weight_decay=weight_decay)
    if checkpoint is not None:
        checkpoint.restore(settings, method, optimizer)
        log.info("going on after step %d of %d, from the checkpoint in %s", checkpoint.step, total, out)
    else:
        log.info("starting from %s", "random weights" if init is None else f"the encoder in {init}")
    first = 0 if checkpoint is None else checkpoint.step

    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    dim = method.encoder.dim
    watch = metrics.Stopwatch(0.0 if checkpoint is None else checkpoint.seconds)
    saved_at, logged_at, warned = time.monotonic(), first, False

    def save(step: int) -> None:
        figures.sync()  # first, so that the figures of every step that a resume skips are on the disk
        state = method.state_dict(), optimizer.state_dict(), torch.get_rng_state()
        Checkpoint(settings, step, watch.seconds, *state).save(out)

    with deterministic(place), MetricsLog(out, first) as figures, StopRequest() as stop:
        batches = iter(
            training_loader(
                catalog, policy, seed=seed, batch_size=batch_size, first_step=first, last_step=total,
                workers=workers, scaled_decode=scaled_decode, pin_memory=place.type == "cuda",
            )
        )  # fmt: skip
        if checkpoint is not None:
            checkpoint.restore_rng()

        for step in range(first, total):
            done = step + 1
            logs_now = done % log_every == 0 or done == total or not figures.last

            # Data
            waiting_since = time.perf_counter()
            try:
                batch = next(batches)
            except RuntimeError:
                if not stop.requested:
                    raise
                save(step)  # the signal went to the whole process group and ended the data workers too
                raise SystemExit(RESUMABLE) from None
            watch.waited(waiting_since)
            if step == 0:
                views_sheet(batch, out / VIEWS_FILE)
            batch = {name: views.to(place, non_blocking=True) for name, views in batch.items()}

            # Forward
            with autocast(numbers, place):
                loss, logs = method(batch)

            # Backward
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            gradient = metrics.gradient_norm(trained)
            loss_value, gradient_value = torch.stack([loss.detach(), gradient]).tolist()
            if not math.isfinite(loss_value + gradient_value):
                images = EpochStream(len(catalog), seed=seed, batch_size=batch_size, first_step=step, last_step=done)
                raise FloatingPointError(_not_finite(done, loss_value, gradient_value, catalog, next(iter(images))))

            # Step
            lr = learning_rate(step, peak=peak_lr, warmup=warmup_steps, total=total)
            for group in optimizer.param_groups:
                group["lr"] = lr
            before = metrics.snapshot(trained) if logs_now else []
            optimizer.step()

            # EMA
            method_figures = method.after_step(step / total)

            # Log
            if logs_now:
                record: dict[str, Any] = {
                    "step": done,
                    "epoch": done * batch_size / len(catalog),
                    "images": done * batch_size,
                }
                record |= {"loss": loss_value} | {name: value.item() for name, value in logs.items()}
                record |= {"lr": lr} | method_figures | {"gradient_norm": gradient_value}
                record |= {"update_norm": metrics.update_norm(before, trained)}
                record |= watch.lap((done - logged_at) * batch_size)
                if not warned and metrics.is_collapsed(record["std"], dim):
                    warned, record["warning"] = True, metrics.collapse_warning(record["std"], dim, done)
                    log.warning(record["warning"])
                figures.write(record)
                logged_at = done
            report.progress(done, total, "steps", loss=loss_value, std=figures.last["std"])

            # Checkpoint
            due = time.monotonic() - saved_at >= 60 * checkpoint_minutes
            if due or stop.requested or done == total:
                save(done)
                saved_at = time.monotonic()
            if stop.requested and done < total:
                log.info("stopped after step %d of %d; the next start goes on from there", done, total)
                raise SystemExit(RESUMABLE)

    save_encoder(method.encoder, out)
    seconds = watch.seconds
    report.metric(
        loss=figures.last["loss"], std=figures.last["std"], collapsed=metrics.is_collapsed(figures.last["std"], dim),
        steps=total, images_seen=total * batch_size, images_per_second=total * batch_size / seconds, precision=numbers,
    )  # fmt: skip


def _given_encoder(directory: Path, expected: Mapping[str, Any]) -> Encoder:
    """The encoder in `directory`, provided that it is of the expected architecture."""
    encoder = load_encoder(directory)
    if encoder.settings != expected:
        raise ValueError(
            f"the encoder in {directory} has {encoder.settings}, and this training {dict(expected)}. "
            "Use the same backbone and projector in both stages, or start from scratch."
        )
    return encoder


def _not_finite(step: int, loss: float, gradient: float, catalog: Catalog, samples: list[tuple[int, int]]) -> str:
    names = [str(catalog.images["path"].iloc[image]) for _, image in samples]
    more = f" and {len(names) - _SHOWN_IMAGES} more" if len(names) > _SHOWN_IMAGES else ""
    return (
        f"step {step} has loss {loss} and gradient norm {gradient}. Both must be finite, so training stopped before "
        "this step changed the weights. What helps, likeliest first: a lower base_lr, a longer warmup, precision "
        f"'fp32', a larger batch_size. The batch's photos: {', '.join(names[:_SHOWN_IMAGES])}{more}."
    )
