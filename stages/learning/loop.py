"""The one training loop: data, forward, backward, step, EMA, log, checkpoint. It knows no method.

Everything in it runs the same in one process and in many: `stages.learning.distributed` says what that means.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stages.data.catalog import Catalog
from stages.data.contact_sheet import views_sheet
from stages.data.loading import EpochStream, training_loader
from stages.data.policies import Policy
from stages.learning import metrics
from stages.learning.batch_norm import synchronize
from stages.learning.checkpoints import Checkpoint, StopRequest, rng_state
from stages.learning.devices import (
    autocast,
    deterministic,
    make_scaler,
    memory_format,
    resolve_device,
    resolve_precision,
)
from stages.learning.distributed import (
    all_of_processes,
    any_process,
    local_device,
    mean_of_processes,
    rank,
    union_of_processes,
    world_size,
)
from stages.learning.encoder import ENCODER_FILE, Encoder, load_encoder, save_encoder
from stages.learning.method import Method
from stages.learning.metrics_log import MetricsLog
from stages.learning.optimizers import make_optimizer
from stages.learning.probe import Probe
from stages.learning.schedules import learning_rate
from stages.learning.settings import Training
from stages.report import Report

VIEWS_FILE = "views.png"
KEPT_FOLDER = "checkpoints"  # of encoders, one folder a kept step
RESUMABLE = 75  # EX_TEMPFAIL: stopped on request, and the next start goes on from there
_SHOWN_IMAGES = 8
_SMALLEST_SCALE = 1.0  # of the loss in fp16, after 16 steps or more whose gradients were not finite
_OVERFLOW = (
    "the gradients were not finite in so many steps before step {step} that fp16's loss scale has fallen to {scale}: "
    "they are not finite whatever the scale. What helps, likeliest first: precision 'bf16' or 'fp32', a lower base_lr, "
    "a longer warmup."
)
# How long a data worker's death may come before the signal that caused it.
_SECONDS_FOR_A_SIGNAL = 2.0

log = logging.getLogger(__name__)


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
    training: Training,
    copies: Path | None = None,
    probe: Mapping[str, Any] | None = None,
) -> None:
    """Trains a method on the views that `policy` draws of the photos in `catalog`, and writes its encoder to `out`.

    Writes `encoder.safetensors`, `metrics.jsonl`, `views.png` (what the network saw at step 0), `tensorboard/` and
    `checkpoints/` (the encoders that are kept); a checkpoint into `scratch/` every `checkpoint_minutes`, at the end,
    and on SIGTERM or SIGINT. Called again with the same `out` it goes on from there: on a CPU, with the same numbers of
    threads and processes, with exactly the weights of a training that was never stopped.

    In a process group (`distributed.process_group`) each process calls it with the same arguments; the first writes.

    Args:
        make_method: gives the method, a `Method` and `nn.Module`, that trains a given encoder.
        settings: the method's and the policy's settings: a checkpoint made with others is refused.
        encoder: arguments of `Encoder`.
        init: directory of an artifact whose encoder to start from, None for random weights.
        copies: directory of a `copies` artifact to read instead of the photos.
        probe: a labelled data set to look at now and then: `catalog` and `root` as paths, `every` (a duration), and the
            further arguments of `Probe`.

    Raises:
        ValueError: a setting, the checkpoint or the encoder in `init` does not fit.
        FloatingPointError: a loss or a gradient is not finite.
        RuntimeError: more than `max_unreadable` of the photos can't be read any more.
        SystemExit: with status 75, after a checkpoint was saved on a signal.
    """
    processes, main = world_size(), rank() == 0
    training.check_batch(processes)
    place = local_device(resolve_device(training.device))
    numbers, reason = resolve_precision(training.precision, place)
    images, batch_size = len(catalog), training.batch_size
    total = max(1, training.steps(training.epochs, images))
    warmup = training.steps(training.warmup, images)
    keep_every = max(1, training.steps(training.keep_every, images)) if training.keep_every else math.inf
    look_every = max(1, training.steps(probe["every"], images)) if probe else math.inf
    settings = {**settings, **encoder, **training.deciding(), "images": images, "steps": total, "warmup_steps": warmup}
    log.info("%d steps of %d photos on %s in %s: %s", total, batch_size, _places(place, processes), numbers, reason)

    # How training starts: from the checkpoint of an earlier attempt, else from the weights in `init`, else at random.
    checkpoint = Checkpoint.load(out)
    torch.manual_seed(training.seed)
    # A Method that is an nn.Module too, for which there is no type.
    method: Any = make_method(Encoder(**encoder) if init is None else _given_encoder(init, encoder))
    if training.sync_batch_norm and processes > 1:
        method = synchronize(method, place)
    method.train().to(place, memory_format=memory_format(numbers, place))
    optimizer = make_optimizer(
        training.optimizer, method, lr=training.peak_lr, momentum=training.momentum, weight_decay=training.weight_decay
    )
    scaler = make_scaler(numbers, place)
    if checkpoint is not None:
        checkpoint.restore(settings, method, optimizer, scaler)
        log.info("going on after step %d of %d, from the checkpoint in %s", checkpoint.step, total, out)
    else:
        log.info("starting from %s", "random weights" if init is None else f"the encoder in {init}")
    first = 0 if checkpoint is None else checkpoint.step
    network = _parallel(method, place, compiled=training.compile)
    torch.manual_seed(training.seed + rank())  # what networks draw while they train differs from process to process

    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    watch = metrics.Stopwatch(0.0 if checkpoint is None else checkpoint.seconds)
    saved_at, logged_at, warned = time.monotonic(), first, False
    unreadable: dict[int, str] = {}
    pending: list[Tensor] = []  # (loss, gradient norm) of steps that were not checked yet
    looker: Probe | None = None

    def settle(done: int) -> tuple[float, float]:
        """Loss and gradient norm of step `done`, once all steps since the last call are known to be finite."""
        values = mean_of_processes(torch.stack(pending)).tolist()
        for step, (loss, gradient) in enumerate(values, start=done - len(values)):
            # With a scaler (fp16) an overflow in the gradients is normal: that step is skipped, the scale lowered.
            if not math.isfinite(loss + (0.0 if scaler.is_enabled() else gradient)):
                stream = EpochStream(
                    images, seed=training.seed, batch_size=batch_size, first_step=step, last_step=step + 1
                )
                raise FloatingPointError(_not_finite(step + 1, loss, gradient, catalog, next(iter(stream))))
        pending.clear()
        if scaler.is_enabled() and scaler.get_scale() < _SMALLEST_SCALE:
            raise FloatingPointError(_OVERFLOW.format(step=done, scale=scaler.get_scale()))
        return values[-1]

    def save(step: int, keep: bool = False) -> None:
        if pending:
            settle(step)  # weights that are not finite never reach a checkpoint
        saving_since = time.perf_counter()
        rng = all_of_processes(rng_state(place))
        if not main:
            return
        try:
            figures.sync()  # first, so that the figures of every step that a resume skips are on the disk
            state = method.state_dict(), optimizer.state_dict(), scaler.state_dict()
            Checkpoint(settings, step, watch.seconds, *state, rng).save(out, keep=keep)
            if keep:
                folder = out / KEPT_FOLDER / f"step-{step:09d}"
                folder.mkdir(parents=True, exist_ok=True)
                save_encoder(method.encoder, folder)
        except OSError as error:
            log.warning(
                "no checkpoint of step %d could be written: %s. Training goes on and tries again; free some space.",
                step, error,
            )  # fmt: skip
        watch.aside(saving_since)

    with deterministic(place), MetricsLog(out, first, write=main) as figures, StopRequest() as stop:
        loader = training_loader(
            catalog, policy, seed=training.seed, batch_size=batch_size, first_step=first, last_step=total,
            workers=training.workers, renderer=training.renderer, scaled_decode=training.scaled_decode,
            interpolation=training.interpolation, copies=copies, processes=processes, rank=rank(),
            accumulate=training.accumulate, device=place,
        )  # fmt: skip
        batches = iter(loader)
        if checkpoint is not None:
            checkpoint.restore_rng(rank())

        for step in range(first, total):
            done = step + 1
            looks_now = done % look_every == 0
            logs_now = done == 1 or done % training.log_every == 0 or done == total or looks_now

            # Data, and whether to go on: a signal or the clock of one process counts for all
            waiting_since = time.perf_counter()
            try:
                parts = [next(batches) for _ in range(training.accumulate)]
            except RuntimeError:
                if not stop.soon(_SECONDS_FOR_A_SIGNAL):
                    raise
                parts = []  # the signal went to the whole process group and ended the data workers too
            watch.waited(waiting_since)
            due = time.monotonic() - saved_at >= 60 * training.checkpoint_minutes
            stopping, due = any_process(stop.requested, due)
            if stopping or (due and step > first):
                save(step)
                saved_at = time.monotonic()
            if stopping:
                log.info("stopped after step %d of %d; the next start goes on from there", step, total)
                raise SystemExit(RESUMABLE)
            for part in parts:
                unreadable |= dict(part.unreadable)

            # Forward and backward, part by part; gradients are exchanged with the last one
            optimizer.zero_grad(set_to_none=True)
            loss = torch.zeros((), device=place)
            for number, part in enumerate(parts, start=1):
                batch = part.on(place)
                if step == 0 and number == 1 and main:
                    views_sheet({name: batch[name] for name in policy.names}, out / VIEWS_FILE)
                exchanged = number == len(parts) or processes == 1
                with nullcontext() if exchanged else network.no_sync():
                    with autocast(numbers, place):
                        output = network(batch)
                    scaler.scale(output.loss / len(parts)).backward()
                loss += output.loss.detach() / len(parts)
            scaler.unscale_(optimizer)
            gradient = metrics.gradient_norm(trained)
            pending.append(torch.stack([loss, gradient]))
            if logs_now or place.type == "cpu":  # asking a GPU makes it wait, so that is done now and then
                loss_value, gradient_value = settle(done)
            if training.clip_norm is not None:
                nn.utils.clip_grads_with_norm_(trained, training.clip_norm, gradient)

            # Step
            lr = learning_rate(step, schedule=training.schedule, peak=training.peak_lr, warmup=warmup, total=total)
            for group in optimizer.param_groups:
                group["lr"] = lr
            before = metrics.snapshot(trained) if logs_now else []
            scaler.step(optimizer)
            scaler.update()

            # EMA
            method_figures = method.after_step(step / total)

            # Log
            if logs_now:
                lost = _check_readable(unreadable, catalog, training.max_unreadable)
                record: dict[str, Any] = {"step": done, "epoch": done * batch_size / images}
                record |= {"images": done * batch_size, "loss": loss_value}
                record |= {name: value.item() for name, value in output.figures.items()}
                record |= {"lr": lr} | method_figures
                if math.isfinite(gradient_value):  # else fp16 has skipped the step
                    record["gradient_norm"] = gradient_value
                record |= {"update_norm": metrics.update_norm(before, trained)} | metrics.healths(output.embeddings)
                record |= watch.lap(done - logged_at, batch_size) | {"memory_mb": metrics.memory_mb(place)}
                record |= {"scale": scaler.get_scale()} if scaler.is_enabled() else {}
                record |= {"unreadable": lost} if lost else {}
                if looks_now and main:
                    looking_since = time.perf_counter()
                    looker = looker or _probe(probe, training.seed)
                    record |= looker.accuracy(method.encoder, place)
                    watch.aside(looking_since)
                warning = metrics.collapse(record, output.embeddings, done)
                record["collapsed"] = warning is not None
                if warning is not None and not warned and main:
                    warned, record["warning"] = True, warning
                    log.warning(warning)
                figures.write(record)
                logged_at = done
            shown = {name: figures.last[name] for name in ("loss", "std", "images_per_second", "data_share")}
            report.progress(done, total, "steps", **shown)
            if done % keep_every == 0 and done < total:
                save(done, keep=True)
                saved_at = time.monotonic()
        save(total, keep=total % keep_every == 0)

    if not main:
        return
    save_encoder(method.encoder, out)
    left_behind = ", ".join(method.dropped) or "nothing"
    log.info("%s holds backbone and projector that learned by gradient; left behind: %s", ENCODER_FILE, left_behind)
    last = {name: figures.last[name] for name in ("loss", "std", "collapsed")}
    report.metric(
        **last, steps=total, images_seen=total * batch_size, images_per_second=total * batch_size / watch.seconds,
        precision=numbers, processes=processes, unreadable=figures.last.get("unreadable", 0),
        dropped=left_behind,
    )  # fmt: skip


def _parallel(method: nn.Module, place: torch.device, *, compiled: bool) -> Any:
    """The method as it is called in the loop: compiled if asked, its gradients averaged over processes if there are."""
    if compiled:
        method.compile()
    if world_size() == 1:
        return method
    network = DistributedDataParallel(method, device_ids=[place] if place.type == "cuda" else None)
    # Buffers agree at the start; later those that must (queues, synchronised batch norms) do so by themselves, and the
    # running averages of the first process are the ones that are kept.
    network.broadcast_buffers = False
    return network


def _probe(settings: Mapping[str, Any] | None, seed: int) -> Probe:
    assert settings is not None, "there is something to look at"
    catalog = Catalog(settings["catalog"], settings["root"])
    return Probe(catalog, seed=seed, **{name: settings[name] for name in ("size", "max_objects", "neighbors")})


def _given_encoder(directory: Path, expected: Mapping[str, Any]) -> Encoder:
    """The encoder in `directory`, provided that it is of the expected architecture."""
    encoder = load_encoder(directory)
    if encoder.settings != expected:
        raise ValueError(
            f"the encoder in {directory} has {encoder.settings}, and this training {dict(expected)}. "
            "Use the same backbone and projector in both stages, or start from scratch."
        )
    return encoder


def _places(place: torch.device, processes: int) -> str:
    return str(place) if processes == 1 else f"{processes} processes ({place.type})"


def _check_readable(unreadable: Mapping[int, str], catalog: Catalog, limit: float) -> int:
    """How many photos turned out unreadable, in all processes. Raises RuntimeError when they are more than `limit`."""
    found = dict(union_of_processes(unreadable.items()))
    if len(found) > limit * len(catalog):
        image, reason = min(found.items())
        raise RuntimeError(
            f"{len(found)} of {len(catalog)} photos could be used when the catalog was made, and no longer can: more "
            f"than max_unreadable {limit:.2%}. The first is {catalog.path(image)}: {reason}. Bring the files back, or "
            "run again: the catalog notices the change and leaves out what is unusable."
        )
    return len(found)


def _not_finite(step: int, loss: float, gradient: float, catalog: Catalog, samples: list[tuple[int, int]]) -> str:
    names = [catalog.name(image) for _, image in samples]
    more = f" and {len(names) - _SHOWN_IMAGES} more" if len(names) > _SHOWN_IMAGES else ""
    return (
        f"step {step} has loss {loss} and gradient norm {gradient}. Both must be finite, so training stopped; no "
        "checkpoint was written since. What helps, likeliest first: a lower base_lr, a longer warmup, precision "
        f"'fp32', a larger batch_size. The batch's photos: {', '.join(names[:_SHOWN_IMAGES])}{more}."
    )
