"""Next-frame prediction of three bodies under gravity."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from graphpool._arguments import check_one_of
from graphpool.datasets.generated import GeneratedDataset

GRAVITY = 1e5
TIME_STEP = 1e-3
CENTRAL_MASS = 100.0
MODES: tuple[str, ...] = ("interpolate", "distance", "mass")

_NUM_BODIES = 3
_NUM_STEPS = 500
_VIDEOS_PER_ROUND = 100
_MAX_ROUNDS = 2000
# Every ordered pair of distinct bodies, sorted by the receiving one.
_RECEIVER = np.repeat(np.arange(_NUM_BODIES), _NUM_BODIES - 1)
_SENDER = np.array([s for r in range(_NUM_BODIES) for s in range(_NUM_BODIES) if s != r])


def initial_orbits(
    count: int, mass_factor: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Masses ``[V, 3]``, positions ``[V, 3, 2]`` and velocities ``[V, 3, 2]`` of ``count`` systems.

    A central body at rest at the origin; two light ones at a distance uniform in [10, 100] and a
    uniform angle, moving at a right angle to their radius.
    """
    mass = np.empty((count, _NUM_BODIES))
    mass[:, 0] = CENTRAL_MASS
    mass[:, 1:] = rng.uniform(0.02, 9.0, (count, 2))
    mass *= mass_factor
    radius = rng.uniform(10.0, 100.0, (count, 2))
    angle = rng.uniform(0.0, 2.0 * np.pi, (count, 2))
    position = np.zeros((count, _NUM_BODIES, 2))
    position[:, 1:] = radius[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    speed = GRAVITY * mass[:, :1] / radius**2 * radius / 1000.0
    velocity = np.zeros_like(position)
    velocity[:, 1:] = speed[..., None] * np.stack([-np.sin(angle), np.cos(angle)], axis=-1)
    return mass, position, velocity


def simulate(
    mass: NDArray[np.float64],
    position: NDArray[np.float64],
    velocity: NDArray[np.float64],
    num_steps: int = _NUM_STEPS,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions and velocities of every frame, ``[num_steps, V, 3, 2]``, by the semi-implicit Euler
    method.

    The force on i from j is ``G m_i m_j (x_j - x_i) / max(d, 1)^3``. Frame 0 is the initial state.
    """
    positions = np.empty((num_steps, *position.shape))
    velocities = np.empty_like(positions)
    positions[0], velocities[0] = position, velocity
    for step in range(1, num_steps):
        offset = positions[step - 1][:, None, :, :] - positions[step - 1][:, :, None, :]
        distance = np.maximum(np.linalg.norm(offset, axis=-1), 1.0)
        pull = GRAVITY * mass[:, None, :] / distance**3
        acceleration = (pull[..., None] * offset).sum(axis=2)
        velocities[step] = velocities[step - 1] + acceleration * TIME_STEP
        positions[step] = positions[step - 1] + velocities[step] * TIME_STEP
    return positions, velocities


class NBody(GeneratedDataset):
    """Velocity of three bodies in the next frame, from the current frame.

    Each graph is one frame of a simulated system: node features ``[mass, x, y, vx, vy]``, one label
    ``[vx, vy]`` per node, all six directed edges. Frames are kept if the smallest distance of two
    bodies is above 30; the ``"distance"`` test keeps those whose largest distance is between 1 and
    20 instead, and the ``"mass"`` test doubles all masses.

    Args:
        root: Folder of the cache.
        split: ``"train"``, ``"val"`` or ``"test"`` (10,000, 2,500 and 5,000 frames).
        mode: ``"interpolate"``, ``"distance"`` or ``"mass"``; the latter two exist for the test
            split only.
        edge_features: If true, ``edge_attr`` is ``G m_sender / max(d, 1)^3 (x_sender -
            x_receiver)``, the acceleration that the sender causes, which makes the task linear; if
            false, two zeros.
        num_graphs: Number of frames; default as under ``split``.
        seed: Seed of the generator.
        transform: Applied to each graph when it is read.
        force_reload: Draw again even if the cache holds the data.

    Raises:
        ValueError: If a setting is unknown, or a mode is asked for on another split than the test.
    """

    defaults = {"train": 10_000, "val": 2500, "test": 5000}

    def __init__(
        self,
        root: str | os.PathLike[str] = "datasets",
        split: str = "train",
        mode: str = "interpolate",
        edge_features: bool = False,
        num_graphs: int | None = None,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
        force_reload: bool = False,
    ) -> None:
        check_one_of(mode, "mode", MODES)
        if mode != "interpolate" and split != "test":
            raise ValueError(
                f"`mode` = {mode!r} is a test of extrapolation; split {split!r} has none."
            )
        if num_graphs is not None and num_graphs < 1:
            raise ValueError(f"`num_graphs` must be at least 1; got {num_graphs}.")
        settings = {
            "mode": mode,
            "edge_features": bool(edge_features),
            "num_graphs": self.defaults.get(split, 0) if num_graphs is None else int(num_graphs),
        }
        super().__init__(root, split, seed, settings, transform, force_reload)

    def _frames(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Inputs ``[F, 3, 5]`` and labels ``[F, 3, 2]`` of the frames of one round of videos."""
        mode = self.settings["mode"]
        mass, position, velocity = initial_orbits(
            _VIDEOS_PER_ROUND, 2.0 if mode == "mass" else 1.0, rng
        )
        positions, velocities = simulate(mass, position, velocity)
        gap = np.linalg.norm(
            positions[:-1][:, :, _SENDER] - positions[:-1][:, :, _RECEIVER], axis=-1
        )
        if mode == "distance":
            kept = (gap.max(axis=-1) > 1.0) & (gap.max(axis=-1) < 20.0)
        else:
            kept = gap.min(axis=-1) > 30.0
        masses = np.broadcast_to(mass[None, :, :, None], (*positions[:-1].shape[:3], 1))
        inputs = np.concatenate([masses, positions[:-1], velocities[:-1]], axis=-1)
        return inputs[kept], velocities[1:][kept]

    def generate(self, rng: np.random.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        count = self.settings["num_graphs"]
        inputs: list[NDArray[np.float64]] = []
        labels: list[NDArray[np.float64]] = []
        found = 0
        for _ in range(_MAX_ROUNDS):
            x, y = self._frames(rng)
            # Consecutive frames are nearly equal: a short data set should still see many systems.
            order = rng.permutation(len(x))
            inputs.append(x[order])
            labels.append(y[order])
            found += len(x)
            if found >= count:
                break
        else:
            raise ValueError(
                f"Found fewer than {count} frames in {_MAX_ROUNDS} rounds; lower `num_graphs`."
            )
        order = rng.permutation(found)[:count]
        x, y = np.concatenate(inputs)[order], np.concatenate(labels)[order]

        edge_attr = np.zeros((count, len(_SENDER), 2))
        if self.settings["edge_features"]:
            offset = x[:, _SENDER, 1:3] - x[:, _RECEIVER, 1:3]
            distance = np.maximum(np.linalg.norm(offset, axis=-1, keepdims=True), 1.0)
            edge_attr = GRAVITY * x[:, _SENDER, :1] / distance**3 * offset
        edge_index = np.tile(np.stack([_SENDER, _RECEIVER]), (1, count))
        node_ptr = torch.arange(count + 1) * _NUM_BODIES
        edge_ptr = torch.arange(count + 1) * len(_SENDER)
        data = {
            "x": torch.from_numpy(x.reshape(-1, 5)).float(),
            "edge_index": torch.from_numpy(edge_index),
            "edge_attr": torch.from_numpy(edge_attr.reshape(-1, 2)).float(),
            "y": torch.from_numpy(y.reshape(-1, 2)).float(),
        }
        return data, {"x": node_ptr, "edge_index": edge_ptr, "edge_attr": edge_ptr, "y": node_ptr}
