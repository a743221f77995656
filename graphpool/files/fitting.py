"""Training with checkpoints: a run that is interrupted goes on as if it had not been."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.loader import DataLoader
from tqdm import tqdm

from graphpool.aggr import exponent_parameter_groups
from graphpool.io import load_tensors
from graphpool.train import cross_entropy, recalibrate

Forward = Callable[[nn.Module, Any], Tensor]


def train_network(
    model: nn.Module,
    loader: DataLoader,
    forward: Forward,
    epochs: int,
    lr: float,
    *,
    smoothing: float = 0.0,
    weight: Tensor | None = None,
    ignore_index: int = -1,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    generators: Sequence[torch.Generator] = (),
    settings: Mapping[str, Any] | None = None,
    score: Callable[[nn.Module], float] | None = None,
) -> list[float]:
    """AdamW with a one-cycle schedule; goes on from ``checkpoint`` where there is one.

    Before a network is judged, and in the end, batch normalisation gets the statistics of the whole
    training set (:func:`graphpool.train.recalibrate`).

    Args:
        model: The network.
        loader: Training batches, with labels ``y``.
        forward: ``forward(model, batch)`` gives the logits.
        epochs: Passes over the data, in all; more than a checkpoint was made for stretch the schedule.
        lr: Largest learning rate.
        smoothing, weight, ignore_index: Of :func:`graphpool.train.cross_entropy`.
        device: Where batches go.
        checkpoint: File to write after every epoch and resume from.
        generators: Those that order and augment the data; their states are in the checkpoint.
        settings: What a run that goes on must agree on with the one that it continues, in plain values.
        score: Judges the network after each epoch, largest is best; the network ends as it was then.

    Returns:
        The scores of all epochs.

    Raises:
        ValueError: There is nothing to train on, or the checkpoint is of another run.
        FloatingPointError: The loss is not finite.
    """
    if epochs < 1 or len(loader) == 0:
        raise ValueError(
            f"`epochs` must be at least 1, and there must be a batch; got {epochs} epochs and "
            f"{len(loader.dataset)} items in batches of {loader.batch_size}."  # type: ignore[arg-type]
        )
    optimizer = torch.optim.AdamW(exponent_parameter_groups(model, lr=lr), weight_decay=0.05)
    state = None if checkpoint is None else load_run(checkpoint, dict(settings or {}))
    first, scores, best = 0, [], None
    if state is not None:
        first, scores, best = state["epoch"], state["scores"], state["best"]
        if first > epochs:
            raise ValueError(f"{checkpoint} has {first} epochs already; `epochs` is {epochs}.")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        for generator, random in zip(generators, state["generators"], strict=True):
            generator.set_state(random)
        print(f"resumed after epoch {first} of {epochs}, from {checkpoint}")
    steps = max(epochs * len(loader), 2)
    # The first phase must be longer than no step at all.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups] if state is None else
        [group["max_lr"] for group in optimizer.param_groups],
        total_steps=steps, pct_start=max(0.2, 1.5 / steps), last_epoch=first * len(loader) - 1,
    )  # fmt: skip
    for epoch in range(first, epochs):
        model.train()
        total, seen = 0.0, 0
        bar = tqdm(loader, desc=f"epoch {epoch + 1}/{epochs}", leave=False, mininterval=2)
        for batch in bar:
            batch = batch.to(device)
            optimizer.zero_grad()
            loss = cross_entropy(forward(model, batch), batch.y, ignore_index, weight, smoothing)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            schedule.step()
            labelled = int((batch.y != ignore_index).sum())
            total, seen = total + float(loss.detach()) * labelled, seen + labelled
        if not math.isfinite(total):
            raise FloatingPointError(f"The loss became {total} in epoch {epoch + 1}; lower `lr`.")
        line = f"epoch {epoch + 1:3d}  loss {total / max(seen, 1):.4f}"
        if score is not None or epoch + 1 == epochs:
            recalibrate(model, loader, lambda network, batch: forward(network, batch.to(device)))
        if score is not None:
            scores.append(score(model))
            line += f"  validation {scores[-1]:.4f}"
            if scores[-1] >= max(scores):
                best = {
                    name: value.detach().cpu().clone() for name, value in model.state_dict().items()
                }
        tqdm.write(line)
        if checkpoint is not None:
            _write_run(checkpoint, {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(),
                "random": torch.get_rng_state(),
                "generators": [generator.get_state() for generator in generators],
                "epoch": epoch + 1, "settings": dict(settings or {}), "scores": scores, "best": best,
            })  # fmt: skip
    if best is not None:
        model.load_state_dict(best)
    return scores


def _write_run(path: Path, state: dict[str, Any]) -> None:
    # An interruption while writing leaves the last checkpoint whole.
    part = path.with_name(f"{path.name}.part")
    torch.save(state, part)
    part.replace(path)


def load_run(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What a run has left in a file, ``None`` before there is one. Whether it can be written is tried now.

    Raises:
        OSError: The folder cannot be made, or not be written to.
        ValueError: The file is of no run, or of one with other settings.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise OSError(f"{path} cannot be written: it must be a file in a folder open to writing.")
    if not path.exists():
        return None
    state = load_tensors(path)
    keys = {"model", "optimizer", "random", "generators", "epoch", "settings", "scores", "best"}
    if not isinstance(state, dict) or keys - set(state):
        raise ValueError(f"{path} is no checkpoint of a run; name another file.")
    had = state["settings"]
    if other := [name for name in settings if had.get(name) != settings[name]]:
        raise ValueError(
            f"{path} was trained with {', '.join(f'{n}={had.get(n)}' for n in other)}, and asked for is "
            f"{', '.join(f'{n}={settings[n]}' for n in other)}. Ask for the same, or name another file."
        )
    return state
