"""What the point-cloud examples share: training with checkpoints, and evaluation."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose
from tqdm import tqdm

from graphpool.io import load_tensors
from graphpool.train import cross_entropy, recalibrate

Forward = Callable[[nn.Module, Batch], Tensor]


def followed_by(dataset: Any, *transforms: Callable) -> Any:
    """The data set with transforms behind its own."""
    changed = copy.copy(dataset)
    changed.transform = Compose([t for t in (dataset.transform, *transforms) if t is not None])
    return changed


def train(
    model: nn.Module,
    loader: DataLoader,
    forward: Forward,
    epochs: int,
    lr: float,
    smoothing: float,
    checkpoint: Path | None,
    device: str,
    generators: Sequence[torch.Generator] = (),
    settings: Mapping[str, Any] | None = None,
    weight: Tensor | None = None,
    ignore_index: int = -1,
) -> float:
    """AdamW with a one-cycle schedule; goes on from ``checkpoint`` where there is one. Returns seconds.

    ``generators`` are those that order and augment the data: with their states in the checkpoint, a run
    that was interrupted ends like one that was not. A checkpoint that was made under other ``settings``
    is refused; more epochs stretch the schedule. In the end batch normalisation gets the statistics of
    the whole training set.
    """
    if epochs < 1 or len(loader) == 0:
        raise ValueError(
            f"training needs at least one epoch and one batch; got {epochs} epochs and "
            f"{len(loader.dataset)} clouds in batches of {loader.batch_size}."
        )
    steps, first, spent = max(epochs * len(loader), 2), 0, 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    state = None if checkpoint is None else load_checkpoint(checkpoint, dict(settings or {}))
    if state is not None:
        first, spent = state["epoch"], state["seconds"]
        if first > epochs:
            raise ValueError(f"{checkpoint} has {first} epochs already; asked for were {epochs}.")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        for generator, random in zip(generators, state["generators"], strict=True):
            generator.set_state(random)
        stretched = f", the schedule is stretched from {state['epochs']}" * (
            epochs != state["epochs"]
        )
        print(f"resumed after epoch {first} of {epochs}{stretched}, from {checkpoint}")
    # The first phase must be longer than no step at all.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=lr,
        total_steps=steps,
        pct_start=max(0.2, 1.5 / steps),
        last_epoch=first * len(loader) - 1,
    )
    for epoch in range(first, epochs):
        model.train()
        begin, total, right, seen = time.process_time(), 0.0, 0, 0
        bar = tqdm(loader, desc=f"epoch {epoch + 1}/{epochs}", leave=False, mininterval=2)
        for batch in bar:
            batch = batch.to(device)
            optimizer.zero_grad()
            logits = forward(model, batch)
            loss = cross_entropy(logits, batch.y, ignore_index, weight, smoothing)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            schedule.step()
            labelled = int((batch.y != ignore_index).sum())
            total += float(loss.detach()) * labelled
            right += int((logits.argmax(1) == batch.y).sum())
            seen += labelled
        spent += time.process_time() - begin
        seen = max(seen, 1)
        print(
            f"epoch {epoch + 1:3d}  loss {total / seen:.4f}  train accuracy {right / seen:.4f}  "
            f"core seconds {spent:.0f}",
            flush=True,
        )
        if checkpoint is not None:
            # An interruption while writing leaves the last checkpoint whole.
            part = checkpoint.with_name(f"{checkpoint.name}.part")
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "random": torch.get_rng_state(),
                    "generators": [generator.get_state() for generator in generators],
                    "epoch": epoch + 1,
                    "epochs": epochs,
                    "seconds": spent,
                    "settings": dict(settings or {}),
                },
                part,
            )
            part.replace(checkpoint)
    recalibrate(model, loader, lambda network, batch: forward(network, batch.to(device)))
    return spent


def load_checkpoint(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What a checkpoint holds, ``None`` before there is one; whether it can be written is found out now.

    Raises:
        OSError: The folder cannot be made, or not be written to.
        ValueError: The file is no checkpoint of :func:`train`, or one of other settings.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise OSError(f"{path} cannot be written: it must be a file in a folder open to writing.")
    if not path.exists():
        return None
    state = load_tensors(path)
    keys = {"model", "optimizer", "random", "generators", "epoch", "epochs", "seconds", "settings"}
    if not isinstance(state, dict) or keys - set(state):
        raise ValueError(f"{path} is no checkpoint of this script; name another file.")
    had = state["settings"]
    other = [name for name in settings if had.get(name) != settings[name]]
    if other:
        raise ValueError(
            f"this checkpoint was trained with {', '.join(f'{n}={had.get(n)}' for n in other)}, and "
            f"asked for is {', '.join(f'{n}={settings[n]}' for n in other)}. Ask for the same, or name "
            f"another file than {path}."
        )
    return state


@torch.no_grad()
def predict(
    model: nn.Module, loader: DataLoader, forward: Forward, votes: int, device: str
) -> tuple[Tensor, Tensor]:
    """Mean of the logits over ``votes`` passes (which differ if the loader draws points), and labels."""
    model.eval()
    mean: Tensor | None = None
    labels = torch.empty(0)
    for _ in range(votes):
        outputs, truth = [], []
        for batch in loader:
            batch = batch.to(device)
            outputs.append(forward(model, batch).cpu())
            truth.append(batch.y.cpu())
        total = torch.cat(outputs).softmax(1)
        mean = total if mean is None else mean + total
        labels = torch.cat(truth)
    if mean is None:
        raise ValueError("votes must be at least 1")
    return mean / votes, labels
