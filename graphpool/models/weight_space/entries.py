"""The weights and biases of many perceptrons as one table of entries."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import accumulate, pairwise, product

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from graphpool._arguments import as_count, as_indices, check_one_per, what_came
from graphpool.segments import Segments


class Perceptrons:
    """Trained perceptrons, of one architecture or several, as the elements of a data set.

    Args:
        widths: For each architecture the widths of its layers, input and output included; three at least.
        vectors: For each architecture its networks ``[k, n]``: every layer's weight ``[out, in]``, then its
            bias, as :func:`torch.nn.utils.parameters_to_vector` lays them out.
        numbers: For each architecture which networks these are ``[k]``; as they come where it is left out.

    Raises:
        TypeError: The vectors are no floating point tensors.
        ValueError: Widths, vectors and numbers do not fit.

    Example:
        >>> small = [nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1)) for _ in range(2)]
        >>> large = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> networks = Perceptrons.of([*small, large])
        >>> networks, networks[torch.tensor([2, 0])]
        (Perceptrons(3 networks, 1-4-1: 2, 1-8-8-1: 1), Perceptrons(2 networks, 1-4-1: 1, 1-8-8-1: 1))
    """

    def __init__(
        self,
        widths: Sequence[Sequence[int]],
        vectors: Sequence[Tensor],
        numbers: Sequence[Tensor] | None = None,
    ) -> None:
        if any(isinstance(each, int) for each in widths):
            raise TypeError(f"`widths` must hold a sequence for each architecture; got {widths!r}.")
        self.widths = tuple(tuple(as_count(w, "widths") for w in each) for each in widths)
        self.vectors = tuple(vectors)
        if not self.vectors or len(self.widths) != len(self.vectors):
            raise ValueError(
                "`vectors` must have one matrix for each architecture of `widths`, one at least; got "
                f"{len(self.vectors)} for {len(self.widths)}."
            )
        for each, rows in zip(self.widths, self.vectors, strict=True):
            if not isinstance(rows, Tensor) or not rows.is_floating_point():
                raise TypeError(f"`vectors` must be floating point tensors; got {what_came(rows)}.")
            size = sum((a + 1) * b for a, b in pairwise(each))
            if len(each) < 3 or rows.dim() != 2 or rows.size(1) != size:
                raise ValueError(
                    f"`vectors` must have shape [k, {size}] for widths {each}, of which there must be three "
                    f"at least, one of them hidden; got {what_came(rows)}."
                )
        if numbers is None:
            numbers = torch.arange(len(self)).split([len(rows) for rows in self.vectors])
        self.numbers = tuple(numbers)
        held = torch.cat(self.numbers).sort().values
        if [len(n) for n in self.numbers] != [len(v) for v in self.vectors] or not torch.equal(
            held, torch.arange(len(self))
        ):
            raise ValueError(
                f"`numbers` must give each of the {len(self)} networks a number of its own from 0 on; got "
                f"{held.numel()} from {held[:1].tolist()} to {held[-1:].tolist()}."
            )

    @classmethod
    def of(cls, modules: Sequence[nn.Module]) -> Perceptrons:
        """Reads modules: their linear layers, in the order in which they stand in each.

        Raises:
            TypeError: ``modules`` are no sequence of modules.
            ValueError: There are none; or one has fewer than two linear layers, other parameters, a layer
                without a bias or one that stands in it twice, or layers that do not follow on one another.
        """
        alone = isinstance(modules, nn.Module) and not isinstance(modules, nn.ModuleList)
        modules = [] if alone else list(modules)
        if alone or not all(isinstance(m, nn.Module) for m in modules):
            raise TypeError("`modules` must be a list of modules; got one alone, or what is none.")
        if not modules:
            raise ValueError("`modules` must hold a network at least; got none.")
        found: dict[tuple[int, ...], list[int]] = {}
        for number, module in enumerate(modules):
            widths, wrong = _read(module)
            if wrong:
                raise ValueError(
                    "`modules` must be perceptrons: two linear layers or more, with biases, one after the "
                    f"other, and no other parameters; got, at position {number}, {wrong}."
                )
            found.setdefault(widths, []).append(number)
        vectors = [
            torch.stack([parameters_to_vector(modules[i].parameters()).detach() for i in group])
            for group in found.values()
        ]
        return cls(list(found), vectors, [torch.tensor(group) for group in found.values()])

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.vectors)

    def __getitem__(self, index: Tensor) -> Perceptrons:
        """Some of the networks, in the order of ``index`` ``[k]``, integers.

        Raises:
            TypeError: ``index`` does not hold integers.
            IndexError: There is no such network.
        """
        index = as_indices(index, "index").cpu()
        owner, place = (torch.empty(len(self), dtype=torch.long) for _ in range(2))
        for group, numbers in enumerate(self.numbers):
            owner[numbers], place[numbers] = group, torch.arange(len(numbers))
        groups = owner[index]
        chosen = [(groups == g).nonzero().squeeze(1) for g in range(len(self.vectors))]
        kept = [g for g, at in enumerate(chosen) if at.numel()] or [0]
        rows = [place[index[chosen[g]]].to(self.vectors[g].device) for g in kept]
        vectors = [self.vectors[g][at] for g, at in zip(kept, rows, strict=True)]
        return type(self)([self.widths[g] for g in kept], vectors, [chosen[g] for g in kept])

    def to(self, device: torch.device | str) -> Perceptrons:
        """The same networks on another device."""
        return type(self)(self.widths, [rows.to(device) for rows in self.vectors], self.numbers)

    def __repr__(self) -> str:
        kinds = [
            f"{'-'.join(map(str, w))}: {len(v)}"
            for w, v in zip(self.widths, self.vectors, strict=True)
        ]
        return f"{type(self).__name__}({len(self)} networks, {', '.join(kinds)})"


def _read(module: nn.Module) -> tuple[tuple[int, ...], str]:
    """The widths of a perceptron, and why it is none."""
    # Also those that stand in it twice: what is computed twice is not what is written once.
    layers = [
        m for _, m in module.named_modules(remove_duplicate=False) if isinstance(m, nn.Linear)
    ]
    widths = (*(m.in_features for m in layers[:1]), *(m.out_features for m in layers))
    own = {id(p) for m in layers for p in m.parameters(recurse=False)}
    others = [name for name, p in module.named_parameters() if id(p) not in own]
    wrong = ""
    if others:
        wrong = f"a {type(module).__name__} with the parameter '{others[0]}'"
    elif len(layers) < 2:
        wrong = f"a {type(module).__name__} with {len(layers)} linear layers"
    elif any(m.bias is None for m in layers):
        wrong = "a layer without a bias; give it one of zeros"
    elif len(own) < 2 * len(layers):
        wrong = "a layer, or a weight, that stands in it twice"
    elif any(a.out_features != b.in_features for a, b in pairwise(layers)):
        wrong = f"layers that do not follow on one another, {', '.join(map(str, layers))}"
    return widths, wrong


class WeightTable:
    r"""One row for each weight and bias of a batch of perceptrons.

    Hidden neurons are the nodes of a graph, and what joins two of them, the weights of all layers but the
    first and the last, its edges. Inputs and outputs are no nodes, as their order means something: a weight
    that comes from an input, or leads to an output, lies in a *slot* of its hidden neuron, beside the slot
    of the bias. Biases of outputs belong to the whole. The *role* of a row is its layer and its slot or
    output.

    Rows stand in this order: those in slots, those between hidden neurons, layer by layer, biases of outputs.

    Args:
        networks: The perceptrons.
        in_features, out_features, num_layers: As many inputs, outputs and layers as one of them may have.
            What a network has less are roles without rows.

    Attributes:
        x: The values ``[E, 1]``.
        kinds: How many rows are of each kind.
        slots: Of rows in slots: their slot, numbered over all hidden neurons, which stand layer by layer.
        rows, columns: Of rows between hidden neurons: the one they come from, the one they lead to.
        outputs: Of biases of outputs: their output, numbered over all networks.
        shared: Of rows that may be permuted: their role, numbered over all networks.
        roles, places: Of all rows: their role, the same number for all networks, and numbered over all.
        neurons, inner: How many hidden neurons each layer has, and weights between two of them.

    Raises:
        TypeError: ``networks`` are no perceptrons, or a number is no integer.
        ValueError: A network has more.
    """

    def __init__(
        self, networks: Perceptrons, in_features: int, out_features: int, num_layers: int
    ) -> None:
        if not isinstance(networks, Perceptrons):
            raise TypeError(f"`networks` must be Perceptrons; got {what_came(networks)}.")
        most = {"in_features": in_features, "out_features": out_features, "num_layers": num_layers}
        most = {name: as_count(limit, name) for name, limit in most.items()}
        for widths in networks.widths:
            found = (widths[0], widths[-1], len(widths) - 1)
            for (name, limit), has in zip(most.items(), found, strict=True):
                if has > limit:
                    raise ValueError(
                        f"`{name}` must be at least {has}, as a network has so many; got {limit}."
                    )
        self.networks, self.sizes = networks, tuple(most.values())
        slots, depth, size = 1 + in_features + out_features, num_layers - 1, len(networks)
        parts, layers, hidden = [], [], 0
        for widths, vectors, numbers in zip(
            networks.widths, networks.vectors, networks.numbers, strict=True
        ):
            k, device = len(vectors), vectors.device
            per_network = sum(widths[1:-1])
            part = _rows(widths, in_features, slots, depth).to(device).unsqueeze(1).repeat(1, k, 1)
            part[2:4] += hidden + per_network * torch.arange(k, device=device)[:, None]
            part[4] = numbers.to(device)[:, None]
            parts.append(part.flatten(1))
            layer = [i for i, width in enumerate(widths[1:-1]) for _ in range(width)]
            layers.append(torch.tensor(layer, device=device).repeat(k))
            hidden += k * per_network
        by_layer = Segments(index=torch.cat(layers), num_segments=depth)
        order = by_layer.sort_elements(torch.arange(hidden, device=by_layer.device))
        number = torch.empty_like(order).scatter_(
            0, order, torch.arange(hidden, device=order.device)
        )
        table = torch.cat(parts, 1)
        by_kind = Segments(index=table[0], num_segments=depth + 1)
        self.perm = by_kind.sort_elements(torch.arange(table.size(1), device=table.device))
        _, role, row, column, network = table[:, self.perm]
        first, *self.inner, last = by_kind.counts.tolist()
        self.kinds, self.neurons = [first, sum(self.inner), last], by_layer.counts.tolist()
        slotted, free = role[:first], table.size(1) - last
        shared = depth * (slots + 1) - 1
        total = shared + out_features
        values = torch.cat([rows.flatten() for rows in networks.vectors])
        self.x = values[self.perm].unsqueeze(1)
        self.slots = Segments(
            index=number[row[:first]] * slots + slotted % slots, num_segments=hidden * slots
        )
        self.rows = Segments(index=number[row[first:free]], num_segments=hidden)
        self.columns = Segments(index=number[column[first:free]], num_segments=hidden)
        self.outputs = Segments(
            index=network[free:] * out_features + role[free:] - shared,
            num_segments=size * out_features,
        )
        self.shared = Segments(index=(network * shared + role)[:free], num_segments=size * shared)
        self.roles = Segments(index=role, num_segments=total)
        self.places = Segments(index=network * total + role, num_segments=size * total)

    def unpack(self, y: Tensor) -> list[Tensor]:
        """Rows ``[E, C]`` as one ``[n, C]`` for each network, in the layout of :class:`Perceptrons`.

        Raises:
            ValueError: There are more rows, or fewer.
        """
        check_one_per("entry", len(self.perm), "y", y.size(0))
        flat = torch.empty_like(y).index_copy(0, self.perm, y)
        found: dict[int, Tensor] = {}
        groups = self.networks.vectors
        parts = flat.split([rows.numel() for rows in groups])
        for part, rows, numbers in zip(parts, groups, self.networks.numbers, strict=True):
            found.update(zip(numbers.tolist(), part.view(*rows.shape, -1), strict=True))
        return [found[number] for number in range(len(self.networks))]


@functools.lru_cache(maxsize=256)
def _rows(widths: tuple[int, ...], in_features: int, slots: int, depth: int) -> Tensor:
    """Kind, role, the neurons at both ends, and room for the network, ``[5, n]``."""
    last, found = len(widths) - 2, []
    begin = [0, *accumulate(widths[1:-1], initial=0)]
    for layer, (ins, outs) in enumerate(pairwise(widths)):
        for c, r in product(range(outs), range(ins)):
            if layer == 0:
                found.append((0, 1 + r, begin[1] + c, 0, 0))
            elif layer == last:
                role = (last - 1) * slots + 1 + in_features + c
                found.append((0, role, begin[last] + r, 0, 0))
            else:
                role = depth * slots + layer - 1
                found.append((layer, role, begin[layer] + r, begin[layer + 1] + c, 0))
        for c in range(outs):
            if layer == last:
                found.append((depth, depth * (slots + 1) - 1 + c, 0, 0, 0))
            else:
                found.append((0, layer * slots, begin[layer + 1] + c, 0, 0))
    return torch.tensor(found).t().contiguous()
