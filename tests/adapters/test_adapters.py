"""Pools inside other packages, run by these packages."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data

from graphpool import aggr

# --- scikit-learn ------------------------------------------------------------------------------------


def bags(count=60, seed=0):
    """Two classes that differ in the spread of a bag, not in its mean."""
    rng = np.random.default_rng(seed)
    X = [rng.normal(size=(rng.integers(4, 12), 2)) * (1 + 2 * (i % 2)) for i in range(count)]
    return X, np.array(["narrow", "wide"])[np.arange(count) % 2]


@pytest.mark.needs("sklearn")
def test_a_classifier_of_bags_is_an_estimator():
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV, cross_val_score

    from graphpool.adapters.sklearn import BagClassifier

    X, y = bags()
    model = BagClassifier("std", epochs=15, random_state=3)
    assert clone(model).get_params() == model.get_params() and not hasattr(clone(model), "model_")
    assert cross_val_score(model, X, y, cv=3).mean() > 0.9
    found = GridSearchCV(model, {"pool": ["sum", "std"], "epochs": [5]}, cv=2).fit(X, y)
    assert found.best_params_["pool"] in ("sum", "std")
    before = torch.get_rng_state()
    one, two = (clone(model).fit(X, y).predict_proba(X) for _ in range(2))
    assert np.array_equal(one, two) and torch.equal(torch.get_rng_state(), before)
    assert np.allclose(one.sum(1), 1) and list(model.fit(X, y).classes_) == ["narrow", "wide"]
    alone = np.concatenate([model.predict_proba([bag]) for bag in X])
    assert np.allclose(alone, one, atol=1e-5)
    stacked = np.stack([bag[:4] for bag in X])
    assert np.allclose(model.predict_proba(stacked), model.predict_proba(list(stacked)))
    shifted = BagClassifier("std", epochs=15, random_state=3).fit([5 + 3 * bag for bag in X], y)
    assert np.allclose(shifted.predict_proba([5 + 3 * bag for bag in X]), one, atol=0.05)
    for several in (("mean", "max"), ["mean", "max"], "gnp"):
        assert BagClassifier(several, epochs=1).fit(X, y).predict(X[:1]).shape == (1,)


@pytest.mark.needs("sklearn")
def test_what_no_network_can_learn_from_is_refused():
    from graphpool.adapters.sklearn import BagClassifier, BagRegressor

    X, y = bags(8)
    numbers = np.arange(8) / 3
    with pytest.raises(ValueError, match="continuous"):
        BagClassifier(epochs=1).fit(X, numbers)
    numbers[3] = np.nan
    for model in (BagClassifier(epochs=1), BagRegressor(epochs=1)):
        with pytest.raises(ValueError, match="`y` must be finite; got nan"):
            model.fit(X, numbers)
    for wrong in ({"epochs": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="must be an int of at least 1"):
            BagClassifier(**wrong).fit(X, y)
    for seed in (None, np.random.RandomState(0)):
        assert BagClassifier(epochs=1, random_state=seed).fit(X, y).predict(X).shape == (8,)


@pytest.mark.needs("sklearn")
def test_a_regressor_of_bags():
    from sklearn.model_selection import cross_val_score

    from graphpool.adapters.sklearn import BagRegressor

    X, _ = bags(100)
    y = np.array([1000 + 50 * bag[:, 0].max() for bag in X])
    assert cross_val_score(BagRegressor("max", epochs=60), X, y, cv=2).mean() > 0.8


@pytest.mark.needs("sklearn")
def test_clouds_without_training():
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC

    from graphpool.adapters.sklearn import CloudClassifier, CloudFeatures
    from graphpool.models import PointNNClassifier

    rng = np.random.default_rng(0)
    flat = np.arange(24) % 2
    clouds = [rng.normal(size=(80, 3)) * [1, 1, 0.1 if f else 1] for f in flat]
    options = {"channels": 12, "stages": 2, "k": 8}
    model = CloudClassifier(**options, gamma=50.0)
    assert cross_val_score(model, clouds, flat, cv=3).min() == 1
    model.fit(clouds, flat)
    same = PointNNClassifier(2, 50.0, **options)
    pos = torch.from_numpy(np.concatenate(clouds)).float()
    ptr = torch.arange(25) * 80
    same.remember(pos, torch.from_numpy(flat), ptr=ptr)
    expected = same(pos, ptr=ptr).exp().numpy()
    assert np.allclose(model.predict_proba(clouds), expected, atol=1e-6)
    assert (
        cross_val_score(make_pipeline(CloudFeatures(**options), SVC()), clouds, flat, cv=3).min()
        == 1
    )


@pytest.mark.needs("sklearn")
def test_what_estimators_refuse():
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.estimator_checks import (
        check_no_attributes_set_in_init,
        check_parameters_default_constructible,
    )

    from graphpool.adapters import sklearn as adapters

    X, y = bags(4)
    for cls in (
        adapters.BagClassifier,
        adapters.BagRegressor,
        adapters.CloudClassifier,
        adapters.CloudFeatures,
    ):
        check_parameters_default_constructible(cls.__name__, cls())
        check_no_attributes_set_in_init(cls.__name__, cls())
        with pytest.raises(NotFittedError):
            (cls().transform if hasattr(cls, "transform") else cls().predict)(X)
    model = adapters.BagClassifier(epochs=1)
    for bad, match in [
        ([X[0], X[1][:, :1]], r"`X\[1\]` must be finite numbers \[n, 2\]"),
        ([X[0][0]], r"`X\[0\]` must be finite numbers \[n, C\]"),
        ([X[0] * np.nan], "finite"),
        ([np.array([["a"]])], "finite numbers"),
        ([], "at least one item"),
    ]:
        with pytest.raises(ValueError, match=match):
            model.fit(bad, y[: len(bad)])
    with pytest.raises(ValueError, match="`y` must have one entry for each of 4 items"):
        model.fit(X, y[:3])
    with pytest.raises(ValueError, match=r"`X\[0\]` must be finite numbers \[n, 2\]"):
        model.fit(X, y).predict([np.ones((3, 5))])
    with pytest.raises(ValueError, match=r"`X\[0\]` must be finite numbers \[n, 3\]"):
        adapters.CloudFeatures().fit(X)


# --- GraphGym ----------------------------------------------------------------------------------------


@pytest.mark.needs("yacs")
@pytest.mark.parametrize("name", ["add", "max", "gnp", "mean+max"])
def test_a_head_of_graphgym_takes_any_pool(name):
    from torch_geometric.graphgym.config import cfg, set_cfg
    from torch_geometric.graphgym.model_builder import create_model

    from graphpool.adapters.graphgym import BagHead

    set_cfg(cfg)
    cfg.gnn.head, cfg.model.graph_pooling, cfg.accelerator = "bag", name, "cpu"
    cfg.dataset.task, cfg.gnn.layers_post_mp = "graph", 1
    model = create_model(to_device=False, dim_in=4, dim_out=3)
    head = next(m for m in model.modules() if isinstance(m, BagHead))
    graphs = [
        Data(x=torch.rand(n, 4), edge_index=torch.zeros(2, 1).long(), y=torch.tensor([0]))
        for n in (3, 5)
    ]
    batch = Batch.from_data_list(graphs)
    prediction, label = model(batch.clone())
    assert prediction.shape == (2, 3) and torch.equal(label, batch.y)
    prediction.sum().backward()
    learned = list(head.pool.parameters())
    assert bool(learned) == (name == "gnp") and all(p.grad is not None for p in learned)
    if name in ("add", "max"):
        cfg.gnn.head = "graph"
        theirs = create_model(to_device=False, dim_in=4, dim_out=3)
        theirs.load_state_dict(model.state_dict())
        torch.testing.assert_close(theirs.eval()(batch.clone())[0], model.eval()(batch.clone())[0])


# --- chemprop ----------------------------------------------------------------------------------------


@pytest.mark.needs("chemprop")
@pytest.mark.parametrize("pool", ["gnp", "mean", ["max", "std"]])
def test_atoms_are_a_bag(pool, tmp_path):
    from chemprop import data, models, nn
    from lightning import pytorch as lightning

    from graphpool.adapters.chemprop import BagAggregation

    torch.manual_seed(0)
    smiles = ["CCO", "c1ccccc1", "CC(=O)O", "C", "CCN(CC)CC", "O=C=O"]
    points = [data.MoleculeDatapoint.from_smi(s, [float(len(s))]) for s in smiles]
    loader = data.build_dataloader(data.MoleculeDataset(points), batch_size=3, shuffle=False)
    passing = nn.BondMessagePassing(d_h=16, depth=2)
    agg = BagAggregation(channels=passing.output_dim, pool=pool)
    model = models.MPNN(passing, agg, nn.RegressionFFN(input_dim=agg.out_channels, hidden_dim=8))
    before = [p.detach().clone() for p in agg.parameters()]
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=str(tmp_path),
    )  # fmt: skip
    trainer.fit(model, loader)
    assert all(not torch.equal(a, b) for a, b in zip(before, agg.parameters(), strict=True))
    trainer.save_checkpoint(tmp_path / "m.ckpt")
    twin = models.MPNN.load_from_checkpoint(tmp_path / "m.ckpt").eval()
    graph = next(iter(loader)).bmg
    torch.testing.assert_close(twin(graph), model.eval()(graph))
    atoms, molecule = torch.rand(7, 16), torch.tensor([0, 0, 0, 1, 1, 2, 2])
    if pool == "mean":
        torch.testing.assert_close(agg(atoms, molecule), nn.MeanAggregation()(atoms, molecule))
    with pytest.raises(TypeError, match="`pool` must be a name, class or list"):
        BagAggregation(channels=16, pool=aggr.GNP(16))


# --- sentence-transformers ---------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path):
    """A transformer of one layer and twelve words, made here."""
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d", "e", "f", "g"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    shape = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    BertModel(BertConfig(vocab_size=len(words), **shape)).save_pretrained(tmp_path / "bert")
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    return str(tmp_path / "bert")


@pytest.mark.needs("sentence_transformers")
@pytest.mark.parametrize("pool", ["mean", "max", "gnp", ["mean", "std"]])
def test_tokens_are_a_bag(pool, tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    from graphpool.adapters.sentence_transformers import BagPooling

    words = modules.Transformer(tiny)
    pooling = BagPooling(16, pool)
    model = SentenceTransformer(modules=[words, pooling], device="cpu")
    sentences = ["a b c", "d", "e f g a b"]
    found = model.encode(sentences)
    width = 32 if isinstance(pool, list) else 16
    assert found.shape == (3, width) and model.get_embedding_dimension() == width
    alone = np.stack([model.encode(s) for s in sentences])
    assert np.allclose(found, alone, atol=1e-6)
    if pool in ("mean", "max"):
        theirs = SentenceTransformer(modules=[words, modules.Pooling(16, pool)], device="cpu")
        assert np.allclose(theirs.encode(sentences), found, atol=1e-6)
        prompted = [
            modules.Pooling(16, pool, include_prompt=False),
            BagPooling(16, pool, include_prompt=False),
        ]
        for left in (False, True):
            mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
            mask = mask.flip(1) if left else mask
            features = {
                "token_embeddings": torch.rand(2, 6, 16),
                "attention_mask": mask,
                "prompt_length": 2,
            }
            one, two = (m(dict(features))["sentence_embedding"] for m in prompted)
            torch.testing.assert_close(one, two)
    ptr = torch.tensor([0, 4, 5], dtype=torch.int32)
    flat = {"token_embeddings": torch.rand(1, 5, 16), "cu_seq_lens_q": ptr}
    expected = pooling.pooling(flat["token_embeddings"][0], ptr=ptr.long())
    torch.testing.assert_close(pooling(dict(flat))["sentence_embedding"], expected)
    with torch.no_grad():
        for parameter in pooling.parameters():
            parameter.add_(0.1)
    found = model.encode(sentences)
    model.save(str(tmp_path / "saved"))
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu", trust_remote_code=True)
    assert np.allclose(again.encode(sentences), found, atol=1e-6)
    with pytest.raises(TypeError, match="`pool` must be a name or a list of names"):
        BagPooling(16, aggr.GNP(16))
