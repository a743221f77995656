"""Packages that a user may have and this project does not need: Lightning, ONNX, torch-geometric-pool."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

import graphpool
from graphpool import aggr
from graphpool.models import GraphModel

CHANNELS = 8
#: Pools that ONNX has operators for, as neighbour pool and readout; sorting pools are not among them.
EXPORTED = ["sum", "mean", "max", "min", "std", "var", "gnp", "softmax", "logsumexp", "powermean"]
EXPORTED += ["gem", "attsets"]


class Plain(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = GraphModel(CHANNELS, 16, 2, num_layers=2, aggr=name, readout=name)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return self.model(x, edge_index, batch, batch_size=3)


@pytest.mark.slow
@pytest.mark.needs("onnxscript", "onnxruntime")
@pytest.mark.parametrize("name", EXPORTED)
def test_onnx_runs_a_model_on_graphs_of_other_sizes(name, tmp_path):
    import onnxruntime as runtime

    network = Plain(name).eval()
    example = torch.rand(12, CHANNELS), torch.randint(12, (2, 40)), torch.arange(12) // 4
    nodes, edges = torch.export.Dim("nodes", min=2), torch.export.Dim("edges", min=2)
    shapes = {"x": {0: nodes}, "edge_index": {1: edges}, "batch": {0: nodes}}
    # The kernels of this library are not ONNX operators; the composed form is made of such.
    with torch.no_grad(), graphpool.use_backend("torch"):
        program = torch.export.export(network, example, dynamic_shapes=shapes)
        torch.onnx.export(program, dynamo=True, verbose=False).save(str(tmp_path / "m.onnx"))
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    larger = torch.rand(20, CHANNELS), torch.randint(20, (2, 55)), torch.arange(20) // 7
    inputs = {i.name: v.numpy() for i, v in zip(session.get_inputs(), larger, strict=True)}
    (found,) = session.run(None, inputs)
    torch.testing.assert_close(torch.from_numpy(found), network(*larger).detach())


@pytest.mark.needs("lightning")
def test_lightning_trains_a_model(tmp_path):
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.model = GraphModel(1, 8, 1, num_layers=1, aggr="sum", readout="gnp")
            self.seen: list[float] = []

        def training_step(self, batch, _):
            y = self.model(batch.x, batch.edge_index, batch.batch, batch_size=batch.num_graphs)
            loss = (y.squeeze(1) - batch.y).square().mean()
            self.seen.append(float(loss))
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.01)

    rings = []
    for size in range(3, 11):
        nodes = torch.arange(size)
        edge_index = torch.stack([nodes, (nodes + 1) % size])
        rings.append(Data(x=torch.ones(size, 1), edge_index=edge_index, y=torch.tensor([size / 5])))
    module = Module()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    trainer = lightning.Trainer(
        max_epochs=8,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(tmp_path),
    )
    trainer.fit(module, DataLoader(rings, batch_size=4))
    assert len(module.seen) == 16 and module.seen[-1] < module.seen[0]
    moved = {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}
    assert moved == set(before)


@pytest.mark.needs("tgp.reduce")
@pytest.mark.parametrize("name", ["gnp", "max", "attsets", "softmax"])
def test_the_reducer_of_torch_geometric_pool_takes_any_pool(name):
    from tgp import reduce, select

    torch.manual_seed(0)
    pool = aggr.resolve(name, channels=CHANNELS)
    x, cluster = torch.rand(12, CHANNELS), torch.randint(4, (12,))
    chosen = select.SelectOutput(cluster_index=cluster, num_nodes=12, num_supernodes=5)
    y, _ = reduce.AggrReduce(pool)(x, chosen)
    torch.testing.assert_close(y, pool(x, cluster, dim_size=5))
