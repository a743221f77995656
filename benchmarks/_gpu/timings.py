"""How long it takes, beside what a user would pick instead."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from gin_epoch import Gin, PygGin, same_start
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.nn import aggr as pyg
from torch_geometric.utils import scatter, softmax

from _gpu.run import Item, Run, differentiated, found
from graphpool import Segments, aggr, ops
from graphpool.ops.neighbors import fps, interpolate, knn, radius, voxel_segments
from graphpool.points import PointNN


def _compiled(call: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(call, dynamic=False)


def copy(run: Run) -> Iterator[Item]:
    """What the memory of the device allows."""

    def measure() -> dict[str, Any]:
        x = torch.empty(run.pick(1 << 27, 1 << 24, 1 << 16), device=run.device)
        y = torch.empty_like(x)
        ms = run.milliseconds(lambda: y.copy_(x))
        return {"ms": ms, "GB/s": 2 * x.nbytes / ms / 1e6}

    yield "copy of the device", measure


def reductions(run: Run) -> Iterator[Item]:
    """Each op on sorted, unsorted and gathered elements, forward alone and with its gradient."""
    elements = run.pick(4_000_000, 200_000, 64)
    channels, bags = 64 if not run.interpreted else 4, elements // 16
    scatter_package = found("torch_scatter")
    for layout in run.pick(
        ("sorted", "gathered", "unsorted"), ("sorted", "gathered"), ("gathered",)
    ):
        state: dict[str, Any] = {}

        def data(layout=layout, state=state) -> tuple[Any, ...]:
            if not state:
                g = run.seeded()
                index = torch.randint(bags, (elements,), generator=g)
                index = (index.sort()[0] if layout == "sorted" else index).to(run.device)
                rows = bags if layout == "gathered" else elements
                gather = (torch.randint(rows, (elements,), generator=g)).to(run.device)
                segments = Segments(index=index, num_segments=bags)
                sources = (
                    Segments(index=gather, num_segments=rows) if layout == "gathered" else None
                )
                x = (torch.rand(rows, channels, generator=g) + 0.1).to(run.device).requires_grad_()
                segments.ptr, segments.perm  # noqa: B018
                state["made"] = index, segments, gather, sources, x
            return state["made"]

        every = ("sum", "mean", "max", "var", "softmax", "power")
        for name in run.pick(every, every, ("max", "softmax")):

            def measure(name=name, layout=layout, data=data) -> dict[str, Any]:
                index, segments, gather, sources, x = data()
                ours = aggr.resolve(
                    {"softmax": "softmax", "power": "gnp"}.get(name, name), channels=channels
                ).to(run.device)
                theirs: Any = {
                    "sum": pyg.SumAggregation, "mean": pyg.MeanAggregation, "max": pyg.MaxAggregation,
                    "var": pyg.VarAggregation,
                    "softmax": lambda: pyg.SoftmaxAggregation(learn=True),
                    "power": lambda: pyg.PowerMeanAggregation(learn=True),
                }[name]().to(run.device)  # fmt: skip
                more = {"gather": sources} if sources is not None else {}

                def read() -> Tensor:
                    return x.index_select(0, gather) if sources is not None else x

                def graphpool() -> Tensor:
                    return ours(x, segments, **more)

                def eager() -> Tensor:
                    return theirs(read(), index, dim_size=bags)

                rivals = {"graphpool": graphpool, "PyG": eager}
                if scatter_package is not None and name in ("sum", "mean", "max"):
                    reduce = getattr(scatter_package, f"scatter_{name}")

                    def torch_scatter() -> Tensor:
                        y = reduce(read(), index, 0, dim_size=bags)
                        return y[0] if isinstance(y, tuple) else y

                    rivals["torch-scatter"] = torch_scatter
                grad = torch.rand(graphpool().shape, device=run.device)
                row: dict[str, Any] = {}
                with torch.no_grad():
                    row |= {f"forward: {k}": v for k, v in run.race(rivals).items()}
                # A compilation takes longer than everything else here.
                if layout != "unsorted" and not run.interpreted:
                    rivals["PyG compiled"] = _compiled(eager)
                modules = {"graphpool": ours}
                both = {
                    label: differentiated(call, [x, *modules.get(label, theirs).parameters()], grad)
                    for label, call in rivals.items()
                }
                row |= {f"with gradient: {k}": v for k, v in run.race(both).items()}
                # What has to be read and written: elements once, results once, indices once.
                read_bytes = elements * channels * 4 + 8 * elements * (layout != "sorted")
                row["forward bytes"] = read_bytes + grad.nbytes
                return row

            yield f"{name} {layout}", measure


def attention(run: Run) -> Iterator[Item]:
    """Softmax attention over the edges of a graph: scores of queries and keys, weighted sums of values.

    The shapes are ours, after the graphs of weather models: a refined icosahedron with the edges of all
    its levels, and grid points that send to the nodes of a mesh.
    """
    graphs = run.pick(
        {"multi-mesh": (40_962, 40_962, 327_660), "grid to mesh": (1_038_240, 40_962, 1_618_824)},
        {"multi-mesh": (10_242, 10_242, 81_900)},
        {"multi-mesh": (12, 12, 40)},
    )
    width = 512 if not run.interpreted else 8
    for graph, (senders, receivers, edges) in graphs.items():
        for heads in (4, 16) if not run.interpreted else (2,):

            def measure(
                senders=senders, receivers=receivers, edges=edges, heads=heads
            ) -> dict[str, Any]:
                g = run.seeded()
                src = torch.randint(senders, (edges,), generator=g).to(run.device)
                dst = torch.randint(receivers, (edges,), generator=g).sort()[0].to(run.device)
                q = torch.randn(receivers, width, generator=g)
                k, v = (torch.randn(senders, width, generator=g) for _ in range(2))
                q, k, v = (t.to(run.device).requires_grad_() for t in (q, k, v))
                segments = Segments(index=dst, num_segments=receivers)
                sources = Segments(index=src, num_segments=senders)
                segments.ptr, sources.ptr, sources.perm  # noqa: B018
                scale = 1 / math.sqrt(width // heads)

                def scores(q: Tensor, k: Tensor) -> Tensor:
                    pairs = q.index_select(0, dst) * k.index_select(0, src)
                    return pairs.unflatten(1, (heads, -1)).sum(2) * scale

                def ours(scores: Callable[[Tensor, Tensor], Tensor] = scores) -> Tensor:
                    return ops.segment_softmax_sum(scores(q, k), v, segments, gather=sources)

                def theirs() -> Tensor:
                    a = softmax(scores(q, k), dst, num_nodes=receivers)
                    messages = v.index_select(0, src).unflatten(1, (heads, -1)) * a[..., None]
                    return scatter(messages.flatten(1), dst, 0, receivers, "sum")

                fast = _compiled(scores)
                rivals = {
                    "graphpool, scores compiled": lambda: ours(fast),
                    "graphpool": ours,
                    "PyG": theirs,
                    "PyG compiled": _compiled(theirs),
                }
                if run.interpreted:
                    del rivals["graphpool, scores compiled"], rivals["PyG compiled"]
                grad = torch.randn(receivers, width, generator=g).to(run.device)
                torch.testing.assert_close(ours(), theirs(), atol=1e-3, rtol=1e-3)
                row: dict[str, Any] = {}
                with torch.no_grad():
                    row |= {f"forward: {n}": t for n, t in run.race(rivals).items()}
                both = {n: differentiated(call, [q, k, v], grad) for n, call in rivals.items()}
                row |= {f"with gradient: {n}": t for n, t in run.race(both).items()}
                # The scores given: the softmax and the weighted sum, which are one kernel here.
                score = scores(q, k).detach().requires_grad_()

                def fused() -> Tensor:
                    return ops.segment_softmax_sum(score, v, segments, gather=sources)

                row["softmax and sum alone, with gradient: graphpool ms"] = run.milliseconds(
                    differentiated(fused, [score, v], grad)
                )
                return row

            yield f"{graph}, {edges:,} edges, width {width}, {heads} heads", measure


def gin(run: Run) -> Iterator[Item]:
    """An epoch of three layers with softmax pools; both networks start alike."""
    nodes = run.pick(50_000, 2_000, 12)

    def measure() -> dict[str, Any]:
        torch.manual_seed(run.seed)
        edges, hidden, classes = 16 * nodes if not run.interpreted else 30, 64, 10
        hidden = 8 if run.interpreted else hidden
        edge_index = torch.randint(nodes, (2, edges)).to(run.device)
        x, y = torch.randn(nodes, hidden), torch.randint(classes, (nodes,))
        x, y = x.to(run.device), y.to(run.device)
        segments = Segments(index=edge_index[1], num_segments=nodes)
        sources = Segments(index=edge_index[0], num_segments=nodes)
        ours, theirs = Gin(hidden, hidden, classes), PygGin(hidden, hidden, classes)
        same_start(ours, theirs)
        ours, theirs = ours.to(run.device), theirs.to(run.device)

        def epoch(model: torch.nn.Module, *where: Any) -> Callable[[], Tensor]:
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

            def step() -> Tensor:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x, *where), y)
                loss.backward()
                optimizer.step()
                return loss.detach()

            return step

        rivals = {"graphpool": epoch(ours, segments, sources), "PyG": epoch(theirs, edge_index)}
        losses = [float(step()) for step in rivals.values()]
        if abs(losses[0] - losses[1]) > 1e-3 * abs(losses[1]):
            raise AssertionError(f"the losses of the first step differ: {losses}")
        if not run.interpreted:
            twin = PygGin(hidden, hidden, classes).to(run.device)
            rivals["PyG compiled"] = epoch(_compiled(twin), edge_index)
        return {"nodes": nodes, **run.race(rivals)}

    yield "epoch", measure


def searches(run: Run) -> Iterator[Item]:
    """Samples and neighbours; torch-cluster beside them where it is."""
    cluster = found("torch_cluster")
    sizes = run.pick(
        [(32, 1024), (8, 8192), (1, 100_000), (1, 1_000_000)], [(8, 1024), (1, 20_000)], [(2, 20)]
    )
    for clouds, count in sizes:

        def data(clouds=clouds, count=count) -> tuple[Any, ...]:
            points = torch.rand(clouds * count, 3, generator=run.seeded()).to(run.device)
            segments = Segments.from_counts(torch.full((clouds,), count)).to(run.device)
            return points, segments, segments.index

        samples = min(max(count // 4, 1), 4096)
        reach = (30 / count) ** (1 / 3) * 0.6
        calls: dict[str, tuple[Callable[..., Any], Callable[..., Any] | None]] = {
            f"fps to {samples}": (
                lambda p, s, i, n=samples: fps(p, s, num_samples=n),
                lambda p, s, i, c=count, n=samples: cluster.fps(p, i, n / c, False),
            ),
            "knn 16": (
                lambda p, s, i: knn(p, 16, segments=s),
                lambda p, s, i: cluster.knn(p, p, 16, i, i),
            ),
            "radius": (
                lambda p, s, i, r=reach: radius(p, r, segments=s),
                lambda p, s, i, r=reach: cluster.radius(p, p, r, i, i, 64),
            ),
            "ball query 16": (
                lambda p, s, i, r=reach: radius(p, r, segments=s, max_neighbors=16),
                None,
            ),
            "interpolate 3": (lambda p, s, i: interpolate(p, p, p * 0.99, s, s), None),
            "voxels": (lambda p, s, i: voxel_segments(p, 0.05, s), None),
        }
        for name, (ours, theirs) in calls.items():

            def measure(ours=ours, theirs=theirs, data=data) -> dict[str, Any]:
                made = data()
                rivals = {"graphpool": lambda: ours(*made)}
                if cluster is not None and theirs is not None:
                    rivals["torch-cluster"] = lambda: theirs(*made)
                return run.race(rivals)

            yield f"{name}, {clouds} x {count:,} points", measure


def point_nn(run: Run) -> Iterator[Item]:
    """The features of Point-NN, which needs no training."""
    clouds, count = run.pick((32, 1024), (8, 1024), (1, 24))

    def measure() -> dict[str, Any]:
        more = {"stages": 1, "k": 4, "channels": 12} if run.interpreted else {}
        model = PointNN(**more).to(run.device)
        pos = torch.rand(clouds * count, 3, generator=run.seeded()).to(run.device)
        segments = Segments.from_counts(torch.full((clouds,), count)).to(run.device)
        return run.race({"graphpool": lambda: model(pos, segments)})

    yield f"{clouds} clouds of {count:,} points", measure
