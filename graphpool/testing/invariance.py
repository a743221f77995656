"""What a bag's result may not depend on."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool.aggr.multi import Multi
from graphpool.segments import Segments
from graphpool.testing.samples import close, gradients, in_double, pooled, sample, trainable


def assert_permutation_invariant(aggr: torch.nn.Module, channels: int) -> None:
    """The order of the elements does not matter."""
    aggr, x, segments = in_double(aggr, channels)
    expected = pooled(aggr, x, segments)
    for seed in range(3):
        order = torch.randperm(x.size(0), generator=torch.Generator().manual_seed(seed))
        shuffled = Segments(index=segments.index[order], num_segments=len(segments))
        close(pooled(aggr, x[order], shuffled), expected)


def assert_unsorted_index_agrees(aggr: torch.nn.Module, channels: int) -> None:
    """Elements may come in any order of their bags, as long as the order within each bag is kept."""
    aggr, x, segments = in_double(aggr, channels)
    expected = pooled(aggr, x, segments)
    # Bags dealt out round robin: within a bag the order stays.
    place = torch.arange(x.size(0)) - segments.ptr[segments.index]
    order = torch.argsort(place * len(segments) + segments.index)
    index = segments.index[order]
    close(pooled(aggr, x[order], index, dim_size=len(segments)), expected)
    close(pooled(aggr, x[order], index.int(), dim_size=len(segments)), expected)


def assert_batch_independent(aggr: torch.nn.Module, channels: int) -> None:
    """A bag's result is the same alone, in a batch, and whatever the others hold."""
    aggr, x, segments = in_double(aggr, channels)
    together = aggr(x, segments)
    y = pooled(aggr, x, segments)
    others = x * 1e3
    for bag in range(len(segments)):
        rows = slice(int(segments.ptr[bag]), int(segments.ptr[bag + 1]))
        alone = pooled(aggr, x[rows], torch.zeros(rows.stop - rows.start).long(), dim_size=1)
        expected = y[bag : bag + 1]
        if isinstance(together, tuple) and isinstance(together[1], Segments):
            expected = expected[:, : alone.size(1)]
        close(alone, expected, rtol=1e-9, atol=1e-11)
        if rows.stop == rows.start:
            continue
        changed = others.clone()
        changed[rows] = x[rows]
        close(pooled(aggr, changed, segments)[bag], y[bag], rtol=1e-9, atol=1e-11)
        changed = torch.full_like(x, torch.nan)
        changed[rows] = x[rows]
        close(pooled(aggr, changed, segments)[bag], y[bag], rtol=1e-9, atol=1e-11)


def assert_neighbors_do_not_matter(aggr: torch.nn.Module, channels: int) -> None:
    """Enormous values and weights in the other bags of a batch, or odd ones, change nothing in a bag."""
    aggr, x, segments = in_double(aggr, channels)
    place = torch.arange(x.size(0))
    weights = [1 + place % 3]
    # Pools that give a smaller bag count elements: neither parts of one nor 1e20.
    loud = 50 if getattr(aggr, "ragged", False) else 1e20
    if loud > 50:
        weights.append((1 + place % 5) / 10)
    for weight in weights:
        weight = weight.double()
        for bag in range(len(segments)):
            own = segments.index == bag
            if not own.any():
                continue
            one_bag = torch.zeros(int(own.sum()), dtype=torch.long)
            alone = pooled(aggr, x[own], one_bag, dim_size=1, weight=weight[own])
            high, heavy = torch.where(own[:, None], x, 1e100 * x), torch.where(own, weight, loud)
            for elements, times in ((x, weight), (high, weight), (x, heavy), (high, heavy)):
                y = pooled(aggr, elements, segments, weight=times)[bag : bag + 1]
                if getattr(aggr, "ragged", False):
                    y = y[:, : alone.size(1)]
                # Some have no value for parts of an element, alone or not.
                close(y, alone, rtol=1e-9, atol=1e-11, nan=True)


def assert_absent_elements_leave_no_trace(aggr: torch.nn.Module, channels: int) -> None:
    """An element of weight 0 is absent, whatever it holds: from the result and from every gradient."""
    aggr, x, segments = in_double(aggr, channels)
    weight = torch.tensor([1, 0, 2, 0, 1, 3, 0, 1, 2, 0, 1])
    there = weight > 0
    learned = tuple(trainable(aggr).values())
    present = x[there].requires_grad_()
    index = segments.index[there]
    y = pooled(aggr, present, index, dim_size=len(segments), weight=weight[there])
    wanted = gradients(y, present, *learned)
    for held in (torch.nan, torch.inf, -torch.inf, 1e300):
        for channel in (slice(None), slice(0, 1)):
            elements = x.clone()
            elements[~there, channel] = held
            elements.requires_grad_()
            found = pooled(aggr, elements, segments, weight=weight)
            close(found, y)
            slope, *others = gradients(found, elements, *learned)
            close(slope[there], wanted[0])
            close(slope[~there], torch.zeros_like(slope[~there]), rtol=0, atol=0)
            for a, b in zip(others, wanted[1:], strict=True):
                close(a, b)
    _assert_learned_weights_of_0_leave_no_trace(aggr, x, segments, weight.double())
    if getattr(aggr, "supports_gather", False):
        _assert_absent_rows_leave_no_trace(aggr, x, segments, weight)


def _assert_learned_weights_of_0_leave_no_trace(
    aggr: torch.nn.Module, x: Tensor, segments: Segments, weight: Tensor
) -> None:
    """The same where the weights are differentiated, and what is absent and finite is kept for it."""
    there = weight > 0
    plain, w = x[there].requires_grad_(), weight[there].requires_grad_()
    y = pooled(aggr, plain, segments.index[there], dim_size=len(segments), weight=w)
    wanted = gradients(y, plain, w)
    for held in (torch.nan, torch.inf, -1e15):
        elements, w = x.clone(), weight.clone().requires_grad_()
        elements[~there] = held
        found = pooled(aggr, elements.requires_grad_(), segments, weight=w)
        close(found, y)
        slope, by_weight = gradients(found, elements, w)
        close(slope[there], wanted[0])
        close(slope[~there], torch.zeros_like(slope[~there]), rtol=0, atol=0)
        close(by_weight[there], wanted[1])


def _assert_absent_rows_leave_no_trace(
    aggr: torch.nn.Module, x: Tensor, segments: Segments, weight: Tensor
) -> None:
    """The same for rows read in place: one that nobody else reads, and one that another bag does."""
    learned = tuple(trainable(aggr).values())
    rows = torch.tensor([0, 1, 2, 3, 4, 5, 0, 2, 4, 3, 5])
    there = weight > 0
    held = x[:6].clone()
    held[[1, 3]] = torch.nan  # absent elements alone read them
    held.requires_grad_()
    y = pooled(aggr, held, segments, weight=weight, gather=rows)
    plain = held.detach()[rows][there].requires_grad_()
    index = segments.index[there]
    expected = pooled(aggr, plain, index, dim_size=len(segments), weight=weight[there])
    close(y, expected)
    slope, *others = gradients(y, held, *learned)
    per_element, *wanted = gradients(expected, plain, *learned)
    close(slope, torch.zeros_like(held).index_add(0, rows[there], per_element))
    for a, b in zip(others, wanted, strict=True):
        close(a, b)
    # Row 0 is read by an element of one bag, and by an absent one of another.
    mixed = held.detach().clone()
    mixed[0] = torch.inf
    y = pooled(aggr, mixed, segments, weight=weight, gather=rows)
    plain = mixed[rows][there]
    close(y, pooled(aggr, plain, index, dim_size=len(segments), weight=weight[there]), nan=True)


def assert_segment_forms_agree(aggr: torch.nn.Module, channels: int) -> None:
    """Index, offsets, bags and padded form give the same, infinities and NaN included."""
    aggr, x, segments = in_double(aggr, channels)
    special = x.clone()
    special[0, 0], special[4, -1], special[8, 0] = torch.inf, -torch.inf, torch.nan
    for elements in (x, special):
        nan = elements is special
        expected = pooled(aggr, elements, segments.index, dim_size=len(segments))
        close(pooled(aggr, elements, ptr=segments.ptr), expected, nan=nan)
        close(pooled(aggr, elements, segments), expected, nan=nan)
        close(pooled(aggr, elements, segments.index, ptr=segments.ptr), expected, nan=nan)
        mask = torch.arange(int(segments.counts.max())) < segments.counts[:, None]
        padded = elements.new_zeros(*mask.shape, channels)
        padded[mask] = elements
        close(pooled(aggr, padded[mask], Segments.from_padded(mask)), expected, nan=nan)
    one_bag = torch.zeros(x.size(0), dtype=torch.long)
    close(pooled(aggr, x), pooled(aggr, x, one_bag, dim_size=1))


def assert_weights_repeat(aggr: torch.nn.Module, channels: int) -> None:
    """An integer weight does what so many copies of the element do; 0 removes it."""
    aggr, x, segments = in_double(aggr, channels)
    weight = torch.tensor([1, 2, 3, 4, 1, 0, 2, 1, 3, 0, 2])
    copies = torch.arange(x.size(0)).repeat_interleave(weight)
    repeated = Segments(index=segments.index[copies], num_segments=len(segments))
    expected = pooled(aggr, x[copies], repeated)
    close(pooled(aggr, x, segments, weight=weight), expected)
    close(pooled(aggr, x, segments, weight=weight.double()), expected)
    ones = torch.ones(x.size(0))
    close(pooled(aggr, x, segments, weight=ones), pooled(aggr, x, segments))
    nothing = pooled(aggr, x, segments, weight=0 * ones)
    if not (nothing == 0).all():
        raise AssertionError("Bags whose elements all have weight 0 must give 0.")


def assert_deterministic(aggr: torch.nn.Module, channels: int) -> None:
    """The same bits every time, whatever the number of threads, backward included."""
    x, segments = sample(channels, (300, 0, 1, 700) * 4, torch.float32)
    order = torch.randperm(x.size(0), generator=torch.Generator().manual_seed(1))
    x, index = x[order], segments.index[order]
    aggr = aggr.float()
    threads = torch.get_num_threads()
    runs = []
    try:
        for number in (1, 2, 2):
            torch.set_num_threads(number)
            leaf = x.clone().requires_grad_()
            y = pooled(aggr, leaf, index, dim_size=len(segments))
            (grad,) = torch.autograd.grad(y.square().sum(), leaf)
            runs.append((y.detach(), grad))
    finally:
        torch.set_num_threads(threads)
    close(runs[1][0], runs[2][0], rtol=0, atol=0)
    close(runs[1][1], runs[2][1], rtol=0, atol=0)
    # Matrix products of learnable pools are split differently among more threads.
    close(runs[0][0], runs[1][0], rtol=1e-4, atol=1e-5)


def assert_duplicates_agree(aggr: torch.nn.Module, channels: int) -> None:
    """Twice in a :class:`~graphpool.aggr.Multi`, it gives twice the same."""
    aggr, x, segments = in_double(aggr, channels)
    y = pooled(aggr, x, segments)
    twice = Multi(members=[aggr, aggr])(x, segments)
    close(twice, torch.cat([y, y], dim=-1))


def assert_ties_share_the_gradient(aggr: torch.nn.Module, channels: int) -> None:
    """Equal elements get equal, finite gradients."""
    x, segments = sample(channels, (1, 4, 0, 2))
    x = x[segments.ptr[:-1].clamp(max=x.size(0) - 1)][segments.index].requires_grad_()
    aggr = aggr.double()
    y = pooled(aggr, x, segments)
    (grad,) = torch.autograd.grad(y.sum(), x)
    if not grad.isfinite().all():
        raise AssertionError(f"The gradient of equal elements must be finite; got {grad}.")
    first = grad[segments.ptr[:-1].clamp(max=x.size(0) - 1)][segments.index]
    close(grad, first)
