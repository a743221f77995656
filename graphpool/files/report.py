"""How good a network is: per class, and how sure that is; for numbers, how far off."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor

from graphpool import _optional, plot


class Report:
    """Counts of how often each class was taken for each.

    Args:
        predicted: Classes ``[N]``.
        labels: True classes ``[N]``, -1 where there is none.
        classes: Names of the classes.
        independent: Whether the items are, as files are and the points of one file are not.

    Attributes:
        counts: ``[K, K]``, a row for each true class.
        recall: Of each class the share that was found ``[K]``, NaN where there is none of it.
        accuracy, macro: The share of right answers, and the mean of ``recall``, which is the ``score``.

    Example:
        >>> print(Report(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 1]), ["cat", "dog"]))
        75.0 % (3 of 4; 95 % interval 30 to 95), mean of the classes 75.0 %, largest class 50.0 %
    """

    def __init__(
        self, predicted: Tensor, labels: Tensor, classes: Sequence[str], independent: bool = True
    ) -> None:
        used = labels >= 0
        if not bool(used.any()):
            raise ValueError("`labels` must hold a label; all are -1.")
        self.classes, size, self.independent = list(classes), len(classes), independent
        cells = labels[used] * size + predicted[used]
        self.predicted, self.labels = predicted[used], labels[used]
        self.counts = cells.bincount(minlength=size * size).view(size, size)
        self.recall = self.counts.diagonal().double() / self.counts.sum(1)
        self.accuracy = float(self.counts.trace() / self.counts.sum())
        self.macro = self.score = float(self.recall.nanmean())

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Wilson's interval for the accuracy, 95 % by default; it asks for independent items."""
        n, p = int(self.counts.sum()), self.accuracy
        middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)

    def __str__(self) -> str:
        n, right = int(self.counts.sum()), int(self.counts.trace())
        low, high = (f"{100 * end:.0f}" for end in self.interval())
        sure = f"; 95 % interval {low} to {high}" if self.independent else ""
        most = 100 * float(self.counts.sum(1).max()) / n
        return (
            f"{100 * right / n:.1f} % ({right} of {n}{sure}), mean of the "
            f"classes {100 * self.macro:.1f} %, largest class {most:.1f} %"
        )

    def table(self) -> str:
        """Recall and number of every class, and what it is mostly taken for."""
        rows = []
        for i, name in enumerate(self.classes):
            number, others = int(self.counts[i].sum()), self.counts[i].clone()
            others[i] = 0
            most = (
                f"{self.classes[int(others.argmax())]} ({int(others.max())})"
                if others.any()
                else ""
            )
            recall = f"{100 * float(self.recall[i]):.1f}" if number else "absent"
            rows.append([name, recall, number, most])
        return format_table(rows, ["class", "recall %", "number", "mostly taken for"])

    def write(self, folder: Path) -> None:
        """``confusion.csv``, and with matplotlib ``confusion.png``: a row for each true class."""
        rows = [[n, *row] for n, row in zip(self.classes, self.counts.tolist(), strict=True)]
        write_csv(folder / "confusion.csv", [["true / predicted", *self.classes], *rows])
        if _optional.has("matplotlib"):
            picture = folder / "confusion.png"
            plot.confusion_matrix(self.predicted, self.labels, self.classes, picture)


class NumberReport:
    """How good predicted numbers are.

    Args:
        predicted, labels: ``[N]``.
        names: Names of the items.

    Attributes:
        mae: Mean absolute error; ``score`` is its negative.
        r2: 1 minus the mean squared error over the variance; NaN where there is none.

    Example:
        >>> print(NumberReport(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0]), ["a", "b", "c"]))
        mean absolute error 0.3333, R² 0.5000 (3 items; a constant: error 0.6667)
    """

    def __init__(self, predicted: Tensor, labels: Tensor, names: Sequence[str]) -> None:
        self.predicted, self.labels, self.names = predicted.double(), labels.double(), list(names)
        error = self.predicted - self.labels
        self.mae = float(error.abs().mean())
        spread = (self.labels - self.labels.mean()).square().mean()
        self.r2 = float(1 - error.square().mean() / spread) if spread > 0 else math.nan
        self.score = -self.mae

    def __str__(self) -> str:
        constant = float((self.labels - self.labels.median()).abs().mean())
        return (
            f"mean absolute error {self.mae:.4g}, R² {self.r2:.4f} ({len(self.labels)} items; a constant: "
            f"error {constant:.4g})"
        )

    def _rows(self) -> list[list[object]]:
        values = zip(self.names, self.labels.tolist(), self.predicted.tolist(), strict=True)
        return [list(row) for row in values]

    def table(self) -> str:
        """The five items with the largest errors."""
        rows = sorted(self._rows(), key=lambda row: -abs(row[1] - row[2]))  # type: ignore[operator]
        cells = [[name, f"{true:.4g}", f"{said:.4g}"] for name, true, said in rows[:5]]
        return format_table(cells, ["largest errors", "true", "predicted"])

    def write(self, folder: Path) -> None:
        """``predictions.csv``."""
        write_csv(folder / "predictions.csv", [["file", "true", "predicted"], *self._rows()])


def format_table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> str:
    """A Markdown table."""
    cells = [[str(value) for value in row] for row in [headers, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [" | ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)) for row in cells]
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])])


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Rows as comma-separated text, quoted where it has to be."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
