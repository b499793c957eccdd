"""The task: circuits ask questions of one bit whatever their kind and density, and both modalities show all of it."""

import pytest
import torch

from thalweg.causes.rendering import MODALITIES, make_renderer
from thalweg.causes.task import Circuit, Draw, make_task

TASK = make_task()
DENSITIES = (0.05, 0.4)


def draw(density: float, count: int = 20_000) -> Draw:
    return TASK.draw(count, density, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("density", DENSITIES)
def test_each_question_has_an_entropy_of_one_bit(density: float):
    stimuli = draw(density)
    asked = stimuli.active.sum(0)
    yes = (stimuli.answers * stimuli.active).sum(0) / asked
    assert ((asked / len(stimuli) - density).abs() < 0.02).all()
    assert ((yes - 0.5).abs() < 4 * 0.5 / asked.sqrt()).all()


@pytest.mark.parametrize("density", DENSITIES)
def test_the_latents_decide_every_answer(density: float):
    """The Bayes error of what the latents say is none, for every kind of circuit."""
    stimuli = draw(density, 2000)
    for place, circuit in enumerate(TASK.circuits):
        bits = stimuli.latents[:, list(circuit.latents)].sum(1)
        output = {"xor": bits == 1, "and": bits == 2, "majority": bits >= 2}[circuit.kind]
        asked = stimuli.active[:, place] > 0
        assert torch.equal(output[asked].float(), stimuli.answers[asked, place])
        assert not bits[~asked].any()


def test_the_patterns_of_an_answer_are_drawn_evenly():
    stimuli = draw(0.4)
    for place, circuit in enumerate(TASK.circuits):
        for answer in (False, True):
            meant = (stimuli.active[:, place] > 0) & (stimuli.answers[:, place] == float(answer))
            shown = stimuli.latents[meant][:, list(circuit.latents)]
            patterns = circuit.patterns(answer)
            shares = [float((shown == torch.tensor(pattern)).all(1).float().mean()) for pattern in patterns]
            assert shares == pytest.approx([1 / len(patterns)] * len(patterns), abs=0.04)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("density", DENSITIES)
def test_every_latent_can_be_read_in_either_modality(modality: str, density: float):
    """So the Bayes error is the same in both: none."""
    renderer = make_renderer(modality, TASK.n_latents, 0)
    stimuli = draw(density, 4000)
    shown = renderer(stimuli.latents, torch.Generator().manual_seed(1))
    assert shown.shape == (4000, renderer.n_inputs)
    assert torch.equal(renderer.read(shown), stimuli.latents)


def test_both_modalities_show_the_same_draws_and_images_are_noisy():
    stimuli = draw(0.4, 100)
    tokens, images = (make_renderer(modality, TASK.n_latents, 0) for modality in MODALITIES)
    assert torch.equal(tokens(stimuli.latents, torch.Generator()), stimuli.latents)
    first, second = (images(stimuli.latents, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert not torch.equal(first, second)


def test_the_known_features_are_latents_and_outputs():
    stimuli = draw(0.4, 50)
    assert stimuli.features.shape == (50, len(TASK.feature_names))
    assert TASK.feature_names[TASK.n_latents] == "xor 0"
    assert Circuit("and", (0, 1)).patterns(True) == [(1, 1)]
