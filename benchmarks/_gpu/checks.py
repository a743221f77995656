"""What must hold on the device: PyTorch's checks of operators, the points of pools, the values of the CPU."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from _gpu.run import Item, Run
from graphpool import Segments, aggr, testing
from graphpool.ops import dispatch
from graphpool.ops.fused.layout import Layout
from graphpool.ops.neighbors import fps, interpolate, knn, knn_groups, radius, voxel_grid
from graphpool.testing.ops import segment_functions

ROOT = Path(__file__).resolve().parents[2]
CHANNELS = 8
# Points about names, widths and compilers are the same on every device.
POINTS = (
    "permutation", "independence", "forms", "unsorted", "empty", "gradients", "half", "deterministic",
    "weights", "duplicates", "ndim", "ties", "absent", "regradients",
)  # fmt: skip
# In the interpreter: one pool for each family of kernels.
FEW = ("sum", "var", "max", "softmax", "logsumexp", "gnp")


def tests(run: Run) -> Iterator[Item]:
    """Every test that takes the fixture ``device`` or needs ``cuda``, by file, as the suite marks them."""
    if importlib.util.find_spec("pytest") is None:
        said = "pytest is not installed: no test was run; the other parts need none"
        yield "pytest", lambda: {"said": said}
        return
    lines, _ = _pytest(run, "--collect-only", "tests")
    files = dict.fromkeys(line.partition("::")[0] for line in lines if "::" in line[:200])
    files = {file: None for file in files if file.endswith(".py")}

    def collection() -> dict[str, Any]:
        if not files:
            raise AssertionError("\n".join(["no test was found", *lines[-5:]]))
        errors = [line for line in lines if line.startswith("ERROR")]
        return {"said": "; ".join([f"{len(files)} files: {lines[-1]}", *errors])}

    yield "collection", collection
    # Interpreted, the test suite runs them itself; that there are some was seen.
    for file in () if run.interpreted else files:

        def passes(file=file) -> dict[str, Any]:
            lines, status = _pytest(run, "-rf", "--tb=line", file)
            if status:
                bad = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
                raise AssertionError("\n".join([lines[-1], *bad]))
            return {"said": lines[-1]}

        yield file, passes


def _pytest(run: Run, *options: str) -> tuple[list[str], int]:
    """What pytest prints, line by line, also on the screen; and its exit status."""
    chosen = ["-m", "device", "--device", run.device.partition(":")[0]]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, *options]
    lines = []
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            if line.strip():
                lines.append(line.rstrip())
                print(line, end="", flush=True)
    return lines or ["pytest said nothing"], process.returncode


def _inputs(op: Any, x: Tensor, elements: int, generator: torch.Generator) -> list[Tensor]:
    """Inputs made from the declaration of a fused op, of which ``x`` ``[R, C]`` are the rows."""
    sizes = {"E": elements, "C": x.shape[1], "H": max(x.shape[1] // 2, 1)}
    made = []
    for letters in op.dimensions.values():
        shape = [sizes.get(letter, 0) for letter in letters]
        value = x.clone() if letters[0] == "R" else 0.7 + torch.rand(shape, generator=generator)
        made.append(value.to(x))
    return made


def opcheck(run: Run) -> Iterator[Item]:
    """``torch.library.opcheck`` of every operator that has a CUDA kernel, forward and backward."""
    from graphpool.ops.fused.cuda import ops as cuda_ops

    dispatch.load()
    for op in dispatch.OPERATORS.values():
        if not hasattr(cuda_ops, op.name):
            continue
        for option in (op.options[-1:] if run.interpreted else op.options) or (None,):

            def check(op=op, option=option) -> dict[str, Any]:
                generator = run.seeded()
                index = torch.tensor([0, 2, 0, 3, 3, 0, 2, 2, 0, 3, 3])
                x = torch.randn(7, 4, generator=generator) + 2
                gather = torch.randint(7, index.shape, generator=generator)
                segments = Segments(index=index, num_segments=4).to(run.device)
                values = [v.to(run.device) for v in _inputs(op, x, len(index), generator)]
                layout = Layout.of(segments, None, gather.to(run.device), 7, True)
                options = () if option is None else (option,)
                # The derivative by weights, where there is one, has no CUDA kernel.
                forward, backward, *_ = (getattr(torch.ops.graphpool, v) for v in op.operators)
                results = forward(*values, *options, *layout)
                results = (results,) if isinstance(results, Tensor) else results
                grad = torch.randn(results[0].shape, generator=generator).to(results[0])
                leaves = [v.clone().requires_grad_() for v in values]
                torch.library.opcheck(forward.default, (*leaves, *options, *layout))
                torch.library.opcheck(
                    backward.default, (grad, *values, *results, *options, *layout)
                )
                return {}

            yield " ".join(filter(None, (op.name, option))), check


class OnDevice(nn.Module):
    """A pool on a device, for a suite that gives it tensors on the CPU and looks at results there."""

    def __init__(self, inner: nn.Module, device: str) -> None:
        super().__init__()
        self.inner, self.device = inner.to(device), device

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        there = [_moved(v, self.device) for v in args]
        return _moved(
            self.inner(*there, **{k: _moved(v, self.device) for k, v in kwargs.items()}), "cpu"
        )


def _moved(value: Any, device: str) -> Any:
    if isinstance(value, (Tensor, Segments)):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_moved(v, device) for v in value)
    return value


def _pool(name: str) -> nn.Module:
    torch.manual_seed(0)
    return aggr.resolve(name, channels=CHANNELS, **aggr.lookup(name).example_arguments)


def conformance(run: Run) -> Iterator[Item]:
    """The points of ``graphpool.testing`` for every registered pool."""
    for name in FEW[:2] if run.interpreted else aggr.names():

        def points(name=name) -> dict[str, Any]:
            failed = []
            for point in ("forms", "ties") if run.interpreted else POINTS:
                try:
                    testing.check(point, OnDevice(_pool(name), run.device), CHANNELS)
                except Exception as error:
                    if "CUDA error" in str(error):
                        raise
                    failed.append(f"{point}: {str(error).strip().splitlines()[0]}")
            if failed:
                raise AssertionError("; ".join(failed))
            return {}

        yield name, points


def _compare(
    ours: Callable[[str], tuple[Tensor, ...]], run: Run, tolerance: float
) -> dict[str, Any]:
    """The largest difference of values and gradients on two devices, relative to the largest entry."""
    worst = 0.0
    with run.reference():
        expected = ours("cpu")
    for a, b in zip(ours(run.device), expected, strict=True):
        a, b = a.detach().cpu().double(), b.detach().double()
        if a.shape != b.shape or not torch.equal(a.isfinite(), b.isfinite()):
            raise AssertionError(f"shapes or places of infinities differ: {a.shape}, {b.shape}")
        both = b.isfinite()
        scale = b[both].abs().amax().clamp_min(1).item() if bool(both.any()) else 1.0
        if both.any():
            worst = max(worst, float((a[both] - b[both]).abs().amax()) / scale)
    if worst > tolerance:
        raise AssertionError(f"differs from the CPU by {worst:.2g} of the largest entry")
    return {"largest difference": worst}


def values(run: Run) -> Iterator[Item]:
    """Every op, pool and search against the CPU: bags sorted, unsorted and gathered."""
    elements, bags, rows = run.pick((3000, 60, 500), (600, 20, 100), (60, 7, 20))
    g = run.seeded()
    index = torch.randint(bags - 1, (elements,), generator=g)
    gather = torch.randint(rows, (elements,), generator=g)
    weight = torch.randint(0, 3, (elements,), generator=g).float()
    data = torch.randn(elements, CHANNELS, generator=g)
    data += 0.25 * data.sign()
    layouts = {"sorted": index.sort()[0], "unsorted": index, "gathered": index}
    dtypes = (torch.float32,) if run.interpreted else (torch.float32, torch.bfloat16)
    for name, function in segment_functions().items():
        if run.interpreted and name not in dispatch.FUSED:
            continue
        options = inspect.signature(function).parameters
        for layout, of in layouts.items():
            if layout == "gathered" and "gather" not in options:
                continue
            if layout == "sorted" and run.interpreted:
                continue
            for dtype in dtypes:

                def compare(function=function, options=options, layout=layout, of=of, dtype=dtype):
                    def compute(device: str) -> tuple[Tensor, ...]:
                        x = data[:rows] if layout == "gathered" else data
                        x = x.to(device, dtype).requires_grad_()
                        more = {"gather": gather.to(device)} if layout == "gathered" else {}
                        if layout == "unsorted" and "weight" in options:
                            more["weight"] = weight.to(device)
                        y = function(x, Segments(index=of, num_segments=bags).to(device), **more)
                        if not y.requires_grad:
                            return (y,)
                        return y, *torch.autograd.grad(y.float().square().sum(), x)

                    return _compare(compute, run, 2e-4 if dtype == torch.float32 else 4e-2)

                yield f"{name} {layout} {str(dtype).removeprefix('torch.')}", compare
    yield from _pools(run, data, layouts["unsorted"], bags)
    yield from _searches(run)


def _pools(run: Run, data: Tensor, index: Tensor, bags: int) -> Iterator[Item]:
    for name in FEW if run.interpreted else aggr.names():

        def compare(name=name) -> dict[str, Any]:
            pool = _pool(name).eval()

            def compute(device: str) -> tuple[Tensor, ...]:
                torch.manual_seed(run.seed)
                there = copy.deepcopy(pool).to(device)
                x = data.to(device).requires_grad_()
                y = testing.samples.result(
                    there(x, Segments(index=index, num_segments=bags).to(device))
                )
                if not y.requires_grad:
                    return (y,)
                return y, *torch.autograd.grad(y.square().sum(), x)

            return _compare(compute, run, 1e-3)

        yield f"pool {name}", compare


def _searches(run: Run) -> Iterator[Item]:
    """Positions and distances are those of the CPU, bit by bit."""
    count = run.pick(20_000, 3000, 120)
    g = run.seeded()
    drawn = torch.randn(count, 3, generator=g)
    sets = {
        "random": drawn,
        "grid": (drawn * 4).round(),
        "float64": drawn.double(),
        "wide": torch.randn(count // 4, 12, generator=g),
    }
    for kind, points in sets.items():
        cloud = torch.randint(3, (len(points),), generator=g)
        for layout, of in {"sorted": cloud.sort()[0], "unsorted": cloud}.items():
            x = torch.randn(len(points), 5, generator=g)
            calls: dict[str, Callable[..., Any]] = {
                "fps": lambda p, s, x: fps(p, s, ratio=0.1),
                "knn": lambda p, s, x: knn(p, 8, segments=s, exclude_self=True),
                "knn of others": lambda p, s, x: knn(p, 3, p * 0.9, s, s),
                "knn cosine": lambda p, s, x: knn(p, 4, segments=s, metric="cosine").index,
                "knn_groups": lambda p, s, x: knn_groups(p, 8, segments=s),
                "radius": lambda p, s, x: radius(p, 0.3, segments=s),
                "ball query": lambda p, s, x: radius(p, 0.3, segments=s, max_neighbors=16),
                "voxel_grid": lambda p, s, x: voxel_grid(p, 0.5, s).segments.index,
                "interpolate": lambda p, s, x: interpolate(x, p, p * 0.9, s, s),
            }
            for name, call in calls.items():
                if run.interpreted and (layout == "sorted" or name in ("knn_groups", "knn cosine")):
                    continue

                def compare(call=call, name=name, points=points, of=of, x=x) -> dict[str, Any]:
                    def compute(device: str) -> list[Tensor]:
                        bags = Segments(index=of, num_segments=3).to(device)
                        return _flat(call(points.to(device), bags, x.to(device)))

                    with run.reference():
                        expected = compute("cpu")
                    for a, b in zip(compute(run.device), expected, strict=True):
                        if name == "interpolate":
                            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
                        elif not torch.equal(a, b):
                            raise AssertionError(
                                f"{int((a != b).sum()) if a.shape == b.shape else a.shape} of "
                                f"{b.numel()} numbers differ from those of the CPU"
                            )
                    return {}

                yield f"{name} {kind} {layout}", compare


def _flat(found: Any) -> list[Tensor]:
    if isinstance(found, Tensor):
        return [found.cpu()]
    if isinstance(found, tuple):
        return [v.cpu() for v in found]
    return [found.index.cpu(), found.segments.ptr.cpu(), found.squared_distance.cpu()]
