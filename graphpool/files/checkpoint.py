"""Checkpoints that say what is in them, and predictions from them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from tqdm import tqdm

from graphpool._recorded import made_with
from graphpool._version import __version__
from graphpool.files.describing import changes, from_plain, to_plain
from graphpool.files.reader import Files, Item
from graphpool.io import load_tensors

_KIND, _FORMAT = "graphpool checkpoint", 1


class Prediction(NamedTuple):
    """What a network says of one item.

    Attributes:
        name: The file, with ``#3`` behind it in a file of several.
        probabilities: ``[K]``, or ``[N, K]`` for the N elements of the file.
        classes: The names of the K classes.
        value: The number, where one is predicted; then there are no classes.
    """

    name: str
    probabilities: Tensor
    classes: list[str]
    value: float | None = None

    @property
    def label(self) -> Tensor:
        """The position of the most probable class, one, or ``[N]``."""
        return self.probabilities.argmax(-1)

    def in_words(self) -> str:
        """What is said of a whole item: its class and the probability of that, or its number."""
        if self.value is not None:
            return f"{self.value:.6g}"
        return f"{self.word}  {self.probabilities.max():.4f}"

    @property
    def word(self) -> Any:
        """The name of the most probable class, or a list of N."""
        found = [self.classes[i] for i in self.label.view(-1).tolist()]
        return found if self.probabilities.dim() > 1 else found[0]


class Predictor:
    """A trained network and all that it takes to use it on a file.

    Args:
        model: The network.
        files: What reads files for it, if that is known.
        classes: Names of the classes, likewise.
        about: Whatever else should be known, in plain values.

    Attributes:
        version: The version of graphpool that wrote it.
    """

    def __init__(
        self,
        model: nn.Module,
        files: Files | None = None,
        classes: Sequence[str] | None = None,
        about: dict[str, Any] | None = None,
        version: str = __version__,
    ) -> None:
        self.model, self.files, self.about, self.version = model, files, about or {}, version
        self.classes = None if classes is None else list(classes)

    def reading(self) -> tuple[Files, list[str]]:
        """What reads files for the network, and the classes.

        Raises:
            ValueError: It was saved without.
        """
        numbers = self.files is not None and self.files.target == "regression"
        if self.files is None or (self.classes is None and not numbers):
            raise ValueError(
                "This checkpoint says neither how files are read nor what classes there are: save it with "
                "`preprocess` and `classes`, or call its `model`."
            )
        return self.files, self.classes or []

    def facts(self) -> dict[str, str]:
        """Network, classes, and what of reading the files differs from the usual, in words."""
        model, files = self.model, self.files
        made = ", ".join(f"{name}={value}" for name, value in (made_with(model) or {}).items())
        count = sum(p.numel() for p in model.parameters())
        said = {
            "network": f"{type(model).__name__}({made}), {count:,} parameters",
            "graphpool": self.version,
            "classes": ", ".join(self.classes or ["not said"]),
        }
        if files is not None:
            said["files"] = files.kind
            for option in fields(files):
                if (value := getattr(files, option.name)) != option.default:
                    said[option.name] = ", ".join(getattr(value, "names", [str(value)]))
        return said | {name: str(v) for name, v in self.about.items() if name != "seen"}

    def predict(self, path: str | Path) -> list[Prediction]:
        """Probabilities of the classes for every item of a file, or for its elements.

        Items go through the network one by one: what is said of one does not depend on others.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file cannot be read, or is not of the kind that the network was trained on.
        """
        return [self.of_item(item) for item in self.reading()[0].read(Path(path))]

    def of_item(self, item: Item) -> Prediction:
        """:meth:`predict` for one item that was read."""
        files, classes = self.reading()
        scores = self.scores(item)
        if not classes:
            return Prediction(item.name, scores[:0], classes, float(scores))
        if item.back is not None and files.labels is not None:
            scores = scores[torch.from_numpy(item.back)]
        return Prediction(item.name, scores, classes)

    @torch.no_grad()
    def scores(self, item: Item) -> Tensor:
        """Probabilities for an item ``[K]``, or for each element that the network sees ``[N, K]``; or a
        number ``[1]``."""
        files, classes = self.reading()
        self.model.eval()
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        data = files.data(item)
        outputs = len(classes) or 1
        total = torch.zeros(1 if files.labels is None else int(data.num_nodes or 0), outputs)
        views = tqdm(files.views(data), "views", files.num_views(data), leave=False, delay=2)
        for view, rows in views:
            logits = files.forward(self.model, Batch.from_data_list([view]).to(device))
            if logits.size(1) != outputs:
                raise ValueError(
                    f"The network has {logits.size(1)} outputs for {len(classes)} classes."
                )
            if files.unit is not None and not classes:
                return logits[0].cpu().double() * files.unit[1] + files.unit[0]
            rows = torch.arange(len(logits)) if rows is None else rows
            total.index_add_(0, rows, logits.softmax(1).to(total))
        total /= total.sum(1, keepdim=True)
        return total[0] if files.labels is None else total


def save(
    model: nn.Module,
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    preprocess: Files | None = None,
    about: dict[str, Any] | None = None,
) -> None:
    """Writes a network to a file that says all it takes to load it: no code, no pickle.

    The file holds the class of the network and its arguments, pools included, the weights, the classes, how
    files are read, and the version of graphpool. Before it is written, the network is made from it again.

    Args:
        model: A network of :mod:`graphpool.models`, or of a class with :func:`graphpool.savable`.
        path: Where to; missing folders are made, and an interruption leaves what was there.
        classes: Names of the classes, in the order of the outputs; ``None`` or none for a predicted number.
        preprocess: What reads files for it, such as :class:`graphpool.files.PointFiles`.
        about: Whatever else should be known, in plain values.

    Raises:
        ValueError: The network cannot be described, or was changed after it was made; the message says what
            and how to go on.

    Example:
        >>> import tempfile
        >>> from graphpool.models import GraphModel
        >>> path = Path(tempfile.mkdtemp()) / "model.pt"
        >>> save(GraphModel(5, 8, 2, readout="gnp"), path, classes=["cat", "dog"])
        >>> load(path).classes, type(load(path).model).__name__
        (['cat', 'dog'], 'GraphModel')
    """
    classes = list(classes or ()) or None
    stored = {
        "kind": _KIND, "format": _FORMAT, "version": __version__, "model": to_plain(model, "The network"),
        "state": {name: value.detach().cpu().clone() for name, value in model.state_dict().items()},
        "preprocess": to_plain(preprocess, "`preprocess`"), "about": to_plain(about or {}, "`about`"),
        "classes": None if classes is None else [str(name) for name in classes],
    }  # fmt: skip
    arguments = made_with(model) or {}
    outputs = arguments.get("num_classes", arguments.get("out_channels"))
    if classes is not None and outputs not in (None, len(classes)):
        raise ValueError(f"`classes` must name the {outputs} outputs; got {len(classes)} names.")
    if changed := changes(model, _rebuilt(stored)):
        raise ValueError(
            f"{type(model).__name__} was changed after it was made: {'; '.join(changed[:3])}. Give these as "
            f"arguments, or write a class of your own with @graphpool.savable."
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    torch.save(stored, part)
    os.replace(part, path)


def load(path: str | Path, device: torch.device | str = "cpu") -> Predictor:
    """The network of a file that :func:`save` wrote, with its classes and what reads files for it.

    Nothing is unpickled. Pools and networks of your own have to be imported before.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, no checkpoint of graphpool, of a newer format, or needs what is not
            there; the message says which in one line.
    """
    path = Path(path)
    near = path / "model.pt" if path.is_dir() else path.with_name("model.pt")
    where = "in it" if path.is_dir() else "beside it"
    hint = f"; {near} {where} may be one" if near != path and near.is_file() else ""
    if path.is_dir():
        raise ValueError(f"{path} is a folder, no checkpoint that graphpool.save wrote{hint}.")
    try:
        stored = load_tensors(path)
    except ValueError as error:
        raise ValueError(
            f"{str(error).rstrip('.')}. A model is a file that training or graphpool.save has written{hint}."
        ) from None
    if not isinstance(stored, dict) or stored.get("kind") != _KIND:
        held = (
            ", ".join(map(str, list(stored)[:4]))
            if isinstance(stored, dict)
            else type(stored).__name__
        )
        raise ValueError(
            f"{path} is no checkpoint that graphpool.save wrote; it holds {held}{hint}."
        )
    by = f"it was written by graphpool {stored.get('version')}, and this is {__version__}"
    if stored.get("format") != _FORMAT:
        raise ValueError(f"{path} is in format {stored.get('format')}, not {_FORMAT}: {by}.")
    try:
        model = _rebuilt(stored).to(device).eval()
        about, files = from_plain(stored["about"]), from_plain(stored["preprocess"])
        return Predictor(model, files, stored["classes"], about, stored["version"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
        if "Unknown aggregation" in reason:
            reason = f"{reason.partition('. ')[0]}: import the module that registers it first"
        end = "" if stored.get("version") == __version__ else f"; {by}"
        raise ValueError(f"{path} cannot be loaded: {reason}{end}.") from None


def _rebuilt(stored: dict[str, Any]) -> nn.Module:
    """The network of a description with its weights, in the precision that they have.

    Raises:
        ValueError: They do not fit; one line says where.
    """
    model, state = from_plain(stored["model"]), stored["state"]
    kinds = {value.dtype for value in state.values() if value.is_floating_point()}
    if len(kinds) == 1:
        model.to(kinds.pop())
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).split("\n") if line.strip()]
        raise ValueError(f"The weights do not fit {type(model).__name__}: {lines[-1]}") from None
    for name, value in model.state_dict().items():
        if value.dtype != state[name].dtype:
            raise ValueError(
                f"The weight {name} is {state[name].dtype}; it would become {value.dtype}."
            )
    return model
