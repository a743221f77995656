from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch_geometric.loader import DataLoader

from graphpool.datasets import GeneratedShapes
from graphpool.files.fitting import train_network
from graphpool.models import PointNet2Classifier
from graphpool.points.transforms import Jitter

FILE = Path(__file__).resolve().parents[2] / "examples" / "_points.py"


@pytest.fixture
def points():
    spec = importlib.util.spec_from_file_location("examples_points", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def forward(model, batch):
    return model(batch.pos, ptr=batch.ptr)


def run(points, checkpoint, epochs=3):
    torch.manual_seed(0)
    noise, order = (torch.Generator().manual_seed(s) for s in (1, 2))
    shapes = GeneratedShapes(6, 48, classes=["torus", "box"], transform=Jitter(generator=noise))
    loader = DataLoader(shapes, 4, shuffle=True, generator=order)
    model = PointNet2Classifier(2, k=4, width=4, radii=(None, None))
    train_network(model, loader, forward, epochs, 0.01, 0.1, checkpoint, "cpu", (noise, order))
    return model, loader


def test_an_interrupted_run_ends_like_one_that_was_not(points, tmp_path, monkeypatch):
    straight, _ = run(points, None)
    save = torch.save

    def save_then_stop(state, path):
        save(state, path)
        if state["epoch"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", save_then_stop)
        with pytest.raises(KeyboardInterrupt):
            run(points, tmp_path / "run.pt")
    resumed, _ = run(points, tmp_path / "run.pt")
    for (name, a), b in zip(
        straight.state_dict().items(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name


def test_votes_are_averaged(points):
    model, loader = run(points, None, epochs=1)
    plain = DataLoader(GeneratedShapes(4, 48, "test", classes=["torus", "box"]), 4)
    once, labels = points.predict(model, plain, forward, 1, "cpu")
    thrice, _ = points.predict(model, plain, forward, 3, "cpu")
    assert torch.allclose(once, thrice)
    assert torch.allclose(once.sum(1), torch.ones(8))
    assert labels.tolist() == [0] * 4 + [1] * 4
    with pytest.raises(ValueError, match="votes"):
        points.predict(model, plain, forward, 0, "cpu")
