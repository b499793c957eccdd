"""The tasks that find out how strong a model is, on every axis."""

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from thalweg.errors import ThalwegError, reason
from thalweg.files import whole
from thalweg.models.records import Evaluation, ReadRows, Summary
from thalweg.pipeline.job import PARAMETERS, SHARDS, Model, failure_of
from thalweg.pipeline.twins import twin_note
from thalweg.pipeline.user_results import PlainSummary, code_of_user, plain_values
from thalweg.stimuli.base import Stimuli
from thalweg.strength import axes as strength

STIMULI = "stimuli"  # the positions of the stimuli that were looked at, in a file of findings


def look_at_shards(models: Sequence[Model]) -> str:
    """Find out what a published model and its untrained twin make of one part of the stimuli."""
    return failure_of(models, map(_look_at_shard, models))


def _look_at_shard(model: Model) -> None:
    assert model.shard is not None
    assert isinstance(model.ladder.evaluate, Evaluation)
    positions = model.part(torch.arange(len(model.pool)))
    part = model.pool.take(positions)
    outputs = []
    for control in model.controls:
        if control != "rotated" and control not in model.strengths:
            outputs.append(_findings(model, control, model.shard))
            network = model.network(control)
            counted = torch.tensor([_parameters(network)])
            outcomes = _outcomes(network, model, control, part)
            whole.write_tensors(model.run / outputs[-1], {**outcomes, PARAMETERS: counted, STIMULI: positions})
    model.run.finish(f"strength-{model.task}", model.train_inputs(), outputs)


@dataclass(eq=False)
class StrengthReader:
    """Reads what a network makes of each stimulus in a pass that records it.

    Nothing is read of a derived twin once it could not be evaluated, as it may overflow.
    """

    model: Model
    control: str
    rows_of: ReadRows | None
    rows: dict[int, tuple[Tensor, Mapping[str, Tensor]]] = field(default_factory=dict)  # by the first stimulus

    def __call__(self, ids: Tensor, output: object) -> None:
        """Read the output for some stimuli; what was read of them before counts no more."""
        if self.rows_of is None:
            return
        try:
            self.rows[int(ids[0])] = ids, self.rows_of(ids, output)
        except ThalwegError:
            if self.control not in self.model.derived:
                raise
            self.rows_of = None

    def write(self, network: nn.Module) -> str:
        """Write what was read to the file of the shard; returns its name."""
        assert self.model.shard is not None
        file = _findings(self.model, self.control, self.model.shard)
        ids = torch.cat([ids for ids, _ in self.rows.values()]) if self.rows else torch.empty(0, dtype=torch.int64)
        read = [rows for _, rows in self.rows.values()] if self.rows_of else []
        outcomes = {name: torch.cat([rows[name] for rows in read]) for name in read[0]} if read else {}
        counted = torch.tensor([_parameters(network)])
        whole.write_tensors(self.model.run / file, {**outcomes, PARAMETERS: counted, STIMULI: ids})
        return file


@contextmanager
def reading_strength(network: nn.Module, model: Model, control: str) -> Generator[StrengthReader | None]:
    """What reads the strength in the pass that records a network, if it is read there."""
    if not model.recorded_with_strength or model.shard is None:
        yield None
        return
    assert isinstance(model.ladder.evaluate, Evaluation)
    assert model.ladder.evaluate.alongside is not None
    with model.ladder.evaluate.alongside(network, model.pool) as rows_of:
        yield StrengthReader(model, control, rows_of)


def _outcomes(network: nn.Module, model: Model, control: str, part: Stimuli) -> Mapping[str, Tensor]:
    """What a model makes of each stimulus; nothing of a derived twin that cannot be evaluated, as it may overflow."""
    assert isinstance(model.ladder.evaluate, Evaluation)
    try:
        return model.ladder.evaluate.per_stimulus(network, part, device=model.settings.resolved_device)
    except ThalwegError:
        if control not in model.derived:
            raise
        return {}


def _findings(model: Model, control: str, shard: int) -> str:
    """The name of the file of what a model makes of one part of the stimuli."""
    return f"{SHARDS}/{model.stem(control)}-strength-{shard}.safetensors"


def _parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def published_summary(model: Model, control: str) -> Summary:
    """What the tables say of a published model, of whose training nothing is known: its place on every strength axis,
    put together from what was found out shard by shard, where it was, or as it is known.

    The strength of one that says nothing about the pool's labels is missing.
    """
    if control in model.strengths:
        return model.strengths[control]
    if model.in_pieces:
        assert isinstance(model.ladder.evaluate, Evaluation)
        files = [_findings(model, control, shard) for shard in range(model.settings.n_shards)]
        parts = [whole.read_tensors(model.run / file) for file in files]
        counted = int(parts[0][PARAMETERS])
        strengths = _joined(parts, model)
    else:
        network = model.network(control)
        counted = _parameters(network)
        strengths = _evaluate(network, model, control)
    twin = control in (*model.estimated, *model.derived)
    note = {"twin_note": twin_note(model, control)} if twin else {}
    return {"pool_loss": strengths.pop("loss"), **strengths, PARAMETERS: counted, "compute": None, **note}


NOT_EVALUATED = "the twin could not be evaluated on every stimulus: its outputs are not finite, most likely"


def _joined(parts: Sequence[Mapping[str, Tensor]], model: Model) -> PlainSummary:
    """The strength, of what was found out shard by shard."""
    assert isinstance(model.ladder.evaluate, Evaluation)
    names = [name for name in parts[0] if name not in (PARAMETERS, STIMULI)]
    if not names or any(name not in part for part in parts for name in names):
        return {"loss": None, "strength_note": NOT_EVALUATED}
    order = torch.cat([part[STIMULI] for part in parts]).argsort()
    joined = {name: torch.cat([part[name] for part in parts])[order] for name in names}
    return _finite(plain_values("evaluate", model, model.ladder.evaluate.summarise(joined, model.pool)))


def _evaluate(network: nn.Module, model: Model, control: str) -> PlainSummary:
    """The strength; missing for a derived twin that cannot be evaluated, as it may overflow."""
    evaluate = model.ladder.evaluate or strength.evaluate
    try:
        with code_of_user("evaluate", model, evaluate):
            result = evaluate(network, model.pool, device=model.settings.resolved_device)
    except ThalwegError:
        if control not in model.derived:
            raise
        return {"loss": None, "strength_note": NOT_EVALUATED}
    return _finite(plain_values("evaluate", model, result))


def _finite(strengths: Summary) -> PlainSummary:
    """The strengths, those that are not finite numbers as missing, with the reason."""
    wrong = [name for name, value in strengths.items() if isinstance(value, float) and not math.isfinite(value)]
    note = {"strength_note": f"not finite: {', '.join(wrong)}"} if wrong else {}
    return {"loss": None, **strengths, **dict.fromkeys(wrong), **note}


def with_strengths(network: nn.Module, model: Model, summary: Summary, *, control: str = "trained") -> Summary:
    """What the tables say of a model that was trained here: its place on every strength axis, and how its training
    ended.
    """
    strengths = _evaluate(network, model, control)
    pool_loss = strengths.pop("loss")
    parameters = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    return {
        **summary,
        "pool_loss": pool_loss,
        **strengths,
        PARAMETERS: parameters,
        **training_compute(network, model, summary, trained=control not in ("untrained", *model.derived)),
    }


UNCOUNTED = "how many examples it was trained on is not known"


def training_compute(network: nn.Module, model: Model, summary: Summary, *, trained: bool) -> PlainSummary:
    """The floating-point operations of its training, or why they are missing: weights that were loaded, an operation
    that cannot be counted.
    """
    examples = summary.get("train_examples")
    if not isinstance(examples, int | float) or (examples == 0 and trained):
        return {"compute": None, "compute_note": UNCOUNTED}
    try:
        forward = strength.forward_flops(network.to("cpu"), model.pool)
    except Exception as wrong:  # a side column does not take a model down
        return {"compute": None, "compute_note": f"operations could not be counted: {reason(wrong)}"}
    finally:
        network.to(model.settings.resolved_device)
    return {"compute": 3 * forward * int(examples)}  # a backward pass costs two forward passes
