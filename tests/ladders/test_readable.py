"""Networks that are trained to be read: sparse as they say, of the shapes of the dense ones beside them."""

import pytest
import torch
from torch import nn

from support.tiny import tiny_ladder
from thalweg import Classifier
from thalweg.ladders import readable
from thalweg.models.hooks import capture_activations
from thalweg.networks.activations import SoftmaxLinear
from thalweg.stimuli.base import Source
from thalweg.training.sparsity import keep_largest, rectified


def test_softmax_linear_units_compete():
    values = torch.tensor([[1.0, 1.0, 1.0, 1.0], [9.0, 1.0, 1.0, 1.0]])
    even, one = SoftmaxLinear()(values)
    assert torch.allclose(even, values[0])
    assert one[0] > 30
    assert (one[1:] < 0.01).all()


def test_the_largest_weights_stay_and_others_come_back_when_they_grow():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    largest = model[0].weight.abs().flatten().topk(2).values
    keep_largest(model, 0.1)
    assert (model[0].weight != 0).sum() == 2
    assert torch.equal(model[0].weight.abs().flatten().topk(2).values, largest)
    assert (model[2].weight != 0).sum() == 1
    assert (model[0].bias != 0).all()
    with torch.no_grad():
        model[0].weight[model[0].weight == 0] = 5.0
    keep_largest(model, 0.1)
    assert (model[0].weight.abs() == 5).sum() >= 2


def test_training_makes_weights_or_activations_sparse():
    splits = tiny_ladder().splits(Source(), 0)
    shape = splits.train.batch(torch.arange(1)).flatten(1).shape[1]

    def trained(**settings: float) -> tuple[nn.Sequential, float]:
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(shape, 16), nn.ReLU(), nn.Linear(16, len(splits.train.label_names))
        )
        Classifier(most_epochs=4, **settings)(model, splits, 0)
        with torch.no_grad(), rectified(model) as outputs:
            model(splits.pool.batch(torch.arange(50)))
        return model, float((outputs[0] > 0).float().mean())

    (_, dense), (_, few), (sparse, _) = trained(), trained(l1=0.1), trained(kept_weights=0.25)
    assert few < 0.7 * dense
    assert float((sparse[1].weight != 0).float().mean()) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("ladder", [readable.DIGITS, readable.TEXT], ids=lambda ladder: ladder.name)
def test_each_shape_is_there_once_for_each_kind_and_its_layers_are_hidden_units(ladder):
    kinds = {rung.kind: [each for each in ladder.rungs if each.kind == rung.kind] for rung in ladder.rungs}
    assert tuple(kinds) == readable.KINDS
    inputs = torch.zeros(2, 1, 28, 28) if ladder is readable.DIGITS else torch.zeros(2, 24, dtype=torch.long)
    for rungs in zip(*kinds.values(), strict=True):
        units = []
        for rung in rungs:
            model = rung.build()
            with torch.no_grad(), capture_activations(model, rung.layers) as captured:
                model(inputs)
            units.append([captured[layer.name].shape[-1] for layer in rung.layers])
        assert all(each == units[0] for each in units)


@pytest.mark.parametrize("ladder", [readable.DIGITS, readable.TEXT], ids=lambda ladder: ladder.name)
def test_the_untrained_twin_of_sparse_weights_is_as_sparse_at_random_places(ladder):
    rung = next(rung for rung in ladder.rungs if rung.kind == readable.WEIGHTS)

    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        maps = [part.weight for part in rung.build().modules() if isinstance(part, nn.Linear)]
        assert all(float((each != 0).float().mean()) == pytest.approx(readable.KEPT, abs=0.01) for each in maps)
        return maps[0] != 0

    first, second = weights(0), weights(1)
    assert torch.equal(first, weights(0))
    assert float((first & second).float().sum() / first.sum()) < 2 * readable.KEPT  # no place is preferred
