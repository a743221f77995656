"""A network that reads other networks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from graphpool._arguments import as_count, check_one_of, what_came
from graphpool._recorded import savable
from graphpool.models.weight_space.entries import Perceptrons, WeightTable
from graphpool.models.weight_space.layers import DWSLayer, RoleNorm, Summary, num_roles
from graphpool.nn import reset


@savable
class DWSNet(nn.Module):
    r"""Predicts something of perceptrons from their weights and biases, or new values of these.

    Hidden neurons of the networks that are read may be permuted: what is said of a network stays the same,
    and what is said of its entries is permuted alike. Their inputs and outputs keep their meaning. Networks
    of different widths and depths may come in one batch, and one does not change what is said of another
    (with ``norm="batch"``, in evaluation mode).

    ``pool="max"`` is one of the original forms (Navon et al., "Equivariant architectures for learning in deep
    weight spaces", ICML 2023); any pool will do.

    Args:
        in_features, out_features, num_layers: As many inputs, outputs and layers (two or more) as one of the
            networks that are read may have.
        hidden_channels: Features of each weight and bias.
        out_channels: What is predicted, for each network.
        pool: Pool over the weights that arrive at a neuron, that leave it, and over a layer: a name, class or
            module.
        num_blocks: Layers of this network.
        per_entry: Predict ``out_channels`` for each weight and bias instead.
        norm: ``"batch"``, for the tensors of each layer apart, that of the input too, or ``None``.
        dropout: Share of the features that are left out in training, in [0, 1).
        pool_kwargs: Arguments of the pool, where ``pool`` names or is a class.

    Raises:
        ValueError: An argument is not one of those above; the message names it.

    Example:
        >>> from graphpool.models.weight_space import Perceptrons
        >>> def network(width):
        ...     return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1))
        >>> networks = Perceptrons.of([network(4), network(8)])
        >>> model = DWSNet(2, 1, 2, hidden_channels=8, out_channels=5, pool="gnp").eval()
        >>> model(networks).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_layers: int,
        hidden_channels: int,
        out_channels: int,
        pool: Any = "max",
        *,
        num_blocks: int = 3,
        per_entry: bool = False,
        norm: str | None = "batch",
        dropout: float = 0.0,
        pool_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"`dropout` must lie in [0, 1); got {dropout}.")
        check_one_of(norm, "norm", ("batch", None))
        sizes = (in_features, out_features, num_layers)
        hidden = as_count(hidden_channels, "hidden_channels")
        widths = [1] + as_count(num_blocks, "num_blocks") * [hidden]
        if per_entry:
            widths[-1] = out_channels
        given: dict[str, Any] = {"pool": pool, "pool_kwargs": pool_kwargs}
        pairs = zip(widths, widths[1:], strict=False)
        self.layers = nn.ModuleList(DWSLayer(a, b, *sizes, **given) for a, b in pairs)
        roles = num_roles(*sizes)
        self.norms = nn.ModuleList(
            RoleNorm(a, roles) for a in widths[: -1 if per_entry else None] if norm
        )
        self.dropout, self.sizes, self.per_entry = nn.Dropout(dropout), sizes, per_entry
        if not per_entry:
            self.summary = Summary(widths[-1], *sizes, **given)
            self.head = nn.Linear(self.summary.out_channels, as_count(out_channels, "out_channels"))

    def reset_parameters(self) -> None:
        """Restores the initial parameters of all parts."""
        reset(*self.children())

    def table(self, networks: Perceptrons) -> WeightTable:
        """The table of entries that this network reads, which may serve more than once."""
        return WeightTable(networks, *self.sizes)

    def forward(self, networks: Perceptrons | WeightTable) -> Tensor:
        """What is predicted.

        Args:
            networks: The perceptrons, or the table of their entries.

        Returns:
            ``[B, out_channels]``; with ``per_entry`` ``[E, out_channels]``, rows of the table, which
            :meth:`WeightTable.unpack` gives back to the networks.

        Raises:
            TypeError: It is neither.
            ValueError: A network has more inputs, outputs or layers than this one was made for.
        """
        if not isinstance(networks, (Perceptrons, WeightTable)):
            raise TypeError(
                f"`networks` must be Perceptrons or a WeightTable; got {what_came(networks)}."
            )
        table = networks if isinstance(networks, WeightTable) else self.table(networks)
        if table.sizes != self.sizes:
            raise ValueError(
                f"`networks` must be a table for in_features, out_features, num_layers = {self.sizes}; got "
                f"one for {table.sizes}."
            )
        x = self.norms[0](table.x, table.roles) if self.norms else table.x
        for i, layer in enumerate(self.layers):
            if i:
                x = self.norms[i](x, table.roles) if self.norms else x
                x = self.dropout(x.relu())
            x = layer(x, table)
        if self.per_entry:
            return x
        x = self.norms[-1](x, table.roles) if self.norms else x
        return self.head(self.summary(self.dropout(x.relu()), table))
