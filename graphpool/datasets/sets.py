"""Statistics of sets of numbers."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from graphpool._arguments import check_at_least, check_one_of
from graphpool.datasets.generated import GeneratedDataset, offsets

_Statistic = Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]


def _mean(x: NDArray[np.float64], ptr: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.add.reduceat(x, ptr[:-1]) / np.diff(ptr)


#: Name of each statistic and how it follows from the values and the offsets of the sets.
STATISTICS: dict[str, _Statistic] = {
    "mean": _mean,
    "second_moment": lambda x, ptr: _mean(x**2, ptr),
    "l3_norm": lambda x, ptr: np.cbrt(np.add.reduceat(np.abs(x) ** 3, ptr[:-1])),
    "max": lambda x, ptr: np.maximum.reduceat(x, ptr[:-1]),
    "min": lambda x, ptr: np.minimum.reduceat(x, ptr[:-1]),
    "size": lambda x, ptr: np.diff(ptr).astype(np.float64),
}


class SetStatistics(GeneratedDataset):
    """Sets of normally distributed numbers, labelled with one of their statistics.

    Every set has its own mean, uniform in ``mean_range``, and standard deviation, uniform in
    ``std_range``. The elements are the rows of ``x`` (``[n, 1]``); the label ``y`` (``[1, 1]``) is
    the statistic of these very elements, not of the distribution: ``mean``, ``second_moment`` (sum
    of squares over n), ``l3_norm`` (:math:`(\\sum |x|^3)^{1/3}`), ``max``, ``min`` or ``size``.
    The sets are the same for every statistic.

    Args:
        root: Folder of the cache.
        split: ``"train"``, ``"val"`` (n in 20, ..., 29; 5,000 and 1,000 sets) or ``"test"`` (n in
            50, ..., 99; 2,500 sets).
        target: Name of the statistic.
        num_graphs: Number of sets; default as under ``split``.
        sizes: ``(low, high)``, n uniform in low, ..., high - 1; default as under ``split``.
        mean_range: Range of the means.
        std_range: Range of the standard deviations, not negative.
        seed: Seed of the generator.
        transform: Applied to each set when it is read.
        force_reload: Draw again even if the cache holds the data.

    Raises:
        ValueError: If a setting is unknown or a range is empty.
    """

    defaults = {
        "train": ((20, 30), 5000),
        "val": ((20, 30), 1000),
        "test": ((50, 100), 2500),
    }

    def __init__(
        self,
        root: str | os.PathLike[str] = "datasets",
        split: str = "train",
        target: str = "mean",
        num_graphs: int | None = None,
        sizes: tuple[int, int] | None = None,
        mean_range: tuple[float, float] = (-5.0, 5.0),
        std_range: tuple[float, float] = (0.5, 2.0),
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
        force_reload: bool = False,
    ) -> None:
        check_one_of(target, "target", STATISTICS)
        drawn = self.drawn(split, sizes, num_graphs)
        if not 1 <= drawn["sizes"][0] < drawn["sizes"][1]:
            raise ValueError(f"`sizes` must be (low, high) with 1 <= low < high; got {sizes}.")
        if mean_range[0] > mean_range[1]:
            raise ValueError(
                f"`mean_range` must be (low, high) with low <= high; got {mean_range}."
            )
        if not 0 <= std_range[0] <= std_range[1]:
            raise ValueError(
                f"`std_range` must be (low, high) with 0 <= low <= high; got {std_range}."
            )
        check_at_least(drawn["num_graphs"], "num_graphs", 1)
        settings = {
            "target": target,
            **drawn,
            "mean_range": tuple(map(float, mean_range)),
            "std_range": tuple(map(float, std_range)),
        }
        super().__init__(root, split, seed, settings, transform, force_reload)

    def generate(self, rng: np.random.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        s = self.settings
        count = s["num_graphs"]
        sizes = rng.integers(s["sizes"][0], s["sizes"][1], size=count)
        mean = np.repeat(rng.uniform(s["mean_range"][0], s["mean_range"][1], count), sizes)
        std = np.repeat(rng.uniform(s["std_range"][0], s["std_range"][1], count), sizes)
        x = torch.from_numpy(rng.normal(mean, std)).float()
        ptr = offsets(sizes)
        y = STATISTICS[s["target"]](x.double().numpy(), ptr)
        data = {"x": x.unsqueeze(1), "y": torch.from_numpy(y).float().unsqueeze(1)}
        return data, {"x": torch.from_numpy(ptr), "y": torch.arange(count + 1)}
