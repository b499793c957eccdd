"""The ladder of text: its models against their definitions, its training, its strength, its order."""

import itertools
import math
import pickle
from functools import partial
from pydoc_data.topics import topics

import pytest
import torch
from torch import Tensor, nn

from thalweg import Rung, Splits, ThalwegError
from thalweg.files.identity import identity
from thalweg.ladders import words
from thalweg.networks.language import BagOfWords, Block, Transformer, Unigram, first_occurrence
from thalweg.stimuli import corpus
from thalweg.stimuli.base import Source
from thalweg.stimuli.docstrings import cleaned
from thalweg.stimuli.documents import Document, Texts
from thalweg.stimuli.windows import NO_TARGET, Vocabulary, Windows
from thalweg.strength import language as strength_language
from thalweg.strength.language import bigram_bits_per_byte, evaluate, mean_loss, unigram
from thalweg.training import next_token
from thalweg.training.next_token import LanguageTrainer

VOCABULARY, LENGTH = 40, 12


def planted(count: int, *, seed: int) -> Windows:
    """Windows of a language in which a token depends on the one before it, and half of the tokens also on one at the
    beginning of the window.
    """
    generator = torch.Generator().manual_seed(99)
    table = 3 * torch.randn(VOCABULARY, VOCABULARY, generator=generator)
    subject = 3 * torch.randn(VOCABULARY, VOCABULARY, generator=generator)
    generator.manual_seed(seed)
    text = torch.randint(VOCABULARY, (count, 1), generator=generator)
    for _ in range(LENGTH):
        logits = table[text[:, -1]] + subject[text[:, 0]]
        text = torch.cat([text, logits.softmax(1).multinomial(1, generator=generator)], 1)
    pieces = tuple(bytes([97 + token % 26]) * (1 + token // 26) for token in range(VOCABULARY))
    counts = text.flatten().bincount(minlength=VOCABULARY)
    zeros = torch.zeros(count, dtype=torch.int64)
    vocabulary = Vocabulary(pieces, counts, torch.zeros(1, VOCABULARY))
    return Windows(text[:, :-1].int(), text[:, -1].int(), torch.arange(count), zeros, ("planted",), vocabulary)


@pytest.fixture(scope="module")
def text() -> Splits:
    return Splits(planted(1500, seed=0), planted(300, seed=1), planted(300, seed=2))


@pytest.fixture(scope="module")
def english() -> Splits:
    """The embedded text on Python's topics, 366 kilobytes, in documents of about one length."""
    paragraphs = [part for _, text in sorted(topics.items()) for part in cleaned(text).splitlines()]
    documents = [
        Document(f"from paragraph {first}", "\n".join(paragraphs[first : first + 20]), "Python topics")
        for first in range(0, len(paragraphs), 20)
    ]
    return corpus.split(Texts(documents), seed=0, pool=400, validation=100)


def seeded(build: partial[nn.Module] | type[nn.Module], *arguments: int, **named: int) -> nn.Module:
    torch.manual_seed(0)
    return build(*arguments, **named)


def tokens(vocabulary: int = VOCABULARY, length: int = LENGTH, seed: int = 0) -> Tensor:
    return torch.randint(vocabulary, (5, length), generator=torch.Generator().manual_seed(seed))


# The models


def gpt2(model: Transformer) -> nn.Module:
    """GPT-2 of `transformers` of the same size, with its own random weights, none of them zero."""
    from transformers import GPT2Config, GPT2LMHeadModel

    first = model.blocks[0]
    assert isinstance(first, Block)
    torch.manual_seed(1)
    reference = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=model.tokens.num_embeddings,
            n_positions=model.positions.num_embeddings,
            n_embd=model.tokens.embedding_dim,
            n_layer=len(model.blocks),
            n_head=first.n_heads,
            activation_function="gelu_new",
        )
    ).eval()
    with torch.no_grad():
        for weight in reference.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return reference


def pairs(model: Transformer, reference: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Each parameter of a transformer with that of GPT-2, as views of the same shape."""
    theirs = dict(reference.named_parameters())
    names = {
        "tokens": "wte",
        "positions": "wpe",
        "before_attention": "ln_1",
        "attention": "attn.c_attn",
        "after_attention": "attn.c_proj",
        "before_neurons": "ln_2",
        "neurons": "mlp.c_fc",
        "after_neurons": "mlp.c_proj",
        "before_logits": "ln_f",
    }
    result = []
    for name, weight in model.named_parameters():
        *block, part, kind = name.replace("blocks.", "h.").split(".")
        other = theirs[".".join(["transformer", *block, names[part], kind])]
        linear = kind == "weight" and ("c_" in names[part])  # GPT-2 keeps these matrices transposed
        result.append((weight.data, other.data.T if linear else other.data))
    return result


@pytest.mark.parametrize("direction", ["from GPT-2", "to GPT-2"])
@pytest.mark.parametrize("neurons", [64, 0])
def test_a_transformers_logits_are_those_of_gpt2_on_the_same_weights(neurons: int, direction: str):
    model = seeded(Transformer, VOCABULARY, LENGTH, 16, blocks=3, n_heads=4, neurons=neurons)
    assert isinstance(model, Transformer)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    reference = gpt2(model)
    matched = pairs(model, reference)
    for mine, theirs in matched:
        if direction == "from GPT-2":
            mine.copy_(theirs)
        else:
            theirs.copy_(mine)
    if not neurons:
        for name, weight in reference.named_parameters():
            if "mlp.c_proj" in name:
                weight.data.zero_()
    elif direction == "to GPT-2":
        assert sum(mine.numel() for mine, _ in matched) == sum(weight.numel() for weight in reference.parameters())
    with torch.inference_mode():
        mine, theirs = model(tokens()), reference(tokens()).logits
    assert theirs.std() > 0.5
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)


def test_attention_only_rungs_have_no_parameters_of_a_multilayer_perceptron():
    for rung in words.LADDER.rungs:
        names = {part for name, _ in rung.build().named_parameters() for part in name.split(".")}
        assert ("neurons" in names) == (rung.kind == "transformer")
        if rung.kind == "attention only":
            allowed = {
                "tokens",
                "positions",
                "blocks",
                "before_attention",
                "attention",
                "after_attention",
                "before_logits",
            }
            assert names - allowed <= {"weight", "bias", "0", "1"}


def every_rung() -> list[Rung]:
    return [*words.LADDER.rungs, words.TRAINING.rungs[0]]


@pytest.mark.parametrize("rung", every_rung(), ids=lambda rung: rung.name)
def test_no_model_sees_what_comes_later(rung: Rung):
    model = seeded(rung.build).eval()
    before, after = tokens(2048, 24), tokens(2048, 24, seed=1)
    mixed = torch.cat([before[:, :15], after[:, 15:]], 1)
    with torch.inference_mode():
        kept, changed = model(before), model(mixed)
    assert kept.shape == (5, 24, 2048)
    torch.testing.assert_close(kept[:, :15], changed[:, :15])
    assert rung.name == "unigram" or not torch.allclose(kept[:, 15:], changed[:, 15:])


def test_a_tokens_first_occurrence_is_found():
    result = first_occurrence(torch.tensor([[3, 1, 3, 3, 2, 1]]))
    assert result.tolist() == [[True, True, False, False, True, False]]


def test_a_bag_of_words_knows_which_tokens_there_were_but_neither_where_nor_how_often():
    model = seeded(BagOfWords, VOCABULARY, 8).eval()
    windows = torch.tensor([[4, 7, 7, 9, 5], [9, 5, 4, 9, 7], [5, 5, 9, 7, 4], [5, 9, 7, 7, 3]])
    with torch.inference_mode():
        last = model(windows)[:, -1]
    torch.testing.assert_close(last[0], last[1])
    torch.testing.assert_close(last[0], last[2])
    assert not torch.allclose(last[0], last[3])


@pytest.mark.parametrize("rung", every_rung(), ids=lambda rung: rung.name)
def test_layers_hold_units_on_the_axis_they_name(rung: Rung):
    model = seeded(rung.build).eval()
    modules, result = dict(model.named_modules()), {}
    for layer in rung.layers:
        modules[layer.name].register_forward_hook(lambda _m, _i, out, name=layer.name: result.update({name: out}))
    with torch.inference_mode():
        model(tokens(2048, 24))
    for layer in rung.layers:
        assert result[layer.name].shape[:2] == (5, 24)
        assert layer.unit_axis == 2
        assert (layer.reduction, layer.skip, layer.max_units) == ("last", 0, 64)
        assert (layer.nonlinearity is not None) == layer.name.endswith(("hidden", "neurons"))


def test_heads_are_what_attention_gathers_and_neurons_come_before_their_activation():
    model = seeded(Transformer, VOCABULARY, LENGTH, 8, blocks=1, n_heads=2, neurons=32)
    block = model.blocks[0]
    stream = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(0))
    seen: dict[str, Tensor] = {}
    for name in ("heads", "neurons", "residual"):
        getattr(block, name).register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    with torch.inference_mode():
        block(stream)
        query, key, value = block.attention(block.before_attention(stream))[0].chunk(3, 1)
        for head in (slice(0, 4), slice(4, 8)):
            scores = (query[:, head] @ key[:, head].T / 2).masked_fill(~torch.ones(4, 4).tril().bool(), -math.inf)
            torch.testing.assert_close(seen["heads"][0][:, head], scores.softmax(1) @ value[:, head])
        middle = stream + block.after_attention(seen["heads"])
        x = block.before_neurons(middle) @ block.neurons.weight.T + block.neurons.bias
        torch.testing.assert_close(seen["neurons"], x)
        active = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        torch.testing.assert_close(seen["residual"], middle + block.after_neurons(active))


def test_heads_that_do_not_share_the_width_are_refused():
    with pytest.raises(ValueError, match="3 heads cannot share a width of 8"):
        Transformer(VOCABULARY, LENGTH, 8, n_heads=3)


# Strength


class Table(nn.Module):
    """Logits looked up by the last token."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table[tokens]


def test_the_bigram_models_bits_per_byte_are_the_closed_form_from_counts(text: Splits):
    train, pool = text.train, text.pool
    follows: dict[tuple[int, int], int] = {}
    totals = [0] * VOCABULARY
    for window, following in zip(train.tokens.tolist(), train.following.tolist(), strict=True):
        for last, after in zip(window, [*window[1:], following], strict=True):
            follows[last, after] = follows.get((last, after), 0) + 1
            totals[last] += 1
    counts = [count + 1 for count in train.vocabulary.counts.tolist()]
    likelihood = [
        [
            (follows.get((last, after), 0) + 5 * counts[after] / sum(counts)) / (totals[last] + 5)
            for after in range(VOCABULARY)
        ]
        for last in range(VOCABULARY)
    ]
    bits, size = 0.0, 0
    for window, following in zip(pool.tokens.tolist(), pool.following.tolist(), strict=True):
        for last, after in zip(window, [*window[1:], following], strict=True):
            bits -= math.log2(likelihood[last][after])
            size += len(pool.vocabulary.pieces[after])
    assert bigram_bits_per_byte(train, pool, prior=5.0) == pytest.approx(bits / size, rel=1e-9)
    table = torch.tensor(likelihood).log()
    assert evaluate(Table(table), pool)["bits_per_byte"] == pytest.approx(bits / size, rel=1e-5)
    assert sum(likelihood[3]) == pytest.approx(1)


def test_the_unigram_model_is_the_zero_of_strength(text: Splits):
    frequency = -unigram(text.pool.vocabulary.counts)
    assert frequency.exp().sum() == pytest.approx(1)
    result = evaluate(Table(frequency.float().expand(VOCABULARY, -1).clone()), text.pool)
    assert result["bits"] == pytest.approx(0, abs=1e-6)
    assert result["share"] == pytest.approx(0, abs=1e-6)
    targets = text.pool.targets(slice(None))
    assert result["accuracy"] == pytest.approx(float((targets == frequency.argmax()).double().mean()))
    assert result["loss"] == pytest.approx(float(-frequency[targets].mean()), rel=1e-5)


def test_places_without_a_next_token_do_not_count(text: Splits):
    table = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(0))
    pool = text.pool.take(slice(0, 50))
    unknown = Windows(
        pool.tokens,
        torch.full_like(pool.following, NO_TARGET),
        pool.documents,
        pool.labels,
        pool.label_names,
        pool.vocabulary,
    )
    shorter = Windows(
        pool.tokens[:, :-1], pool.tokens[:, -1], pool.documents, pool.labels, pool.label_names, pool.vocabulary
    )
    assert evaluate(Table(table), unknown) == pytest.approx(evaluate(Table(table), shorter))


def test_logits_that_are_not_as_they_should_be_are_refused(text: Splits):
    table = torch.zeros(VOCABULARY, VOCABULARY)
    table[3, 3] = torch.nan
    with pytest.raises(ThalwegError, match="NaN or infinite logits"):
        evaluate(Table(table), text.pool)
    with pytest.raises(ThalwegError, match=r"returned \(64, 12, 7\); logits of shape \(64, 12, 40\)"):
        evaluate(Table(torch.zeros(VOCABULARY, 7)), text.pool)
    with pytest.raises(ThalwegError, match=r"returned \(64, 12\); logits of shape"):
        evaluate(Table(torch.zeros(VOCABULARY)), text.pool)
    assert evaluate(Table(torch.zeros(VOCABULARY, 50)), text.pool)["loss"] == pytest.approx(math.log(50))


# Training


def trained(model: nn.Module, text: Splits, **named: float) -> tuple[nn.Module, dict[str, float | int | str]]:
    return model, LanguageTrainer(**named)(model, text, 0)


def small() -> nn.Module:
    return seeded(Transformer, VOCABULARY, LENGTH, 16, n_heads=2)


def test_training_spends_the_budget_and_keeps_the_best_weights(text: Splits):
    model, settings = trained(small(), text, tokens=20_000, learning_rate=1e-2)
    assert settings["stopped"] == "token budget spent"
    assert settings["train_tokens"] == settings["train_examples"] * LENGTH
    assert 0 <= settings["train_tokens"] - 20_000 < 8 * LENGTH
    assert settings["epochs"] == pytest.approx(settings["train_examples"] / 1500)
    assert mean_loss(model, text.validation) == pytest.approx(settings["validation_loss"], abs=1e-6)
    assert settings["validation_loss"] <= settings["last_validation_loss"]
    assert settings["validation_loss"] < math.log(VOCABULARY)


def test_training_stops_when_the_validation_loss_has_stopped_improving(text: Splits):
    few = Splits(text.train.take(slice(0, 30)), text.validation, text.pool)
    model = seeded(Transformer, VOCABULARY, LENGTH, 32, n_heads=2, neurons=128)
    model, settings = trained(model, few, tokens=200_000, learning_rate=1e-2, evaluations=40, patience=3)
    assert settings["stopped"] == "validation loss stopped improving"
    assert settings["train_tokens"] < 100_000
    assert settings["train_loss"] < settings["validation_loss"] < settings["last_validation_loss"]
    assert mean_loss(model, text.validation) == pytest.approx(settings["validation_loss"], abs=1e-6)


def test_a_budget_of_fewer_steps_than_evaluations_is_spent(text: Splits):
    _, settings = trained(small(), text, tokens=2 * 8 * LENGTH)
    assert (settings["train_examples"], settings["stopped"]) == (16, "token budget spent")


def test_the_same_seed_trains_the_same_model(text: Splits):
    first, again, other = small(), small(), small()
    train = LanguageTrainer(tokens=5_000)
    for model, seed in ((first, 0), (again, 0), (other, 1)):
        train(model, text, seed)
    assert torch.equal(first.tokens.weight, again.tokens.weight)
    assert not torch.equal(first.tokens.weight, other.tokens.weight)


def test_a_loss_that_is_not_finite_and_stimuli_that_are_no_text_are_refused(text: Splits):
    with pytest.raises(ThalwegError, match="NaN or infinite; train with a smaller learning rate"):
        trained(seeded(Table, torch.full((VOCABULARY, VOCABULARY), torch.nan)), text, tokens=1_000)
    with pytest.raises(ThalwegError, match="given list; windows of text were expected"):
        strength_language.windows([])
    with pytest.raises(ThalwegError, match="no windows of text"):
        strength_language.windows(text.pool.take(slice(0, 0)))


def test_l1_makes_the_hidden_units_of_a_bag_of_words_sparse(text: Splits):
    active = []
    for l1 in (0.0, 0.05):
        model, _ = trained(seeded(BagOfWords, VOCABULARY, 32), text, tokens=40_000, learning_rate=1e-2, l1=l1)
        with torch.inference_mode():
            active.append(float((model.hidden(text.pool.batch(slice(None))) > 0).float().mean()))
    assert active[1] < active[0] / 2
    assert active[1] > 0


def test_a_course_pauses_at_each_checkpoint_and_none_depends_on_how_long_it_goes_on(text: Splits):
    def weights(checkpoints: tuple[int, ...]) -> list[Tensor]:
        model, result = small(), []
        for settings in next_token.train_checkpoints(
            model, text, 0, checkpoints, trainer=LanguageTrainer(learning_rate=1e-2)
        ):
            result.append(model.tokens.weight.detach().clone())
            told_of.append(settings)
        return result

    told_of: list[dict[str, float | int | str]] = []
    checkpoints = (0, 2_000, 8_000, 32_000)
    every = weights(checkpoints)
    assert torch.equal(every[0], small().tokens.weight)
    assert told_of[0]["train_tokens"] == told_of[0]["train_examples"] == 0
    for settings, tokens_seen in zip(told_of, checkpoints, strict=True):
        assert 0 <= settings["train_tokens"] - tokens_seen < 8 * LENGTH
        assert settings["stopped"] == "checkpoint"
    losses = [settings["validation_loss"] for settings in told_of]
    assert losses == sorted(losses, reverse=True)
    assert torch.equal(weights((8_000,))[0], every[2])


# The ladder


def test_every_rung_can_be_built_elsewhere_and_names_layers_that_it_has():
    for ladder in (words.LADDER, words.TRAINING, words.ladder(32), words.ladder(reduction="max")):
        again = pickle.loads(pickle.dumps(ladder))
        assert len({rung.name for rung in again.rungs}) == len(again.rungs)
        for rung, copied in zip(ladder.rungs, again.rungs, strict=True):
            model = seeded(copied.build)
            assert torch.equal(next(model.parameters()), next(seeded(rung.build).parameters()))
            assert {layer.name for layer in rung.layers} <= {name for name, _ in model.named_modules()}
            assert identity(rung.train) == identity(copied.train)
    assert pickle.loads(pickle.dumps(words.TRAINING)).checkpoint_trainer is not None


def test_models_that_differ_say_so_in_their_text():
    settings = [str(rung.build()) for rung in words.LADDER.rungs]
    assert len(set(settings)) == len(settings)
    assert str(Transformer(9, 8, 8, n_heads=1)) != str(Transformer(9, 8, 8, n_heads=2))
    assert str(Unigram(9)) != str(Unigram(10))


def test_the_ladder_grows_in_width_depth_and_budget():
    rungs = {rung.name: rung for rung in words.LADDER.rungs}
    assert len(rungs) >= 12
    assert sum(rung.quick for rung in rungs.values()) == 6
    assert {rung.kind for rung in rungs.values()} == {"bag of words", "attention only", "transformer"}
    families = (
        ["unigram", "bag-16", "bag-64", "bag-256"],
        [f"attention-{width}" for width in (8, 16, 32, 64, 128, 256)],
        ["attention-64", "attention-2x64", "attention-2x128"],
        ["transformer-1x64", "transformer-1x128", "transformer-2x128", "transformer-4x128"],
    )
    for family in families:
        for weaker, stronger in itertools.pairwise(family):
            sizes = [sum(weight.numel() for weight in rungs[name].build().parameters()) for name in (weaker, stronger)]
            assert sizes[0] < sizes[1]
            if weaker != "unigram":
                assert rungs[weaker].train.tokens <= rungs[stronger].train.tokens


def test_checkpoints_are_log_spaced_from_none_on():
    first, *later = (rung.checkpoint for rung in words.TRAINING.rungs)
    assert first == 0
    assert {after / before for before, after in itertools.pairwise(later)} == {2.0}
    assert len({str(rung.build()) for rung in words.TRAINING.rungs}) == 1


def test_longer_windows_and_the_maximum_are_ladders_of_their_own():
    longer, most = words.ladder(32), words.ladder(reduction="max")
    assert (words.LADDER.name, longer.name, most.name) == ("words", "words:32", "words-max")
    assert longer.rungs[-1].build()(tokens(2048, 32)).shape == (5, 32, 2048)
    layers = [layer for rung in most.rungs for layer in rung.layers]
    assert {(layer.reduction, layer.skip) for layer in layers} == {("max", 4)}
    with pytest.raises(ThalwegError, match="windows have 4 tokens; the max leaves out 4"):
        words.ladder(4, reduction="max")
    with pytest.raises(ThalwegError, match="ladder 'words:1': the number is that of tokens in a window; at least 2"):
        words.ladder(1)


def test_the_ladders_text_has_windows_of_the_length_asked_for(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(
        "\n\n".join(f"Paragraph {n} says that {n} and {n + 1} make {2 * n + 1}, which is odd." for n in range(600))
    )
    result = words.ladder(8).splits(Source(file), 0)
    assert result.train.length == result.pool.length == 8
    assert evaluate(seeded(words.ladder(8).rungs[4].build), result.pool)["loss"] == pytest.approx(
        math.log(2048), rel=0.05
    )


BUDGETS = (150_000, 100_000, 130_000, 120_000)  # tokens


def strength(rung: Rung, text: Splits, tokens: int) -> float:
    model = seeded(rung.build)
    train = rung.train
    assert isinstance(train, LanguageTrainer)
    LanguageTrainer(tokens=tokens, learning_rate=train.learning_rate, batch_size=train.batch_size, l1=train.l1)(
        model, text, 0
    )
    return evaluate(model, text.pool)["bits"]


def test_rungs_are_ordered_and_spread_on_english_even_with_small_budgets(english: Splits):
    names = ("unigram", "bag-64", "attention-8", "attention-64")
    rungs = {rung.name: rung for rung in words.LADDER.rungs}
    result = [strength(rungs[name], english, tokens) for name, tokens in zip(names, BUDGETS, strict=True)]
    assert result == sorted(result)
    assert abs(result[0]) < 0.05
    assert min(after - before for before, after in itertools.pairwise(result)) > 0.05
