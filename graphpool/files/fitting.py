"""Training with checkpoints: a run that is interrupted goes on as if it had not been."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.loader import DataLoader
from tqdm import tqdm

from graphpool.io import load_tensors
from graphpool.train import cross_entropy, recalibrate

#: Where an epoch is a step or two, judging each would cost more than training.
_JUDGED = 30


def train_network(
    model: nn.Module,
    loader: DataLoader,
    forward: Callable[[nn.Module, Any], Tensor],
    epochs: int,
    lr: float,
    smoothing: float = 0.0,
    checkpoint: Path | None = None,
    device: torch.device | str = "cpu",
    generators: Sequence[torch.Generator] = (),
    settings: Mapping[str, Any] | None = None,
    weight: Tensor | None = None,
    ignore_index: int = -1,
    score: Callable[[nn.Module], float] | None = None,
) -> float:
    """AdamW with a one-cycle schedule; goes on from ``checkpoint`` where there is one.

    Before a network is judged, and in the end, batch normalisation gets the statistics of the whole
    training set (:func:`graphpool.train.recalibrate`).

    Args:
        model: The network.
        loader: Training batches, with labels ``y``, classes or (for squared errors) numbers.
        forward: ``forward(model, batch)`` gives the logits.
        epochs: Passes over the data, in all; more than a checkpoint was made for stretch the schedule.
        lr: Largest learning rate.
        smoothing, weight, ignore_index: Of :func:`graphpool.train.cross_entropy`.
        checkpoint: File to write after every epoch and resume from.
        device: Where batches go.
        generators: Those that order and augment the data: with their states in the checkpoint, a run that
            was interrupted ends like one that was not.
        settings: What a run that goes on must agree on with the one that it continues, in plain values.
        score: Judges the network after each epoch (of more than 30, after as many), largest is best, a mean
            recall of the classes or a negative error of numbers; the network ends as it was then.

    Returns:
        Seconds of processor time, those before an interruption included.

    Raises:
        ValueError: There is nothing to train on, or the checkpoint is of another run.
        FloatingPointError: The loss is not finite.
    """
    if epochs < 1 or len(loader) == 0:
        raise ValueError(
            f"`epochs` must be at least 1, and there must be a batch; got {epochs} epochs and "
            f"{len(loader.dataset)} items in batches of {loader.batch_size}."  # type: ignore[arg-type]
        )
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    rates = [group["lr"] for group in optimizer.param_groups]
    state = None if checkpoint is None else load_run(checkpoint, dict(settings or {}))
    first, spent, best = 0, 0.0, None
    scores: list[float] = []
    if state is not None:
        first, spent, scores, best = (state[k] for k in ("epoch", "seconds", "scores", "best"))
        if first > epochs:
            raise ValueError(f"{checkpoint} has {first} epochs already; asked for were {epochs}.")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        for generator, random in zip(generators, state["generators"], strict=True):
            generator.set_state(random)
        longer = f", the schedule is stretched from {state['epochs']}" * (epochs != state["epochs"])
        print(f"resumed after epoch {first} of {epochs}{longer}, from {checkpoint}")
    steps = max(epochs * len(loader), 2)
    # The first phase must be longer than no step at all.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, total_steps=steps, pct_start=max(0.2, 1.5 / steps),
        last_epoch=first * len(loader) - 1,
    )  # fmt: skip
    for epoch in range(first, epochs):
        model.train()
        begin, total, right, seen = time.process_time(), 0.0, 0, 0
        for batch in tqdm(loader, f"epoch {epoch + 1}/{epochs}", leave=False, mininterval=2):
            batch = batch.to(device)
            optimizer.zero_grad()
            logits = forward(model, batch)
            if numbers := batch.y.is_floating_point():
                loss = nn.functional.mse_loss(logits.view(-1), batch.y)
            else:
                loss = cross_entropy(logits, batch.y, ignore_index, weight, smoothing)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            schedule.step()
            labelled = int((batch.y != ignore_index).sum())
            total, seen = total + float(loss.detach()) * labelled, seen + labelled
            right += int((logits.argmax(1) == batch.y).sum())
        if not math.isfinite(total):
            raise FloatingPointError(f"The loss became {total} in epoch {epoch + 1}; lower `lr`.")
        last = epoch + 1 == epochs
        told = (epoch + 1) % max(epochs // _JUDGED, 1) == 0 or last
        judged = score is not None and told
        if judged or last:
            recalibrate(model, loader, lambda network, batch: forward(network, batch.to(device)))
        spent += time.process_time() - begin
        mean, share = (amount / max(seen, 1) for amount in (total, right))
        line = f"epoch {epoch + 1:3d}  loss {mean:.4f}"
        line += "" if numbers else f"  train accuracy {share:.4f}"
        if judged and score is not None:
            scores.append(score(model))
            line += f"  validation {'error' if numbers else 'mean recall'} {abs(scores[-1]):.4f}"
            if scores[-1] >= max(scores):
                best = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        if told:
            tqdm.write(f"{line}  core seconds {spent:.0f}")
        if checkpoint is not None:
            # An interruption while writing leaves the last checkpoint whole.
            part = checkpoint.with_name(f"{checkpoint.name}.part")
            torch.save({
                "model": model.state_dict(), "optimizer": optimizer.state_dict(),
                "random": torch.get_rng_state(), "generators": [g.get_state() for g in generators],
                "epoch": epoch + 1, "epochs": epochs, "seconds": spent, "settings": dict(settings or {}),
                "scores": scores, "best": best,
            }, part)  # fmt: skip
            part.replace(checkpoint)
    if best is not None:
        model.load_state_dict(best)
    return spent


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
    keys = "model optimizer random generators epoch epochs seconds settings scores best"
    if not isinstance(state, dict) or set(keys.split()) - set(state):
        raise ValueError(f"{path} is no checkpoint of a run; name another file.")
    had = state["settings"]
    if other := [name for name in settings if had.get(name) != settings[name]]:
        theirs, asked = (
            ", ".join(f"{n}={_differing(str(s.get(n)), str(o.get(n)))}" for n in other)
            for s, o in ((had, settings), (settings, had))
        )
        raise ValueError(
            f"{path}: this checkpoint was trained with {theirs}, and asked for is {asked}. Ask for the "
            f"same, or name another file."
        )
    return state


def _differing(text: str, other: str) -> str:
    """What of a long text is not that of another: where files are described, most of it is the same."""
    if max(len(text), len(other)) < 80:
        return text
    first = text.rfind(" ", 0, len(os.path.commonprefix([text, other]))) + 1
    return f"... {text[first : first + 60]} ..."
