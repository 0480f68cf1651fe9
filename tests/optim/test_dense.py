"""The dense baseline."""

import torch
from common import model, same, train

from synaprune.optim import Dense


def test_dense_is_the_base_optimizer_and_counts():
    net, twin = model(), model()
    optimizer, adam = Dense(net, lr=1e-2), torch.optim.Adam(twin.parameters(), lr=1e-2, fused=True)
    train(net, optimizer, 5)
    train(twin, adam, 5)
    assert same(net, twin)
    assert optimizer.connectivity() == 1.0
    assert optimizer.turnover() == {}
