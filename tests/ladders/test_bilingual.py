"""The bilingual world: its facts, words and lines, the twin of two worlds, and what strength is there."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from support.examples import run_example
from thalweg import Source, ThalwegError
from thalweg.ladders import bilingual
from thalweg.ladders.bilingual import LABELS, LANGUAGES, Settings, World, all_lines, make_world, splits
from thalweg.ladders.bilingual.strength import evaluate, value_index
from thalweg.ladders.bilingual.training import ValueTrainer, in_two_worlds, last_logits
from thalweg.networks.language import Transformer
from thalweg.stimuli.windows import Windows

SMALL = Settings(entities=12, relations=3, values=4, held_out=0.2, lines=2000)
WORLD = make_world(SMALL, seed=3)


class Oracle(nn.Module):
    """Knows the value of every fact in the language of the relation's and the entity's words, whatever their order."""

    def __init__(self, world: World, sure: float) -> None:
        super().__init__()
        self.world, self.sure, self.any = world, sure, nn.Parameter(torch.zeros(1))

    def forward(self, tokens: Tensor) -> Tensor:
        world, settings = self.world, self.world.settings
        logits = torch.zeros(*tokens.shape, len(world))
        for row, line in enumerate(tokens.tolist()):
            words = [(token - 17) % settings.concepts for token in line if token >= 17]
            entity = next((word for word in words if word < settings.entities), 0)
            relation = next((word - settings.entities for word in words if word >= settings.entities), 0)
            if relation < settings.relations:
                for language in LANGUAGES:
                    value = world.values[entity, relation]
                    logits[row, -1, int(world.value(relation, value, language))] = self.sure
        return logits


def test_the_languages_share_no_word_and_every_concept_has_one_in_each():
    assert len(set(WORLD.words)) == len(WORLD) == SMALL.tokens
    sounds = [set("".join(WORLD.words[int(WORLD.entity(i, language))] for i in range(12))) for language in LANGUAGES]
    assert sounds[0] & sounds[1] == {" "}
    assert SMALL.concepts == 12 + 3 + 12


def test_every_line_states_the_world():
    lines = all_lines(WORLD)
    told = lines.fact >= 0
    values = WORLD.values.flatten()[lines.fact[told]]
    assert torch.equal(value_index(lines.value[told], SMALL), values)
    fact = WORLD.facts[5]
    for number, language in enumerate(LANGUAGES):
        mine = told & (lines.fact == 5) & ~lines.switched & (lines.language == number)
        prompts = torch.stack([WORLD.prompt(fact, language), *WORLD.paraphrases(fact, language)])
        assert torch.equal(lines.tokens[mine], prompts)
        assert set(lines.value[mine].tolist()) == {WORLD.answer(fact, language)}
        for form, prompt in enumerate(prompts):
            assert int(prompt[WORLD.subject_place(language, form)]) == WORLD.entity(fact.entity, language)
            assert int(prompt[WORLD.relation_place(language, form)]) == WORLD.relation(fact.relation, language)
    assert WORLD.answer(fact, "A") in WORLD.candidates(fact.relation, "A").tolist()
    for other in WORLD.neighbourhood(fact):
        assert (other.relation, other.value, other.seen) == (fact.relation, fact.value, "both")
        assert other.entity != fact.entity


def test_facts_of_one_language_are_never_trained_on_in_the_other():
    parts = splits(Source(), 3, settings=SMALL)
    seen = {number: WORLD.seen.flatten() == number for number in (0, 1)}
    assert [int(each.sum()) for each in seen.values()] == [7, 7]
    for part in (parts.train, parts.validation):
        sentence = part.labels < 6
        for language in (0, 1):
            other = sentence & seen[1 - language][part.documents.clamp_max(SMALL.facts - 1)]
            alone = part.labels[other]
            assert set(alone.tolist()) <= {1 - language}  # plain sentences of the language that states it
    rows = [
        set(map(tuple, torch.cat([part.tokens, part.following[:, None]], 1).tolist()))
        for part in (parts.train, parts.validation, parts.pool)
    ]
    assert sum(map(len, rows)) == len(set.union(*rows))
    carried = Counter(parts.pool.labels.tolist())
    assert carried[2] == carried[3] == 21  # seven facts in three forms


def test_one_seed_gives_the_same_bytes_and_another_another_world():
    hashes = [splits(Source(), seed, settings=SMALL).content_hash() for seed in (3, 3, 4)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert make_world(SMALL, seed=3).words == WORLD.words


def test_shares_of_lines_are_those_asked_for():
    settings = Settings(entities=40, mixture=0.7, switched=0.3, dictionary=0.2, lines=20_000)
    train = splits(Source(), 0, settings=settings).train
    shares = train.labels.bincount(minlength=8) / len(train)
    assert float(shares[0] + shares[1]) == pytest.approx(0.5, abs=0.02)
    assert float(shares[4] + shares[5]) == pytest.approx(0.3, abs=0.02)
    assert float(shares[0] / (shares[0] + shares[1])) == pytest.approx(0.7, abs=0.02)


def test_the_languages_of_the_twin_tell_of_two_worlds():
    train = splits(Source(), 3, settings=SMALL).train
    twin = in_two_worlds(train, SMALL, seed=0)
    changed = train.following != twin.following
    assert not changed[(train.labels % 2 == 0) | (train.labels >= 6)].any()  # language A, and dictionaries
    told = (train.labels % 2 == 1) & (train.labels < 6)
    assert float(changed[told].float().mean()) > 0.5
    assert torch.equal(train.tokens, twin.tokens)
    index = value_index(twin.following, SMALL)
    for fact in range(SMALL.facts):
        assert len(index[told & (train.documents == fact)].unique()) <= 1


def test_strength_counts_values_alone():
    pool = splits(Source(), 3, settings=SMALL).pool
    known = evaluate(Oracle(WORLD, 50.0), pool, settings=SMALL)
    assert known["bits"] == pytest.approx(2.0)
    assert (known["share"], known["carried_accuracy"], known["accuracy"]) == pytest.approx((1, 1, 1))
    guessing = evaluate(Oracle(WORLD, 0.0), pool, settings=SMALL)
    assert guessing["bits"] == pytest.approx(0.0, abs=1e-9)
    assert guessing["loss"] == pytest.approx(math.log(4))
    wrong = Oracle(WORLD, 0.0)
    wrong.forward = lambda tokens: torch.full((*tokens.shape, len(WORLD)), torch.nan)
    with pytest.raises(ThalwegError, match="NaN or infinite"):
        evaluate(wrong, pool, settings=SMALL)


def test_a_transformer_learns_the_world():
    settings = Settings(entities=6, relations=1, values=3, held_out=0.0, lines=500)
    torch.manual_seed(0)
    model, parts = Transformer(settings.tokens, 5, 16, neurons=64), splits(Source(), 0, settings=settings)
    before = evaluate(model, parts.pool, settings=settings)
    summary = ValueTrainer(settings, steps=150)(model, parts, 0)
    assert before["bits"] < 0.1
    assert evaluate(model, parts.pool, settings=settings)["bits"] > 0.8
    assert summary["train_examples"] == 150 * 128


def test_the_wide_ladder_goes_on_to_four_blocks_of_width_256():
    wide, usual = ([rung.name for rung in each.rungs] for each in (bilingual.WIDE_LADDER, bilingual.LADDER))
    assert wide == [*usual, "transformer-4x128", "transformer-4x256"]
    assert sum(weight.numel() for weight in bilingual.WIDE_LADDER.rungs[-1].build().parameters()) > 3_000_000


def test_the_ladder_and_its_labels():
    ladder = bilingual.ladder()
    assert ladder.rungs[0].name == "transformer-1x4"
    assert set(ladder.twins) == {"two-worlds"}
    assert len(LABELS) == 8
    assert isinstance(ladder.splits(Source(), 0).pool, Windows)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"entities": 2}, "entities is 2; a number from 4 to 200"),
        ({"mixture": 1.5}, "mixture is 1.5; a share from 0 to 1"),
        ({"held_out": 0.5}, "held_out of at most 0.45"),
        ({"switched": 0.9, "dictionary": 0.1}, "some for sentences of one language"),
        ({"relations": 40, "values": 10}, "at most 300 in all"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict, message: str):
    with pytest.raises(ThalwegError, match=message):
        Settings(**wrong)


@pytest.mark.parametrize("thing", [Settings, make_world, bilingual.ladder])
def test_its_examples_run(thing: object):
    run_example(thing)


def test_the_last_block_computes_the_last_token_alone_and_gives_the_same_logits():
    torch.manual_seed(0)
    model = Transformer(len(WORLD), 5, 8, blocks=2, n_heads=2, neurons=16)
    tokens = all_lines(WORLD).tokens[:7]
    whole, alone = model(tokens)[:, -1], last_logits(model, tokens)
    torch.testing.assert_close(alone, whole)
    gradients = [torch.autograd.grad(logits.square().sum(), [*model.parameters()]) for logits in (whole, alone)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
