"""The training loop of the evaluation protocols: data, forward, backward, step, log, checkpoint. It knows no task.

Pretraining has a loop of its own, `stages.learning.loop`, with all that only pretraining needs: EMA, views of photos
without labels, health of embeddings, kept encoders. What the two share are the parts both are made of.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stages.data.loading import EpochStream
from stages.evaluation.tasks.samples import TaskData, moved, task_loader
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
    world_size,
)
from stages.learning.loop import RESUMABLE
from stages.learning.metrics_log import MetricsLog
from stages.report import Report

_SHOWN_SAMPLES = 8
_SMALLEST_SCALE = 1.0  # of the loss in fp16: below it, it is not the scale that makes gradients overflow
_SECONDS_FOR_A_SIGNAL = 2.0  # how long a data worker's death may come before the signal that caused it

log = logging.getLogger(__name__)


def train_task(
    model: nn.Module,
    data: TaskData,
    *,
    out: Path,
    report: Report,
    steps: int,
    batch_size: int,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    schedule: Callable[[int], float],
    settings: Mapping[str, Any],
    seed: int,
    device: str,
    workers: int,
    precision: str = "auto",
    checkpoint_minutes: float = 10,
    log_every: int = 50,
    clip_norm: float | None = None,
    same_shapes: bool = True,
) -> dict[str, Any]:
    """Trains `model` for `steps` steps of `batch_size` samples, whole epochs laid end to end, each shuffled by `seed`.

    Afterwards `model` has the final weights and is on the device, in train mode. Writes `metrics.jsonl`,
    `tensorboard/`, and a checkpoint into `scratch/` every `checkpoint_minutes`, at the end, and on SIGTERM or SIGINT.
    Called again with the same `out` it goes on from there: on a CPU, with the same numbers of threads and processes,
    with exactly the weights of a training that was never stopped; and after the last step it only loads them.

    In a process group (`distributed.process_group`) each process calls it with the same arguments and trains on its
    share of each batch; gradients are averaged, batch norms synchronised, and the first process writes.

    Args:
        model: `model(batch)` is (loss () float, dict of () figures to log) of what `data.collate` returned, on the
            device. Put into train mode once, by `model.train()`: one with frozen parts overrides `train` to keep them
            in eval mode. Each parameter that takes a gradient must have a part in the loss of each step.
        batch_size: samples a step, of all processes together.
        optimizer: makes the optimizer of the model's parameters, see `tasks.optimizers`; it is called when the model
            is where it is trained. The learning rates of its groups are the base ones.
        schedule: step (0 .. steps - 1) -> the factor of all base learning rates, see `tasks.schedules`.
        settings: what else decides the course of the training, as JSON values: a checkpoint made with others is
            refused.
        workers: processes that read samples; 0 does it in this process.
        precision: "fp32", "bf16", "fp16" or "auto", see `devices.resolve_precision`.
        log_every: steps between two lines of `metrics.jsonl`: loss, figures, lr (of the optimizer's first group),
            gradient norm, speed.
        clip_norm: gradients together longer than this are shortened to it; None leaves them.
        same_shapes: all batches have tensors of the same shapes: then a GPU looks for the fastest kernels once.

    Returns:
        The last line of `metrics.jsonl`.

    Raises:
        ValueError: a setting or the checkpoint does not fit, or there are no samples.
        FloatingPointError: a loss or a gradient is not finite.
        SystemExit: with status 75, after a checkpoint was saved on a signal.
    """
    if steps < 1:
        raise ValueError(
            f"a training of {steps} steps: at least 1. Train longer, or on more photos, or lower batch_size."
        )
    if len(data) == 0:
        raise ValueError("there is no sample to train on: see whether the training photos have labels.")
    place = local_device(resolve_device(device))
    numbers, reason = resolve_precision(precision, place)
    deciding = {"steps": steps, "batch_size": batch_size, "samples": len(data), "seed": seed}
    settings = {**settings, **deciding, "precision": precision, "clip_norm": clip_norm}
    log.info("%d steps of %d samples on %s in %s: %s", steps, batch_size, place, numbers, reason)

    checkpoint = Checkpoint.load(out)
    model = synchronize(model, place).train().to(place).to(memory_format=memory_format(numbers, place))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    updates = optimizer(model)
    base_rates = [group["lr"] for group in updates.param_groups]
    scaler = make_scaler(numbers, place)
    if checkpoint is not None:
        checkpoint.restore(settings, model, updates, scaler)
        log.info("going on after step %d of %d, from the checkpoint in %s", checkpoint.step, steps, out)
    first = 0 if checkpoint is None else checkpoint.step
    network = _parallel(model, place)
    torch.manual_seed(seed + rank())  # what networks draw while they train (dropout) differs from process to process

    watch = metrics.Stopwatch(0.0 if checkpoint is None else checkpoint.seconds)
    saved_at, logged_at = time.monotonic(), first
    pending: list[Tensor] = []  # (loss, gradient norm) of steps that were not checked yet

    def settle(done: int) -> tuple[float, float]:
        """Loss and gradient norm of step `done`, once all steps since the last call are known to be finite."""
        values = mean_of_processes(torch.stack(pending)).tolist()
        for step, (loss, gradient) in enumerate(values, start=done - len(values)):
            # With a scaler (fp16) an overflow in the gradients is normal: that step is skipped, the scale lowered.
            if not math.isfinite(loss + (0.0 if scaler.is_enabled() else gradient)):
                raise FloatingPointError(_not_finite(step + 1, loss, gradient, samples_of(step)))
        pending.clear()
        if scaler.is_enabled() and scaler.get_scale() < _SMALLEST_SCALE:
            raise FloatingPointError(_not_finite(done, loss, gradient, samples_of(done - 1)))
        return values[-1]

    def samples_of(step: int) -> list[int]:
        stream = EpochStream(len(data), seed=seed, batch_size=batch_size, first_step=step, last_step=step + 1)
        return [index for _, index in next(iter(stream))]

    def save(step: int) -> None:
        if pending:
            settle(step)  # weights that are not finite never reach a checkpoint
        saving_since = time.perf_counter()
        rng = all_of_processes(rng_state(place))
        if rank() > 0:
            return
        try:
            figures.sync()  # first, so that the figures of every step that a resume skips are on the disk
            state = model.state_dict(), updates.state_dict(), scaler.state_dict()
            Checkpoint(settings, step, watch.seconds, *state, rng).save(out)
        except OSError as error:
            log.warning(
                "no checkpoint of step %d could be written: %s. Training goes on; free some space.", step, error
            )
        watch.aside(saving_since)

    with deterministic(place), MetricsLog(out, first, write=rank() == 0) as figures, StopRequest() as stop:
        torch.backends.cudnn.benchmark = same_shapes  # else it would look again for each new shape
        stream = EpochStream(
            len(data), seed=seed, batch_size=batch_size, first_step=first, last_step=steps, processes=world_size(),
            rank=rank(),
        )  # fmt: skip
        batches = iter(task_loader(data, stream, workers, place))
        if checkpoint is not None:
            checkpoint.restore_rng(rank())

        for step in range(first, steps):
            done = step + 1
            logs_now = done == 1 or done % log_every == 0 or done == steps

            # Data, and whether to go on: a signal or the clock of one process counts for all
            waiting_since = time.perf_counter()
            try:
                batch = next(batches)
            except RuntimeError:
                if not stop.soon(_SECONDS_FOR_A_SIGNAL):
                    raise
                batch = None  # the signal went to the whole process group and ended the data workers too
            watch.waited(waiting_since)
            due = time.monotonic() - saved_at >= 60 * checkpoint_minutes
            stopping, due = any_process(stop.requested, due)
            if stopping or (due and step > first):
                save(step)
                saved_at = time.monotonic()
            if stopping:
                log.info("stopped after step %d of %d; the next start goes on from there", step, steps)
                raise SystemExit(RESUMABLE)

            # Forward and backward
            updates.zero_grad(set_to_none=True)
            with autocast(numbers, place):
                loss, logged = network(moved(batch, place))
            scaler.scale(loss).backward()
            scaler.unscale_(updates)
            gradient = metrics.gradient_norm(trained)
            pending.append(torch.stack([loss.detach().float(), gradient]))
            if logs_now or place.type == "cpu":  # asking a GPU makes it wait, so that is done now and then
                loss_value, gradient_value = settle(done)
            if clip_norm is not None:
                nn.utils.clip_grads_with_norm_(trained, clip_norm, gradient)

            # Step
            factor = schedule(step)
            for group, rate in zip(updates.param_groups, base_rates, strict=True):
                group["lr"] = rate * factor
            scaler.step(updates)
            scaler.update()

            # Log
            if logs_now:
                record: dict[str, Any] = {"step": done, "epoch": done * batch_size / len(data), "loss": loss_value}
                record |= {name: value.item() for name, value in logged.items()}
                record |= {"lr": updates.param_groups[0]["lr"]}
                if math.isfinite(gradient_value):  # else fp16 has skipped the step
                    record["gradient_norm"] = gradient_value
                record |= watch.lap(done - logged_at, batch_size) | {"memory_mb": metrics.memory_mb(place)}
                figures.write(record)
                logged_at = done
            shown = {name: figures.last[name] for name in ("loss", "images_per_second", "data_share")}
            report.progress(done, steps, "steps", **shown)
        if first < steps:
            save(steps)
    return figures.last


def _parallel(model: nn.Module, place: torch.device) -> Any:
    if world_size() == 1:
        return model
    network = DistributedDataParallel(model, device_ids=[place] if place.type == "cuda" else None)
    network.broadcast_buffers = False  # batch norms are synchronised, so that buffers stay the same by themselves
    return network


def _not_finite(step: int, loss: float, gradient: float, samples: list[int]) -> str:
    more = f" and {len(samples) - _SHOWN_SAMPLES} more" if len(samples) > _SHOWN_SAMPLES else ""
    return (
        f"step {step} has loss {loss} and gradient norm {gradient}. Both must be finite, so training stopped; no "
        "checkpoint was written since. What helps, likeliest first: a lower learning rate, precision 'fp32', a longer "
        f"warm-up, clip_norm. The batch's samples: {', '.join(map(str, samples[:_SHOWN_SAMPLES]))}{more}."
    )
