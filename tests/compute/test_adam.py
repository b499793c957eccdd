"""Adam gives PyTorch's bits."""

import pytest
import torch
from torch import nn

from thalweg.compute.adam import Adam

STEPS = 30


def trained(optimizer_of, *, learning_rates=(1e-2,)) -> list[torch.Tensor]:
    """The weights of a small network after some steps; its last layer takes no part in the loss."""
    generator = torch.Generator().manual_seed(3)
    shapes = ((6, 5), (6,), (3, 6), (4, 4))
    weights = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    stimuli, labels = torch.randn(20, 5, generator=generator), torch.randint(3, (20,), generator=generator)
    optimizer = optimizer_of(weights)
    for step in range(STEPS):
        rate = learning_rates[step % len(learning_rates)]
        if isinstance(optimizer, Adam):
            optimizer.learning_rate = rate
        else:
            optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        hidden = nn.functional.linear(stimuli, weights[0], weights[1]).relu()
        nn.functional.cross_entropy(nn.functional.linear(hidden, weights[2]), labels).backward()
        optimizer.step()
    return [weight.detach() for weight in weights]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_it_gives_the_bits_of_pytorchs(fused: bool, weight_decay: float):
    given = {"betas": (0.9, 0.98), "weight_decay": weight_decay, "fused": fused}
    name = "AdamW" if weight_decay else "Adam"
    rates = (1e-2, 3e-3)
    expected = trained(lambda weights: getattr(torch.optim, name)(weights, lr=1e-2, **given), learning_rates=rates)
    result = trained(lambda weights: Adam(weights, 1e-2, **given), learning_rates=rates)
    assert all(torch.equal(*pair) for pair in zip(result, expected, strict=True))
    assert not torch.equal(result[0], trained(lambda weights: Adam(weights, 1e-2, **given))[0])


def test_weights_without_a_gradient_stay_and_so_do_their_moments():
    weights = [torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True), torch.ones(2)]
    optimizer = Adam(weights, 0.1, weight_decay=0.5)
    weights[0].sum().backward()
    optimizer.step()
    assert len(optimizer.parameters) == 2
    assert (weights[0] < 1).all()
    assert torch.equal(weights[1], torch.ones(2))
    assert [int(steps) for steps in optimizer.steps] == [1, 0]


def test_part_of_a_stack_goes_on_as_the_whole_would():
    def loss(stack: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        return (stack * inputs).square().sum()

    inputs = torch.arange(1.0, 5).reshape(4, 1) * torch.ones(4, 2)
    whole = torch.ones(4, 2).requires_grad_()
    optimizer = Adam([whole], 0.1)
    loss(whole, inputs).backward()
    optimizer.step()
    chosen = torch.tensor([1, 3])
    part = whole.detach()[chosen].clone().requires_grad_()
    rest = optimizer.keep(chosen, [part])
    for stack, given, each in ((whole, inputs, optimizer), (part, inputs[chosen], rest)):
        each.zero_grad()
        loss(stack, given).backward()
        each.step()
    assert torch.equal(part, whole[chosen])
