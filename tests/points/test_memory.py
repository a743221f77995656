from __future__ import annotations

import pytest
import torch

from graphpool import Segments
from graphpool.points import MemoryBank, PartMemory, fuse, part_iou, tune_fusion


def clusters(count: int = 60, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    centres = torch.randn(classes, 8) * 2
    labels = torch.arange(count) % classes
    return centres[labels] + torch.randn(count, 8), labels


def test_scores_follow_the_formula_of_point_nn_up_to_a_factor():
    features, labels = clusters()
    queries = torch.randn(7, 8)
    bank = MemoryBank(gamma=12.0, chunk=3).fit(features, labels)
    unit = torch.nn.functional.normalize
    similarity = unit(queries, dim=1).double() @ unit(features, dim=1).double().T
    expected = torch.exp(-12 * (1 - similarity)) @ torch.nn.functional.one_hot(labels).double()
    expected /= expected.sum(1, keepdim=True)
    assert torch.allclose(bank.scores(queries).double(), expected, atol=1e-5)
    assert torch.allclose(bank.scores(queries).sum(1), torch.ones(7))


def test_limits_of_gamma():
    features, labels = clusters(61)
    queries = torch.randn(20, 8)
    vote = MemoryBank(gamma=0.0).fit(features, labels)
    assert bool((vote.predict(queries) == labels.bincount().argmax()).all())
    nearest = MemoryBank(gamma=1e6).fit(features, labels)
    similarity = torch.nn.functional.cosine_similarity(queries[:, None], features[None], dim=2)
    assert torch.equal(nearest.predict(queries), labels[similarity.argmax(1)])


def test_large_gamma_does_not_underflow_to_class_zero():
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    bank = MemoryBank(gamma=9998.0).fit(keys, torch.tensor([0, 1]))
    assert bank.predict(torch.tensor([[-1.0, -0.9]])).item() == 1


def test_leave_one_out_equals_a_loop():
    features, labels = clusters(40)
    bank = MemoryBank(gammas=(0.5, 5.0, 500.0), chunk=7).fit(features, labels, 3)
    gammas = (0.0, *bank.gammas)
    for gamma, accuracy in zip(gammas, bank.leave_one_out(gammas), strict=True):
        hits = torch.zeros(40, dtype=torch.float64)
        for i in range(40):
            rest = torch.arange(40) != i
            other = MemoryBank(gamma=gamma).fit(features[rest], labels[rest], 3)
            hits[i] = float(other.predict(features[i : i + 1]) == labels[i])
        recall = torch.stack([hits[labels == c].mean() for c in range(3)])
        assert torch.isclose(accuracy, recall.mean())
    accuracy = bank.leave_one_out()
    assert float(bank.gamma) == max(
        g for g, a in zip(bank.gammas, accuracy, strict=True) if a == accuracy.max()
    )


def test_adding_equals_remembering_all_at_once():
    features, labels = clusters()
    whole = MemoryBank(gamma=20.0).fit(features, labels, 3)
    grown = MemoryBank(gamma=20.0).fit(features[:9], labels[:9], 3).add(features[9:], labels[9:])
    assert torch.equal(grown.scores(features), whole.scores(features))
    assert len(grown) == 60


def test_soft_labels():
    bank = MemoryBank(gamma=0.0).fit(torch.eye(2), torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
    assert torch.allclose(bank.scores(torch.ones(1, 2)), torch.tensor([[0.25, 0.75]]))


def test_saving_and_loading(tmp_path):
    features, labels = clusters()
    bank = MemoryBank().fit(features, labels)
    bank.save(tmp_path / "bank.pt")
    again = MemoryBank.load(tmp_path / "bank.pt")
    assert torch.equal(again.scores(features), bank.scores(features))
    model = torch.nn.Sequential(MemoryBank())
    model.load_state_dict(torch.nn.Sequential(bank).state_dict())
    assert torch.equal(model(features), bank.scores(features))


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (torch.empty(0, 3), torch.empty(0, dtype=torch.long), "at least one"),
        (torch.ones(2, 3), torch.zeros(3, dtype=torch.long), "3 rows"),
        (torch.ones(2, 3), torch.tensor([0, -1]), ">= 0"),
        (torch.full((2, 3), torch.nan), torch.zeros(2, dtype=torch.long), "row 0"),
        (torch.ones(2, 3), torch.tensor([[0.5, -0.5], [1, 0]]), "Soft"),
        (torch.ones(3), torch.zeros(3, dtype=torch.long), r"\[N, D\]"),
    ],
)
def test_wrong_memories_are_named(features, labels, message):
    with pytest.raises(ValueError, match=message):
        MemoryBank(gamma=1.0).fit(features, labels)


def test_wrong_uses_are_named():
    with pytest.raises(ValueError, match="empty"):
        MemoryBank().scores(torch.ones(1, 2))
    with pytest.raises(ValueError, match="empty"):
        MemoryBank().add(torch.ones(1, 2), torch.tensor([0]))
    with pytest.raises(ValueError, match="gamma"):
        MemoryBank(gamma=-1.0)
    bank = MemoryBank(gamma=1.0).fit(torch.eye(2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="2 entries"):
        bank.scores(torch.ones(1, 3))
    with pytest.raises(ValueError, match="below `num_classes`"):
        bank.add(torch.ones(1, 2), torch.tensor([2]))
    with pytest.raises(TypeError, match="labels"):
        MemoryBank().fit(torch.eye(2), torch.tensor([0.0, 1.0]))


def test_one_vector_has_no_one_left_out():
    bank = MemoryBank().fit(torch.ones(1, 2), torch.tensor([0]), 2)
    assert bank.predict(torch.ones(3, 2)).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="at least two"):
        bank.leave_one_out()


def test_part_memory_is_separate_for_each_category():
    features = torch.eye(4)
    clouds, categories = Segments(ptr=torch.tensor([0, 2, 4])), torch.tensor([0, 1])
    memory = PartMemory(num_parts=4).add(features, torch.arange(4), clouds, categories)
    one = Segments(ptr=torch.tensor([0, 4]))
    assert memory.predict(features, one, torch.tensor([0])).unique().tolist() == [0, 1]
    assert memory.predict(features, one, torch.tensor([1])).unique().tolist() == [2, 3]
    with pytest.raises(ValueError, match="category 5"):
        memory.scores(features, one, torch.tensor([5]))
    with pytest.raises(ValueError, match="parts"):
        memory.add(features, torch.tensor([0, 1, 2, 4]), clouds, categories)


def test_part_memory_keeps_one_mean_per_cloud_and_part():
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
    clouds = Segments(ptr=torch.tensor([0, 3]))
    memory = PartMemory(2).add(features, torch.tensor([0, 0, 1]), clouds, torch.tensor([0]))
    assert torch.equal(memory.banks["0"].keys, torch.eye(2))
    memory.add(features, torch.tensor([1, 1, 1]), clouds, torch.tensor([0]))
    assert len(memory.banks["0"]) == 3


def test_intersection_over_union_counts_parts_that_are_there():
    clouds = Segments(ptr=torch.tensor([0, 4, 6, 6]))
    truth = torch.tensor([0, 0, 1, 1, 2, 2])
    guess = torch.tensor([0, 1, 1, 1, 2, 0])
    expected = [(1 / 2 + 2 / 3) / 2, 1 / 2, 0.0]
    assert torch.allclose(
        part_iou(guess, truth, clouds), torch.tensor(expected, dtype=torch.float64)
    )


def test_fusion_interpolates_probabilities():
    logits, scores = torch.randn(5, 3), torch.rand(5, 3)
    assert torch.allclose(fuse(logits, scores, 0.0), logits.softmax(1))
    assert torch.allclose(fuse(logits, scores, 1.0), scores / scores.sum(1, keepdim=True))
    assert torch.allclose(fuse(logits, scores, 0.3).sum(1), torch.ones(5))
    with pytest.raises(ValueError, match="weight"):
        fuse(logits, scores, 1.5)
    with pytest.raises(ValueError, match=">= 0"):
        fuse(logits, -scores, 0.5)


def test_the_share_is_tuned_where_it_helps():
    labels = torch.arange(60) % 3
    hot = torch.nn.functional.one_hot(labels, 3).float()
    half = (torch.arange(60) < 30)[:, None]
    logits = torch.where(half, 4 * hot, torch.randn(60, 3))
    scores = torch.where(half, torch.rand(60, 3), hot)
    share = tune_fusion(logits, scores, labels)
    best = (fuse(logits, scores, share).argmax(1) == labels).double().mean()
    for other in (0.0, 1.0):
        assert best > (fuse(logits, scores, other).argmax(1) == labels).double().mean()
