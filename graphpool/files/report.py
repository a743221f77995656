"""How good a classifier is: per class, and how sure that is."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
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
        accuracy, macro: The share of right answers, and the mean of ``recall``.

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
        self.macro = float(self.recall.nanmean())

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


def format_table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> str:
    """A Markdown table."""
    cells = [[str(value) for value in row] for row in [headers, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [" | ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)) for row in cells]
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])])


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Rows as comma-separated text, quoted where it has to be."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
