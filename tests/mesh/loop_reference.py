"""Primal-dual graphs, convolution and pooling with Python loops and dictionaries: slow and plain."""

from __future__ import annotations

import math

import numpy as np


def adjacency(faces):
    """{(i, j): (corner in i, corner in j)} for i < j, the first common edge."""
    by_edge = {}
    for f, face in enumerate(faces):
        for c in range(3):
            ends = frozenset((int(face[c]), int(face[(c + 1) % 3])))
            by_edge.setdefault(ends, []).append((f, c))
    pairs = {}
    for sides in by_edge.values():
        if len(sides) == 2:
            (i, ci), (j, cj) = sides
            pairs.setdefault((i, j), (ci, cj))
    return dict(sorted(pairs.items()))


def _geometry(points, face):
    p = [points[v] for v in face]
    cross = np.cross(p[1] - p[0], p[2] - p[1])
    area = 0.5 * math.sqrt(float(cross @ cross))
    lengths = [
        math.sqrt(float((p[(c + 1) % 3] - p[c]) @ (p[(c + 1) % 3] - p[c]))) for c in range(3)
    ]
    return area, cross / (2 * area), lengths


def features(points, faces, config):
    """Primal and dual features as dictionaries of lists."""
    geometry = [_geometry(points, face) for face in faces]
    total = sum(g[0] for g in geometry)
    primal = {f: [geometry[f][0] / total] for f in range(len(faces))}
    dual = {}
    for (i, j), (ci, cj) in adjacency(faces).items():
        sides = []
        for f, c in ((i, ci), (j, cj)):
            area, _, lengths = geometry[f]
            e = lengths[c]
            ratios = (e * e / (2 * area), e / lengths[(c + 2) % 3], e / lengths[(c + 1) % 3])
            sides.append(tuple(math.log(ratio) for ratio in ratios))
        edge = points[faces[i][(ci + 1) % 3]] - points[faces[i][ci]]
        edge = edge / math.sqrt(float(edge @ edge))
        normal_j = geometry[j][1]
        if faces[i][ci] == faces[j][cj]:
            normal_j = -normal_j
            sides[1] = (sides[1][0], sides[1][2], sides[1][1])
        h1 = np.cross(geometry[i][1], edge)
        h2 = -np.cross(normal_j, edge)
        y, x = float(h1 @ -np.cross(edge, h2)), float(h1 @ h2)
        angle = math.atan2(y, x)
        turn = [math.sin(angle), math.cos(angle)]
        if config == "A":
            in_order = [sorted(two) for two in zip(*sides, strict=True)]
            dual[frozenset((i, j))] = turn + [value for two in in_order for value in two]
        else:
            dual[i, j] = [*turn, *sides[0]]
            dual[j, i] = [*turn, *sides[1]]
    return primal, dual


def neighbors(pairs, nodes):
    around = {n: set() for n in nodes}
    for i, j in pairs:
        around[i].add(j)
        around[j].add(i)
    return around


def dual_edges(pairs, nodes, config):
    """Set of (source, target) between dual nodes (frozensets for A, tuples for B and C)."""
    around = neighbors(pairs, nodes)
    edges = set()
    for i in nodes:
        for m in around[i]:
            for j in around[i]:
                if m == j:
                    continue
                if config == "A":
                    edges.add((frozenset((m, i)), frozenset((i, j))))
                else:
                    edges.add(((m, i), (i, j)))
                    if config == "B":
                        edges.add(((i, j), (m, i)))
    return edges


def pool(primal, dual, pairs, selected, config):
    """Union-find clusters, means of features, new pairs and dual edges."""
    nodes = sorted(primal)
    parent = {n: n for n in nodes}

    def find(n):
        while parent[n] != n:
            n = parent[n]
        return n

    for i, j in selected:
        a, b = find(i), find(j)
        parent[max(a, b)] = min(a, b)
    roots = sorted({find(n) for n in nodes})
    number = {root: k for k, root in enumerate(roots)}
    cluster = {n: number[find(n)] for n in nodes}
    members = {k: [] for k in range(len(roots))}
    for n in nodes:
        members[cluster[n]].append(primal[n])
    new_primal = {k: np.mean(rows, axis=0) for k, rows in members.items()}
    new_pairs, between = set(), {}
    for i, j in pairs:
        a, b = cluster[i], cluster[j]
        if a == b:
            continue
        new_pairs.add((min(a, b), max(a, b)))
        if config == "A":
            between.setdefault(frozenset((a, b)), []).append(dual[frozenset((i, j))])
        else:
            between.setdefault((a, b), []).append(dual[i, j])
            between.setdefault((b, a), []).append(dual[j, i])
    new_dual = {key: np.mean(rows, axis=0) for key, rows in between.items()}
    return cluster, new_primal, new_dual, sorted(new_pairs)


def softmax(values):
    top = max(values)
    weights = [math.exp(v - top) for v in values]
    return [w / sum(weights) for w in weights]


def conv(layer, primal, dual, pairs, config):
    """One head after the other, one node after the other, with the weights of ``layer``."""

    def leaky(v):
        return v if v > 0 else 0.2 * v

    weight = {n: p.detach().double().numpy() for n, p in layer.named_parameters()}
    heads = layer.heads
    z = {
        d: (weight["dual_weight.weight"] @ np.asarray(x)).reshape(heads, -1)
        for d, x in dual.items()
    }
    incoming = {d: [] for d in dual}
    for source, target in dual_edges(pairs, sorted(primal), config):
        incoming[target].append(source)
    new_dual = {}
    for v in dual:
        out = np.zeros_like(z[v])
        for h in range(heads):
            if incoming[v]:
                scores = [
                    leaky(weight["dual_target"][h] @ z[v][h] + weight["dual_source"][h] @ z[u][h])
                    for u in incoming[v]
                ]
                for share, u in zip(softmax(scores), incoming[v], strict=True):
                    out[h] += share * z[u][h]
        if "dual_bias" in weight:
            out += weight["dual_bias"].reshape(heads, -1)
        new_dual[v] = np.maximum(out, 0)
    projected = {
        f: (weight["primal_weight.weight"] @ np.asarray(x)).reshape(heads, -1)
        for f, x in primal.items()
    }
    new_primal, attention = {}, {}
    for i, around in neighbors(pairs, sorted(primal)).items():
        out = np.zeros_like(projected[i])
        order = sorted(around)
        for h in range(heads):
            scores = []
            for j in order:
                d = frozenset((i, j)) if config == "A" else (j, i)
                scores.append(leaky(weight["primal_score"][h] @ new_dual[d][h]))
            for share, j in zip(softmax(scores) if order else [], order, strict=True):
                out[h] += share * projected[j][h]
                attention.setdefault((j, i), []).append(share)
        if "message_weight.weight" in weight:
            for j, shares in ((j, attention[j, i]) for j in order):
                d = frozenset((i, j)) if config == "A" else (j, i)
                carried = weight["message_weight.weight"] @ new_dual[d].reshape(-1)
                out += np.array(shares)[:, None] * carried.reshape(heads, -1)
        if "own_weight.weight" in weight:
            out += (weight["own_weight.weight"] @ np.asarray(primal[i])).reshape(heads, -1)
        if "primal_bias" in weight:
            out += weight["primal_bias"].reshape(heads, -1)
        new_primal[i] = np.maximum(out, 0).reshape(-1)
    return new_primal, {d: x.reshape(-1) for d, x in new_dual.items()}, attention


def dual_keys(pairs, config):
    """The dual nodes of the vectorised numbering, in order."""
    if config == "A":
        return [frozenset(pair) for pair in pairs]
    return [key for i, j in pairs for key in ((i, j), (j, i))]
