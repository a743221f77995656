"""What the point-cloud examples share: training with checkpoints, and evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader
from tqdm import tqdm

Forward = Callable[[nn.Module, Batch], Tensor]


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
) -> float:
    """AdamW with a one-cycle schedule; goes on from ``checkpoint`` where there is one. Returns seconds.

    ``generators`` are those that order and augment the data: with their states in the checkpoint, a run
    that was interrupted ends like one that was not.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, total_steps=epochs * len(loader), pct_start=0.2
    )
    first, spent = 0, 0.0
    if checkpoint is not None and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        for generator, random in zip(generators, state["generators"], strict=True):
            generator.set_state(random)
        first, spent = state["epoch"], state["seconds"]
        print(f"resumed after epoch {first} from {checkpoint}")
    for epoch in range(first, epochs):
        model.train()
        begin, total, right, seen = time.process_time(), 0.0, 0, 0
        bar = tqdm(loader, desc=f"epoch {epoch + 1}/{epochs}", leave=False, mininterval=2)
        for batch in bar:
            batch = batch.to(device)
            optimizer.zero_grad()
            logits = forward(model, batch)
            loss = nn.functional.cross_entropy(logits, batch.y, label_smoothing=smoothing)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * batch.y.numel()
            right += int((logits.argmax(1) == batch.y).sum())
            seen += batch.y.numel()
        spent += time.process_time() - begin
        print(
            f"epoch {epoch + 1:3d}  loss {total / seen:.4f}  train accuracy {right / seen:.4f}  "
            f"core seconds {spent:.0f}",
            flush=True,
        )
        if checkpoint is not None:
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "random": torch.get_rng_state(),
                    "generators": [generator.get_state() for generator in generators],
                    "epoch": epoch + 1,
                    "seconds": spent,
                },
                checkpoint,
            )
    return spent


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
