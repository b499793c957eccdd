"""The bases of a survey: the main one, whose scores are the headline, and those beside it."""

from collections.abc import Sequence
from dataclasses import replace

from thalweg import bases
from thalweg.models.records import Basis, Rung
from thalweg.pipeline.job import Model
from thalweg.pipeline.settings import SAE, Settings


def trains_beside(model: Model) -> bool:
    """Whether dictionaries are trained for a model whose main units are its neurons."""
    return model.rung.basis is None and SAE in model.settings.basis


def basis_of(name: str, settings: Settings) -> Basis | None:
    """The basis of this name; None for the neurons.

    Raises:
        ThalwegError: no such basis, or none of a survey.
    """
    return bases.find_for_survey(name, expansion=settings.expansion, active=settings.active, seed=settings.seed)


def check_bases(settings: Settings) -> None:
    """Check that all bases that were asked for are known.

    Raises:
        ThalwegError: one is not.
    """
    for name in settings.basis:
        basis_of(name, settings)


def in_main_basis(rungs: Sequence[Rung], settings: Settings) -> list[Rung]:
    """The rungs in the main basis: the first that was asked for, or else the ladder's own."""
    if not settings.basis:
        return list(rungs)
    basis = basis_of(settings.basis[0], settings)
    return [replace(rung, basis=basis) for rung in rungs]


def in_other_bases(models: Sequence[Model], settings: Settings) -> list[Model]:
    """The models in each basis beside the main one, with the weights that they have in that."""
    return [
        replace(model, rung=replace(model.rung, basis=basis_of(name, settings)), beside=True, factors=())
        for name in settings.other_bases
        for model in models
    ]
