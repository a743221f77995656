"""Memory per face of a training step: the growth of a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHILD = """
import sys, torch
from graphpool.mesh import icosphere, primal_dual
from graphpool.models import MeshClassifier, MeshSegmenter

def peak():  # ru_maxrss would count what the process that started this one held
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

def step(graph):
    torch.manual_seed(0)
    eval(sys.argv[1])(graph).square().mean().backward()

torch.set_num_threads(1)
step(primal_dual(*icosphere(2)))  # compiled code is loaded
graph = primal_dual(*icosphere(5))
before = peak()
step(graph)
print((peak() - before) / graph.x.size(0) / 1000)
"""
SEGMENTER = "MeshSegmenter(4, head='linear', own_feature=True, dual_messages=True{})"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "network, most",
    [
        (SEGMENTER.format(""), 24),
        (SEGMENTER.format(", checkpoint=True"), 19),
        ("MeshClassifier(4)", 69),
        ("MeshClassifier(4, checkpoint=True)", 46),
    ],
)
def test_a_training_step_takes_no_more_than_the_guide_says(network, most):
    command = [sys.executable, "-c", CHILD, network]
    found = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"{network}: {found:.1f} kB per face")
    assert most / 2 < found < most
