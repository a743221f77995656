from __future__ import annotations

import pytest
import torch

from graphpool import Segments
from graphpool.evaluate import flow_errors

DOUBLE = torch.float64


def test_errors_are_those_of_the_field():
    truth = torch.tensor([[1.0, 0, 0], [0, 4.0, 0], [0, 0, 0]], dtype=DOUBLE)
    error = torch.tensor([[0.04, 0, 0], [0, 0.15, 0], [0, 0, 0.4]], dtype=DOUBLE)
    pairs = Segments(ptr=torch.tensor([0, 2, 2, 3]))
    found = flow_errors(truth + error, truth, pairs)
    torch.testing.assert_close(found.epe, torch.tensor([0.095, 0, 0.4], dtype=DOUBLE))
    # 0.15 of 4 is below 5 %.
    assert found.acc5.tolist() == [1.0, 0.0, 0.0]
    assert found.acc10.tolist() == [1.0, 0.0, 0.0]
    assert found.outliers.tolist() == [0.0, 0.0, 1.0]
    assert flow_errors(error, truth, None).acc10.tolist() == [pytest.approx(0.0)]
    with pytest.raises(ValueError, match=r"`flow` and `truth` must have one shape \[N, D\]"):
        flow_errors(truth, truth[:2])
    with pytest.raises(ValueError, match="`segments` must have one entry per point, 3; got 2"):
        flow_errors(truth, truth, Segments(ptr=torch.tensor([0, 2])))
    with pytest.raises(TypeError, match="`flow` and `truth` must be floating point"):
        flow_errors(truth.long(), truth.long())


def test_an_error_that_is_no_number_is_an_outlier():
    truth = torch.ones(2, 3)
    flow = truth.clone()
    flow[0] = float("nan")
    assert [float(e) for e in flow_errors(flow, truth)[1:]] == [0.5, 0.5, 0.5]
