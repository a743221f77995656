"""Bags and clouds in scikit-learn: estimators that clone, validate and search as its own do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graphpool import _optional
from graphpool._arguments import as_count
from graphpool.models import GraphModel, PointNNClassifier
from graphpool.points import PointNN
from graphpool.segments import Segments

_base: Any = _optional.require("sklearn.base", "graphpool.adapters.sklearn")
_targets: Any = _optional.require("sklearn.utils.multiclass", "graphpool.adapters.sklearn")
_utils: Any = _optional.require("sklearn.utils", "graphpool.adapters.sklearn")
_checks: Any = _optional.require("sklearn.utils.validation", "graphpool.adapters.sklearn")


class _OfBags(_base.BaseEstimator):
    """What all estimators here take: ``X`` is a list of arrays ``[n, C]``, or one array ``[B, n, C]``."""

    n_features_in_: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags

    def _bags(self, X: Any, width: int | None = None) -> tuple[Tensor, Segments]:
        """All elements, and the bag of each."""
        rows = [np.asarray(bag) for bag in X]
        for i, bag in enumerate(rows):
            wide = self.n_features_in_ if width is None else width
            fits = bag.ndim == 2 and (wide < 0 or bag.shape[1] == wide)
            if not fits or bag.dtype.kind not in "fiub" or not np.isfinite(bag).all():
                want = "C" if wide < 0 else wide
                raise ValueError(
                    f"`X[{i}]` must be finite numbers [n, {want}]; got {bag.dtype} {bag.shape}."
                )
            width = bag.shape[1]
        if not rows:
            raise ValueError("`X` must hold at least one item; got none.")
        counts = torch.tensor([len(bag) for bag in rows])
        self.n_features_in_ = rows[0].shape[1]
        return torch.from_numpy(np.concatenate(rows)).float(), Segments.from_counts(counts)

    def _labels(self, X: Any, y: Any) -> np.ndarray:
        y = np.asarray(y)
        if y.ndim != 1 or len(y) != len(X):
            raise ValueError(f"`y` must have one entry for each of {len(X)} items; got {y.shape}.")
        if y.dtype.kind == "f" and not np.isfinite(y).all():
            raise ValueError(f"`y` must be finite; got {y[~np.isfinite(y)][0]}.")
        return y

    def _classes(self, X: Any, y: Any) -> Tensor:
        """The number of each label among ``classes_``."""
        y = self._labels(X, y)
        _targets.check_classification_targets(y)
        self.classes_, target = np.unique(y, return_inverse=True)
        return torch.from_numpy(target)


class CloudFeatures(_base.TransformerMixin, _OfBags):
    """Descriptors of point clouds without training (:class:`graphpool.points.PointNN`), for any classifier.

    Args:
        channels: As in :class:`graphpool.points.PointNN`, and so are the others.

    Example:
        >>> clouds = np.random.default_rng(0).normal(size=(4, 50, 3))
        >>> CloudFeatures(channels=12, stages=2, k=8).fit_transform(clouds).shape
        (4, 48)
    """

    def __init__(self, channels: int = 72, stages: int = 4, k: int = 90) -> None:
        self.channels, self.stages, self.k = channels, stages, k

    def fit(self, X: Any, y: Any = None) -> CloudFeatures:
        """Learns nothing, and looks whether these are clouds."""
        self._bags(X, 3)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """``[B, channels * 2 ** stages]``."""
        _checks.check_is_fitted(self, "n_features_in_")
        pos, clouds = self._bags(X, 3)
        encoder = PointNN(self.channels, self.stages, self.k)
        with torch.no_grad():
            return encoder(pos, clouds).numpy()


class CloudClassifier(_base.ClassifierMixin, _OfBags):
    """Point-NN with its memory of training clouds (:class:`graphpool.models.PointNNClassifier`): no training.

    Args:
        channels: As in :class:`graphpool.points.PointNN`, and so are ``stages`` and ``k``.
        gamma: As in :class:`graphpool.models.PointNNClassifier`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> clouds = [rng.normal(size=(60, 3)) * [1, 1, flat] for flat in (1, 0.1) * 6]
        >>> model = CloudClassifier(channels=12, stages=2, k=8).fit(clouds, ["ball", "disc"] * 6)
        >>> model.predict(clouds[:2]).tolist()
        ['ball', 'disc']
    """

    def __init__(
        self, channels: int = 72, stages: int = 4, k: int = 90, gamma: float | None = None
    ) -> None:
        self.channels, self.stages, self.k, self.gamma = channels, stages, k, gamma

    def fit(self, X: Any, y: Any) -> CloudClassifier:
        """Remembers labelled clouds."""
        pos, clouds = self._bags(X, 3)
        target = self._classes(X, y)
        self.model_ = PointNNClassifier(
            len(self.classes_), self.gamma, channels=self.channels, stages=self.stages, k=self.k
        )
        self.model_.remember(pos, target, batch=clouds)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """``[B, K]``, in the order of ``classes_``."""
        _checks.check_is_fitted(self, "model_")
        with torch.no_grad():
            return self.model_(*self._bags(X, 3)).exp().numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each cloud."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]


class _TrainedOnBags(_OfBags):
    """A network on bags, trained by Adam; columns are standardised by the training set."""

    def __init__(
        self,
        pool: Any = ("mean", "max"),
        hidden_channels: int = 64,
        num_layers: int = 2,
        epochs: int = 100,
        lr: float = 0.005,
        batch_size: int = 32,
        random_state: Any = 0,
    ) -> None:
        self.pool, self.hidden_channels, self.num_layers = pool, hidden_channels, num_layers
        self.epochs, self.lr, self.batch_size = epochs, lr, batch_size
        self.random_state = random_state

    def _train(self, X: Sequence[Any], target: Tensor, outputs: int, loss: Any) -> None:
        x, bags = self._bags(X, -1)
        self.mean_, self.scale_ = x.mean(0), x.std(0, correction=0).clamp(min=1e-6)
        epochs, size = as_count(self.epochs, "epochs"), as_count(self.batch_size, "batch_size")
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = _utils.check_random_state(seed).randint(2**31)
        with torch.random.fork_rng([]):
            torch.manual_seed(int(seed))
            pool = list(self.pool) if isinstance(self.pool, tuple) else self.pool
            self.model_: nn.Module = GraphModel(
                x.size(1), self.hidden_channels, outputs, self.num_layers, readout=pool, head="mlp"
            )
            optimizer = torch.optim.Adam(self.model_.parameters(), lr=self.lr)
            self.model_.train()
            for _ in range(epochs):
                for part in torch.randperm(len(bags)).split(size):
                    value = loss(self._output([X[i] for i in part.tolist()]), target[part])
                    optimizer.zero_grad()
                    value.backward()
                    optimizer.step()
        self.model_.eval()

    def _output(self, X: Any) -> Tensor:
        x, bags = self._bags(X)
        edges = torch.zeros(2, 0, dtype=torch.long)
        return self.model_((x - self.mean_) / self.scale_, edges, bags)


class BagClassifier(_base.ClassifierMixin, _TrainedOnBags):
    """A network that classifies bags of vectors; its pool is one argument.

    The network is a :class:`graphpool.models.GraphModel` without edges: layers for each vector, the pool, a
    perceptron. It is trained by Adam on the cross entropy, on the CPU. Columns are standardised by the
    elements of the training set; scalers of tables do not take bags.

    Args:
        pool: What :func:`graphpool.aggr.resolve` takes; several in a tuple.
        hidden_channels: Width.
        num_layers: Layers before the pool.
        epochs: Passes over the training set.
        lr: Learning rate.
        batch_size: Bags per step.
        random_state: Seed of weights and order; the same seed gives the same network. Or what else
            scikit-learn takes, ``None`` for another network each time.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> bags = [rng.normal(size=(rng.integers(3, 9), 2)) + 2 * (i % 2) for i in range(40)]
        >>> model = BagClassifier("gnp", epochs=20).fit(bags, ["low", "high"] * 20)
        >>> model.predict(bags[:2]).tolist()
        ['low', 'high']
    """

    def fit(self, X: Any, y: Any) -> BagClassifier:
        """Trains the network."""
        target = self._classes(X, y)
        self._train(X, target, len(self.classes_), nn.functional.cross_entropy)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """``[B, K]``, in the order of ``classes_``."""
        _checks.check_is_fitted(self, "model_")
        with torch.no_grad():
            return self._output(X).softmax(1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each bag."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]


class BagRegressor(_base.RegressorMixin, _TrainedOnBags):
    """As :class:`BagClassifier`, for one number per bag, trained on mean squares of standardised numbers."""

    def fit(self, X: Any, y: Any) -> BagRegressor:
        """Trains the network."""
        target = torch.from_numpy(self._labels(X, y).astype(np.float32))[:, None]
        self.target_mean_ = target.mean()
        self.target_scale_ = target.std(correction=0).clamp(min=1e-6)
        target = (target - self.target_mean_) / self.target_scale_
        self._train(X, target, 1, nn.functional.mse_loss)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """One number per bag."""
        _checks.check_is_fitted(self, "model_")
        with torch.no_grad():
            return (self._output(X) * self.target_scale_ + self.target_mean_)[:, 0].numpy()
