"""Language models as they were published: windows by their tokenizers, their units by hand, their files, ladders."""

import json
import math
import pickle
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn

from support.documents import planted
from thalweg import Layer, ThalwegError, bases, ladders, measure, subjects, survey, train_dictionary
from thalweg.files.identity import identity
from thalweg.ladders import causal as families
from thalweg.models import checks
from thalweg.models.records import Ladder
from thalweg.observers import texts
from thalweg.pipeline import score
from thalweg.pipeline.job import Model
from thalweg.pipeline.one_model import layers_and_others
from thalweg.pipeline.record import fit_encoders
from thalweg.pipeline.settings import Settings
from thalweg.recording.readout import rotation
from thalweg.recording.record import record
from thalweg.recording.settings import RecordingSettings
from thalweg.runs.directory import RunDirectory
from thalweg.scoring.units import Halves
from thalweg.stimuli import corpus, topics
from thalweg.stimuli.base import Source, Splits, halves
from thalweg.stimuli.corpus import split
from thalweg.stimuli.documents import Document, Texts
from thalweg.stimuli.encoding import Encoded, encode_whole
from thalweg.stimuli.scripts import LETTER
from thalweg.stimuli.vocabulary import pieces
from thalweg.stimuli.windows import NO_TARGET, Vocabulary, Windows
from thalweg.stimuli.words import WORD
from thalweg.strength import language
from thalweg.subjects.checkpoints import Checkpoint, located
from thalweg.subjects.language import causal
from thalweg.subjects.language_layers import Activation, kind_of, layers
from thalweg.subjects.transformers_models import load, skeleton

ENTRIES, WINDOW = 420, 10
ODD = " Café naïve, 🙂 日本 don't 1234?\nThe <s> end_of it…\n"

# Tokenizers, in the manner of GPT-2 and of SentencePiece


def documents(count: int = 24) -> list[Document]:
    return [replace(item, text=item.text + ODD + item.text[:300]) for item in planted(count, words=300)]


def byte_level(*, trim: bool = False, regex: bool = True) -> Tokenizer:
    """As GPT-2's; without its regular expression tokens span a word, the marks after it and a line break."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if not regex:
        whole = pre_tokenizers.Split(Regex(r" ?[^\s]+\n?"), "isolated")
        bytes_alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([whole, bytes_alone])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    settings = {"vocab_size": ENTRIES, "initial_alphabet": alphabet, "show_progress": False}
    trainer = trainers.BpeTrainer(**settings, special_tokens=["<|endoftext|>", "<s>"])
    tokenizer.train_from_iterator([item.text for item in documents(8)], trainer)
    return tokenizer


def sentence_piece(*, prepend: bool = True) -> Tokenizer:
    """As Llama's: a space is put before the text, spaces are spelt ▁, what has no entry is spelt in bytes."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    text = [item.text.replace("\n", " ") for item in planted(8, words=300)]
    learner.train_from_iterator(text, trainers.BpeTrainer(vocab_size=150, show_progress=False))
    learnt = json.loads(learner.to_str())["model"]
    entries = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *learnt["vocab"]]
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    merges = [tuple(pair) for pair in learnt["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prepend else spaces
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "byte level": byte_level,
    "byte level, trimmed": lambda: byte_level(trim=True),
    "across words": lambda: byte_level(regex=False),
    "sentence piece": sentence_piece,
    "sentence piece, nothing put before": lambda: sentence_piece(prepend=False),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]()


def test_the_published_tokens_are_kept_and_their_bytes_are_those_of_the_text(tokenizer: Tokenizer):
    entries = pieces(tokenizer)
    for document, item in zip(documents(), encode_whole(documents(), tokenizer), strict=True):
        if "<s>" not in document.text:
            assert item.tokens.tolist() == tokenizer.encode(document.text, add_special_tokens=False).ids
        assert b"".join(entries[token] for token in item.tokens).removeprefix(b" ") == document.text.encode()
    special = tokenizer.token_to_id("<s>")
    assert entries[special] == b"<s>"
    assert special not in item.tokens  # the text says so, but it is text


def test_tokens_that_begin_words_are_those_whose_bytes_do(tokenizer: Tokenizer):
    entries = pieces(tokenizer)
    for document, item in zip(documents(), encode_whole(documents(), tokenizer), strict=True):
        sizes = np.array([len(entries[token]) for token in item.tokens])
        put_before = int(sizes.sum()) - len(document.text.encode())
        starts = (sizes.cumsum() - sizes - put_before).clip(min=0)
        words = {len(document.text[: word.start()].encode()) for word in WORD.finditer(document.text)}
        assert item.first.tolist() == [start in words for start in starts.tolist()]
        assert item.first.sum() > 100


def test_windows_begin_and_end_with_words_and_never_overlap(tokenizer: Tokenizer):
    part = documents(12)
    encoded = encode_whole(part, tokenizer)
    vocabulary = Vocabulary(pieces(tokenizer), torch.zeros(1).long(), torch.zeros(1, 1))
    windows = corpus.windows(part, encoded, vocabulary, length=WINDOW)
    assert len(windows) > 100
    ends = [{word.end() for word in WORD.finditer(document.text)} for document in part]
    index: dict[int, int] = {}
    for text, origin in zip(windows.texts(), windows.documents.tolist(), strict=True):
        whole = part[origin].text
        text = text if text in whole else text.removeprefix(" ")  # the one that the tokenizer put before the document
        start = whole.index(text, index.get(origin, 0))
        end = index[origin] = start + len(text)
        unspaced_start, unspaced_end = LETTER.match(text[0]), LETTER.match(whole[end - 1])
        assert text[0] == " " or start == 0 or whole[start - 1] == "\n" or unspaced_start
        assert end in ends[origin] or unspaced_end


def test_a_split_by_a_published_tokenizer_keeps_documents_apart(tokenizer: Tokenizer):
    result = split(Texts(documents(40)), seed=1, length=WINDOW, tokenizer=tokenizer, pool=200, validation=40)
    assert len(result.pool) > 60
    sources = [set(part.documents.tolist()) for part in (result.train, result.validation, result.pool)]
    assert [len(source) for source in sources] == [30, 2, 8]
    assert len(set.union(*sources)) == 40
    assert isinstance(result.pool, Windows)
    whole = [window for part in (result.train, result.validation, result.pool) for window in part.texts()]
    assert len(whole) == len(set(whole))
    assert result.pool.vocabulary.topics.shape == (32, len(pieces(tokenizer)))
    again = split(Texts(documents(40)), seed=1, length=WINDOW, tokenizer=tokenizer, pool=200, validation=40)
    assert again.content_hash() == result.content_hash()


def test_tags_are_those_of_the_word_that_holds_the_last_token(tokenizer: Tokenizer):
    result = split(Texts(planted(15, tagged=True)), seed=0, length=WINDOW, tokenizer=tokenizer)
    assert isinstance(result.pool, Windows)
    assert len(result.pool) > 100
    codes, names = result.pool.tags["part of speech"]
    for text, code in zip(result.pool.texts(), codes.tolist(), strict=True):
        last = WORD.findall(text)[-1].strip()
        last = last[-1] if last[-1] in ",." else last
        assert names[code] == f"{last[0]}-{len(last)}"


def test_windows_by_an_encoding_of_our_own_are_what_they_were():
    result = split(Texts(planted(40, tagged=True)), seed=3, length=12, entries=400, pool=300, validation=60)
    assert isinstance(result.pool, Windows)
    before = "25eb2f7ced0268b2"
    assert sha256(result.pool.tokens.numpy().tobytes()).hexdigest()[:16] == before


def test_topics_counted_sparsely_are_those_of_a_dense_matrix():
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, 50, size) for size in (7, 1, 30, 0)]
    result = topics.counted(rows, 60)
    assert result.has_sorted_indices
    assert np.array_equal(result.toarray(), [np.bincount(row, minlength=60) for row in rows])


# Large vocabularies


def large(count: int = 600, entries: int = 262_144) -> Windows:
    """Windows of a language of very many tokens, of which few are frequent."""
    generator = torch.Generator().manual_seed(0)
    ranks = (entries ** torch.rand(count, 25, generator=generator, dtype=torch.float64)).long() - 1
    tokens = (ranks * 7919) % entries
    vocabulary = Vocabulary(
        tuple(b"x" * (1 + number % 5) for number in range(entries)),
        tokens.flatten().bincount(minlength=entries),
        torch.zeros(2, entries),
    )
    zeros = torch.zeros(count, dtype=torch.int64)
    return Windows(tokens[:, :-1].int(), tokens[:, -1], torch.arange(count) // 8, zeros, ("kind",), vocabulary)


def test_a_bag_of_a_large_vocabulary_is_about_as_alike_as_the_exact_one():
    from sklearn.feature_extraction.text import TfidfTransformer

    windows = large()
    result = texts.bag(windows)
    assert result.shape == (600, texts.EXACT + texts.SHARED)
    exact = TfidfTransformer().fit_transform(texts.counts(windows))
    alike = (exact @ exact.T).toarray()
    difference = (result @ result.T).numpy() - alike
    assert abs(difference[~np.eye(600, dtype=bool)]).mean() < 0.02
    assert np.corrcoef((result @ result.T).numpy().ravel(), alike.ravel())[0, 1] > 0.9


def test_named_features_of_a_large_vocabulary_are_few():
    windows = large()
    anywhere = texts.anywhere(windows)
    named = texts.distinctive(windows.vocabulary, windows.length)
    assert anywhere.shape == (600, len(named))
    assert anywhere.numel() < 600 * 15_000
    column = int(anywhere.sum(0).argmax())
    assert torch.equal(anywhere[:, column] > 0, (windows.tokens == named[column]).any(1))


class Frequencies(nn.Module):
    """The same logits everywhere; remembers how large its batches were."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits, self.batches = logits, set()

    def forward(self, tokens: Tensor) -> Tensor:
        self.batches.add(len(tokens))
        return self.logits.expand(*tokens.shape, -1)


def test_logits_of_a_large_vocabulary_are_evaluated_a_few_windows_at_a_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(language, "LOGITS", 1 << 21)
    windows = large(30, entries=1 << 14)
    vocabulary = windows.vocabulary
    model = Frequencies(-language.unigram(vocabulary.counts).float())
    result = language.evaluate(model, windows)
    assert max(model.batches) == (1 << 21) // (24 << 14) == 5
    assert result["bits"] == pytest.approx(0, abs=1e-4)
    wider = Frequencies(torch.cat([model.logits, torch.full((300,), -1e9)]))  # entries that no token has
    assert language.evaluate(wider, windows) == pytest.approx(result, abs=1e-5)
    narrower = replace(windows, vocabulary=replace(vocabulary, pieces=(*vocabulary.pieces, b"<image>")))
    assert language.mean_loss(model, narrower) == pytest.approx(result["loss"], abs=1e-4)


# Models: tiny ones of each family, saved as their library saves them


def families_of_models() -> dict[str, tuple[type, object, Callable[[], Tokenizer]]]:
    import transformers as library

    inner = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    small = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24, "max_position_embeddings": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    gpt2 = library.GPT2Config(vocab_size=ENTRIES, n_positions=64, n_embd=16, n_layer=2, n_head=2, **inner)
    neox = library.GPTNeoXConfig(
        vocab_size=ENTRIES + 20, **small, num_attention_heads=2, tie_word_embeddings=False, **inner
    )
    llama = library.LlamaConfig(vocab_size=ENTRIES, **small, **heads, tie_word_embeddings=True, **inner)
    gemma = library.Gemma3TextConfig(vocab_size=ENTRIES, **small, **heads, head_dim=8, **inner)
    return {
        "gpt2": (library.GPT2LMHeadModel, gpt2, byte_level),
        "neox": (library.GPTNeoXForCausalLM, neox, byte_level),
        "llama": (library.LlamaForCausalLM, llama, sentence_piece),
        "gemma": (library.Gemma3ForCausalLM, gemma, sentence_piece),
    }


def made(family: str, seed: int = 0) -> nn.Module:
    """A model with random weights, none of them so small that nothing depends on it."""
    kind, config, _ = families_of_models()[family]
    torch.manual_seed(seed)
    model = kind(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model


def saved(folder: Path, family: str, seed: int = 0) -> Path:
    """A folder with such a model and its tokenizer."""
    from transformers import PreTrainedTokenizerFast

    made(family, seed).save_pretrained(folder)
    tokenizer = families_of_models()[family][2]()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    assert tuple(families_of_models()) == FAMILIES
    return {family: saved(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.fixture(scope="module")
def texts_for(folders: dict[str, Path]) -> dict[str, Windows]:
    """Nine windows for each family, so that batches of four leave one over."""
    result = {}
    for family in folders:
        tokens = families_of_models()[family][2]()
        parts = split(Texts(documents(12)), seed=0, length=WINDOW, tokenizer=tokens)
        assert isinstance(parts.pool, Windows)
        result[family] = parts.pool.take(slice(0, 9))
    return result


FAMILIES = ("gpt2", "neox", "llama", "gemma")  # named, because these classes take a second to import
BEGIN = {"gpt2": [], "neox": [], "llama": [1], "gemma": [1]}


def whole(family: str, windows: Windows) -> Tensor:
    """The windows with what the family's tokenizer puts before them."""
    before = torch.tensor(BEGIN[family]).long().expand(len(windows), -1)
    return torch.cat([before, windows.batch(slice(None))], 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_plain_model(folders: dict[str, Path], texts_for: dict[str, Windows], family: str):
    windows = texts_for[family]
    model = subjects.find(f"hf:{folders[family]}").load()
    with torch.inference_mode():
        plain = made(family)(whole(family, windows)).logits[:, len(BEGIN[family]) :]
        result = model(windows.batch(slice(None)))
        item = model(windows.batch(slice(8, 9)))
    assert result.shape == (9, WINDOW, plain.shape[2])
    assert torch.allclose(result, plain, atol=1e-5)
    assert torch.allclose(item, plain[8:], atol=1e-5)
    settings = language.evaluate(model, windows)
    targets = windows.targets(slice(None))
    known = targets != NO_TARGET
    nats = -plain.log_softmax(2)[known].gather(1, targets[known][:, None])
    assert settings["loss"] == pytest.approx(float(nats.mean()), rel=1e-5)
    length = sum(len(windows.vocabulary.pieces[token]) for token in targets[known].tolist())
    assert settings["bits_per_byte"] == pytest.approx(float(nats.sum()) / math.log(2) / length, rel=1e-5)


def by_hand(family: str, model: nn.Module, tokens: Tensor) -> dict[str, Tensor]:
    """The first block's units at every place, from the published equations; its heads solve o = W h + b."""
    with torch.inference_mode():
        stream, after = model(tokens, output_hidden_states=True).hidden_states[:2]
    kept: dict[str, Tensor] = {}
    block = {"gpt2": "transformer.h.0", "neox": "gpt_neox.layers.0"}.get(family, "model.layers.0")
    part = model.get_submodule
    attention = {"gpt2": "attn", "neox": "attention"}.get(family, "self_attn")
    handle = part(f"{block}.{attention}").register_forward_hook(lambda _m, _a, out: kept.update(written=out[0]))
    with torch.inference_mode():
        model(tokens)
        handle.remove()
        written = kept["written"]
        if family == "gpt2":
            weight, bias = part(f"{block}.attn.c_proj").weight.T, part(f"{block}.attn.c_proj").bias
            middle = stream + written
            neurons = part(f"{block}.ln_2")(middle) @ part(f"{block}.mlp.c_fc").weight + part(f"{block}.mlp.c_fc").bias
        elif family == "neox":
            weight, bias = part(f"{block}.attention.dense").weight, part(f"{block}.attention.dense").bias
            up = part(f"{block}.mlp.dense_h_to_4h")
            neurons = part(f"{block}.post_attention_layernorm")(stream) @ up.weight.T + up.bias
        else:
            weight, bias = part(f"{block}.self_attn.o_proj").weight, torch.tensor(0.0)
            before = "post_attention_layernorm" if family == "llama" else "pre_feedforward_layernorm"
            written_in = written if family == "llama" else part(f"{block}.post_attention_layernorm")(written)
            normal = part(f"{block}.{before}")(stream + written_in)
            gate, up = (normal @ part(f"{block}.mlp.{name}_proj").weight.T for name in ("gate", "up"))
            function = nn.functional.silu if family == "llama" else lambda x: nn.functional.gelu(x, approximate="tanh")
            neurons = function(gate) * up
    heads = torch.linalg.lstsq(weight.expand(len(tokens), -1, -1), (written - bias).mT).solution.mT
    return {"heads": heads, "neurons": neurons, "residual": after}


NAMES = {
    "gpt2": ["transformer.h.0.attn.c_proj:in", "transformer.h.0.mlp.c_fc", "transformer.h.0"],
    "neox": ["gpt_neox.layers.0.attention.dense:in", "gpt_neox.layers.0.mlp.dense_h_to_4h", "gpt_neox.layers.0"],
    "llama": ["model.layers.0.self_attn.o_proj:in", "model.layers.0.mlp.down_proj:in", "model.layers.0"],
}
NAMES["gemma"] = NAMES["llama"]
FUNCTIONS = {"gpt2": Activation("gelu_new"), "neox": Activation("gelu"), "llama": None, "gemma": None}


@pytest.mark.parametrize("pool", ["last", "max"])
@pytest.mark.parametrize("family", FAMILIES)
def test_units_are_those_of_the_published_equations(
    folders: dict[str, Path], texts_for: dict[str, Windows], family: str, pool: str
):
    windows, subject = texts_for[family], causal(str(folders[family]))
    assert [layer.name for layer in subject.layers[:3]] == NAMES[family]
    assert len(subject.layers) == 6
    assert [layer.nonlinearity for layer in subject.layers[:3]] == [None, FUNCTIONS[family], None]
    positions = [replace(layer, reduction=pool) for layer in subject.layers[:3]]
    result = record(subject.load(), positions, windows, torch.arange(9), RecordingSettings(k=3, sample=9, batch_size=4))
    hand = by_hand(family, made(family), whole(family, windows))
    for layer, kind in zip(positions, ("heads", "neurons", "residual"), strict=True):
        recording = result[layer.name, "neurons"]
        at_places = hand[kind][:, len(BEGIN[family]) :]
        expected = at_places[:, -1] if pool == "last" else at_places.amax(1)
        if kind == "heads" and recording.sample.shape[1] > 16:  # more heads' values than the stream has: not unique
            project = made(family).get_submodule(layer.name.removesuffix(":in")).weight
            assert pool == "max" or torch.allclose(
                recording.sample @ project.T, expected[recording.sample_ids()] @ project.T, atol=1e-4
            )
            continue
        near = 5e-3 if kind == "heads" else 2e-4  # heads come from solving equations in single precision
        assert torch.allclose(recording.sample, expected[recording.sample_ids()], atol=near), kind


def test_no_logits_are_computed_that_nobody_reads(folders: dict[str, Path], texts_for: dict[str, Windows]):
    model = causal(str(folders["llama"])).load()
    sizes = []
    handle = model.lm_head.register_forward_hook(lambda _m, _a, out: sizes.append(out.shape[1]))
    residual = Layer("model.layers.1", "last", unit_axis=2)
    record(model, [residual], texts_for["llama"], torch.arange(9), RecordingSettings(k=2, sample=2))
    logits = Layer("lm_head", "max", unit_axis=2, skip=1)
    result = record(model, [residual, logits], texts_for["llama"], torch.arange(9), RecordingSettings(k=3, sample=9))
    handle.remove()
    assert sizes == [1, WINDOW + 1]
    with torch.inference_mode():
        whole_logits = model(texts_for["llama"].batch(slice(None)))
    sample = result["lm_head", "neurons"]
    assert torch.allclose(sample.sample, whole_logits.amax(1)[sample.sample_ids()], atol=1e-5)


def test_a_model_called_by_names_is_unchanged(folders: dict[str, Path], texts_for: dict[str, Windows]):
    tokens = texts_for["llama"].batch(slice(0, 2))
    result = causal(str(folders["llama"])).load().generate(tokens, max_new_tokens=4, do_sample=False)
    assert torch.equal(result, made("llama").generate(tokens, max_new_tokens=4, do_sample=False))


def test_a_subject_travels_to_other_processes_and_has_an_untrained_twin(folders: dict[str, Path]):
    subject = pickle.loads(pickle.dumps(causal(str(folders["gpt2"]))))
    assert (subject.kind, subject.modality, subject.name) == ("transformer", "text", folders["gpt2"].name)
    assert identity(subject.layers[1].nonlinearity) == identity(Activation("gelu_new")) != identity(Activation("gelu"))
    trained = dict(subject.load().named_parameters())
    torch.manual_seed(5)
    twin = dict(subject.build().named_parameters())
    torch.manual_seed(5)
    again = dict(subject.build().named_parameters())
    assert {name: weight.shape for name, weight in twin.items()} == {name: w.shape for name, w in trained.items()}
    assert all(torch.equal(weight, again[name]) for name, weight in twin.items())
    assert not torch.allclose(twin["transformer.h.0.mlp.c_fc.weight"], trained["transformer.h.0.mlp.c_fc.weight"])
    assert subject.tokenizer().encode("a word").ids == byte_level().encode("a word").ids
    assert sum(weight.numel() for weight in skeleton(Checkpoint(str(folders["gpt2"]))).parameters()) > 1000


def test_half_precision_is_kept_in_loading_and_measured_in_single(tmp_path: Path, texts_for: dict[str, Windows]):
    folder = saved(tmp_path, "llama")
    made("llama").bfloat16().save_pretrained(folder)
    model = causal(str(folder)).load()
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    loss = language.evaluate(model, texts_for["llama"])["loss"]
    rounded = made("llama").bfloat16().float()
    with torch.inference_mode():
        logits = rounded(whole("llama", texts_for["llama"])).logits[:, 1:]
    expected = language.cross_entropy(logits, texts_for["llama"].targets(slice(None))).mean()
    assert loss == pytest.approx(float(expected), rel=1e-5)


# Files


def cached(cache: Path, name: str, folder: Path, revision: str = "main") -> Path:
    """A model as the hub's own client keeps it: files named by their content, links to them by commit."""
    home = cache / f"models--{name.replace('/', '--')}"
    commit = sha256(f"{name}{revision}".encode()).hexdigest()[:40]
    snapshot = home / "snapshots" / commit
    for index in (home / "blobs", home / "refs", snapshot):
        index.mkdir(parents=True, exist_ok=True)
    (home / "refs" / revision).write_text(commit)
    for file in folder.iterdir():
        content = file.read_bytes()
        blob = home / "blobs" / sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client, and no network."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tmp_path / "hub"


def test_models_are_found_where_the_hubs_client_keeps_them(
    cache: Path, folders: dict[str, Path], texts_for: dict[str, Windows], tmp_path: Path
):
    cached(cache, "Owner/tiny", folders["neox"])
    cached(cache, "Owner/tiny", saved(tmp_path / "early", "neox", seed=7), "step1000")
    main, early = causal("Owner/tiny"), subjects.find("hf:Owner/tiny@step1000")
    assert (main.name, early.name) == ("tiny", "tiny@step1000")
    content = (folders["neox"] / "model.safetensors").read_bytes()
    assert main.weights == f"Owner/tiny@main sha256:{sha256(content).hexdigest()[:16]}"
    assert early.weights != main.weights
    tokens = texts_for["neox"].batch(slice(None))
    with torch.inference_mode():
        assert torch.allclose(main.load()(tokens), made("neox")(tokens).logits, atol=1e-5)
        assert torch.allclose(early.load()(tokens), made("neox", 7)(tokens).logits, atol=1e-5)


def test_what_is_not_on_the_machine_is_said_at_once_and_where_it_belongs(cache: Path, folders: dict[str, Path]):
    with pytest.raises(
        ThalwegError, match=r"Owner/tiny@step5: not on this machine.*models--Owner--tiny.*step5.*hf down"
    ):
        causal("Owner/tiny@step5")
    snapshot = cached(cache, "Owner/tiny", folders["gpt2"])
    with pytest.raises(ThalwegError, match="not on this machine"):
        causal("Owner/tiny@step5")
    (snapshot / "model.safetensors").unlink()
    (snapshot / "tokenizer.json").unlink()
    with pytest.raises(ThalwegError, match=r"model.safetensors and tokenizer.json missing in .*snapshots.*hf download"):
        causal("Owner/tiny")
    with pytest.raises(ThalwegError, match="there is no such folder"):
        causal("/nowhere/at/all")
    with pytest.raises(ThalwegError, match="there is no such file; a GGUF file"):
        causal("nowhere/model.gguf")
    with pytest.raises(ThalwegError, match="not on this machine"):
        causal("not a name at all")


def test_shards_are_looked_for_one_by_one(tmp_path: Path):
    folder = saved(tmp_path, "gpt2")
    (folder / "model.safetensors").unlink()
    made("gpt2").save_pretrained(folder, max_shard_size="20KB")
    whole_hash = causal(str(folder)).weights
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    index = folder / "model.safetensors.index.json"
    whole = index.read_text()
    index.write_text(whole.replace(shards[0].name, "../elsewhere.safetensors"))
    with pytest.raises(
        ThalwegError, match=r"index.json: names the file '../elsewhere.safetensors', which does not lie"
    ):
        causal(str(folder))
    index.write_text('{"weight_map": {"transformer.wte.weight": 3}}')
    with pytest.raises(ThalwegError, match=r"index.json: weight_map must name a file for each weight"):
        causal(str(folder))
    index.write_text(whole)
    shards[0].unlink()
    with pytest.raises(ThalwegError, match=shards[0].name):
        causal(str(folder))
    assert len(whole_hash.partition("sha256:")[2]) == 16


def test_weights_that_change_have_another_hash(tmp_path: Path):
    folder = saved(tmp_path, "gpt2")
    before = causal(str(folder)).weights
    saved(tmp_path, "gpt2", seed=3)
    assert causal(str(folder)).weights != before  # although the files were read before


def test_weights_that_do_not_fit_are_refused(tmp_path: Path, folders: dict[str, Path]):
    other = shutil.copytree(folders["gpt2"], tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"n_layer": 3}))
    with pytest.raises(ThalwegError, match=r"12 weights of the architecture are not in its files \(transformer.h.2"):
        causal(str(other)).load()
    (other / "config.json").write_text(json.dumps(config | {"n_layer": 1}))
    with pytest.raises(ThalwegError, match=r"more blocks \(transformer.h.1.*than the 1 that config.json says"):
        causal(str(other)).load()
    (other / "config.json").write_text(json.dumps(config | {"n_embd": 32}))
    with pytest.raises(ThalwegError, match="cannot be loaded by transformers"):
        causal(str(other)).load()


def test_code_that_comes_with_a_model_does_not_run_unless_asked(tmp_path: Path, folders: dict[str, Path]):
    folder = shutil.copytree(folders["gpt2"], tmp_path / "own")
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": auto}))
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(
        f"open({str(ran)!r}, 'w').close()\nfrom transformers import GPT2Config, GPT2LMHeadModel\n"
        "class OwnConfig(GPT2Config):\n    model_type = 'own'\n"
        "class OwnModel(GPT2LMHeadModel):\n    config_class = OwnConfig\n"
    )
    with pytest.raises(ThalwegError, match="--trust-remote-code"):
        causal(str(folder))
    assert not ran.exists()
    assert len(causal(str(folder), trust_remote_code=True).layers) == 6
    assert ran.exists()


def test_pickled_weights_are_read_as_tensors_alone(tmp_path: Path, folders: dict[str, Path]):
    folder = shutil.copytree(folders["gpt2"], tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save(made("gpt2").state_dict(), folder / "pytorch_model.bin")
    assert len(causal(str(folder)).load().state_dict()) == len(made("gpt2").state_dict())
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(ran), "w")

    torch.save({"transformer.wte.weight": Trap()}, folder / "pytorch_model.bin")
    with pytest.raises(ThalwegError, match=r"cannot be loaded"):
        causal(str(folder)).load()
    assert not ran.exists()


def test_an_unknown_architecture_gets_its_residual_stream_and_says_so():
    from transformers import GPT2Config

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = GPT2Config(n_layer=3)
            self.parts = nn.ModuleList(nn.Sequential(nn.Linear(2, 2)) for _ in range(3))

    with pytest.warns(UserWarning, match="Odd: not all of its heads and neurons"):
        result = layers(Odd())
    assert [layer.name for layer in result] == ["parts.0", "parts.1", "parts.2"]
    odd = Odd()
    odd.parts.append(nn.Identity())
    with pytest.raises(ThalwegError, match="has no list of 3 blocks"):
        layers(odd)


def test_a_model_spread_by_its_library_stays_where_it_is(folders: dict[str, Path], texts_for: dict[str, Windows]):
    pytest.importorskip("accelerate")
    subject = causal(str(folders["llama"]), device_map="auto")
    model = subject.load()
    model.hf_device_map = {"": "cpu"}  # as it has where there are several devices
    model.to = None  # nobody moves it
    result = language.evaluate(model, texts_for["llama"], device="cpu")
    assert result == pytest.approx(language.evaluate(causal(str(folders["llama"])).load(), texts_for["llama"]))
    record(model, subject.layers, texts_for["llama"], torch.arange(9), RecordingSettings(k=2, sample=2))


def test_a_gguf_file_gives_the_model_that_it_was_written_from(tmp_path: Path):
    gguf = pytest.importorskip("gguf")
    model, tokens = made("llama"), byte_level()
    config = model.config
    file = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(16)
    writer.add_block_count(2)
    writer.add_feed_forward_length(24)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(ENTRIES)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([tokens.id_to_token(number) for number in range(ENTRIES)])
    writer.add_token_types([3 if number < 2 else 1 for number in range(ENTRIES)])
    writer.add_token_merges([" ".join(pair) for pair in json.loads(tokens.to_str())["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    spelt = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    spelt |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    spelt |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    for name, weight in model.state_dict().items():
        array = weight.numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # rotated pairs lie beside each other in the file
            heads = 4 if "q_proj" in name else 2
            array = array.reshape(heads, 2, len(array) // heads // 2, -1).swapaxes(1, 2).reshape(array.shape)
        if name.startswith("model.layers."):
            _, _, block, part = name.removesuffix(".weight").split(".", 3)
            writer.add_tensor(f"blk.{block}.{spelt[part]}.weight", array)
        elif not name.startswith("lm_head"):
            names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
            writer.add_tensor(names[name], array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    subject = subjects.find(f"hf:{file}")
    assert (subject.name, len(subject.layers)) == ("tiny", 6)
    assert subject.weights.endswith(sha256(file.read_bytes()).hexdigest()[:16])
    ids = torch.randint(2, ENTRIES, (3, WINDOW), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(subject.load()(ids), model(ids).logits, atol=1e-4)
    assert subject.tokenizer is not None
    text = documents(1)[0].text[:200]
    assert subject.tokenizer().encode(text, add_special_tokens=False).ids == tokens.encode(text).ids


# Ladders


def test_ladders_of_published_models_are_made_without_their_files(cache: Path):
    sizes = {"gpt2": (4, 12, 48), "pythia": (8, 6, 36), "pythia-training": (15, 12, 12)}
    for name, (rungs, first, last) in sizes.items():
        ladder = ladders.find(name)
        assert [len(ladder.rungs), len(ladder.rungs[0].layers), len(ladder.rungs[-1].layers)] == [
            rungs,
            3 * first,
            3 * last,
        ]
        assert pickle.loads(pickle.dumps(ladder)).rungs[0].subject.name == ladder.rungs[0].name
        assert 0 < sum(rung.quick for rung in ladder.rungs) < rungs
        assert ladder.independent == (name != "pythia-training")
    assert [rung.name for rung in ladders.find("gpt2:400").rungs] == ["gpt2", "gpt2-medium"]
    assert ladders.find("pythia-training:410").rungs[-1].name == "pythia-410m-deduped@step143000"
    with pytest.raises(ThalwegError, match="no model has 3 million parameters or fewer"):
        ladders.find("pythia:3")
    with pytest.raises(ThalwegError, match="there is no Pythia of 411 million"):
        ladders.find("pythia-training:411")


@pytest.mark.parametrize(("family", "known"), [("gpt2", families.OF_GPT2), ("neox", families.OF_PYTHIA)])
def test_known_layers_are_those_that_are_found(folders: dict[str, Path], family: str, known: families.Family):
    result = causal(str(folders[family])).layers
    assert known.layers(2) == tuple(replace(layer, max_units=families.MOST) for layer in result)


def test_all_that_a_ladder_lacks_is_one_error(cache: Path, folders: dict[str, Path]):
    cached(cache, "gpt2", folders["gpt2"])  # as old downloads are named
    ladder = ladders.find("gpt2")
    assert ladder.require is not None
    with pytest.raises(ThalwegError, match=r"(?s)3 of 4 models.*gpt2:355.*gpt2-medium.*gpt2-large.*gpt2-xl") as message:
        ladder.require(ladder.rungs)
    assert "gpt2@main" not in str(message.value)
    ladder.require(ladder.rungs[:1])
    with pytest.raises(ThalwegError, match=r"(?s)2 of 3 models.*gpt2-medium.*gpt2-large"):
        survey(ladder, quick=True, out=cache / "run")
    assert not (cache / "run/settings.json").exists()


def test_a_ladders_models_share_their_windows_and_load(cache: Path, folders: dict[str, Path], tmp_path: Path):
    ladder = ladders.find("pythia:160")
    cached(cache, "EleutherAI/pythia-70m-deduped", folders["neox"])
    cached(cache, "EleutherAI/pythia-160m-deduped", saved(tmp_path / "other", "neox", seed=3))
    table = tmp_path / "text.jsonl"
    table.write_text("\n".join(json.dumps({"text": item.text}) for item in documents(24)))
    result: Splits = ladder.splits(Source(table), 0)
    assert isinstance(result.pool, Windows)
    assert len(result.pool.vocabulary) == len(pieces(byte_level()))
    assert ladder.evaluate is not None
    weights = [rung.subject.weights() for rung in ladder.rungs]
    assert len(set(weights)) == 2
    assert all("sha256:" in item for item in weights)
    losses = {rung.name: ladder.evaluate(rung.subject.load(), result.pool)["loss"] for rung in ladder.rungs}
    assert len(set(losses.values())) == 2


def test_the_same_checkpoint_is_found_under_its_old_name(cache: Path, folders: dict[str, Path]):
    snapshot = cached(cache, "gpt2", folders["gpt2"])
    assert located(Checkpoint("openai-community/gpt2")) == snapshot == located(Checkpoint("gpt2"))
    assert load(Checkpoint("openai-community/gpt2")).config.n_layer == 2


def test_encoding_nothing_gives_nothing(tokenizer: Tokenizer):
    (item,) = encode_whole([Document("empty", "")], tokenizer)
    assert isinstance(item, Encoded)
    assert len(item.tokens) <= 1
    assert len(item.first) == len(item.tokens)


# Values along a window's tokens


def dictionary(folder: Path, neurons: int, latents: int) -> dict[str, Tensor]:
    """A dictionary with random weights of a residual stream, in SAELens's layout."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (neurons, latents), "b_enc": (latents,), "W_dec": (latents, neurons), "b_dec": (neurons,)}
    weights = {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    folder.mkdir()
    save_file(weights, folder / "sae_weights.safetensors")
    settings = {"architecture": "standard", "d_in": neurons, "d_sae": latents, "hook_name": "blocks.0.hook_resid_post"}
    (folder / "cfg.json").write_text(json.dumps(settings))
    return weights


@pytest.fixture(scope="module")
def windows_of_gpt2() -> Windows:
    pool = split(Texts(documents(40)), seed=1, length=WINDOW, tokenizer=byte_level()).pool
    assert isinstance(pool, Windows)
    return pool.take(slice(0, 160))


def in_basis(basis: str, stream: Tensor, reference: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """What the units of a basis make of a residual stream, by hand."""
    if basis == "sae":
        return (stream - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]
    if basis == "random":
        return stream / stream[:, -1].std(0, correction=0) @ rotation(16, seed=7919)
    last = stream[reference, -1]
    _, _, across = torch.linalg.svd(last - last.mean(0), full_matrices=False)
    signs = across.take_along_dim(across.abs().argmax(1, keepdim=True), 1).sign()
    return (stream - last.mean(0)) @ (across * signs).T


def stream_of_gpt2(windows: Windows) -> Tensor:
    """The residual stream after the first block."""
    with torch.inference_mode():
        return made("gpt2")(windows.batch(slice(None)), output_hidden_states=True).hidden_states[1]


@pytest.mark.parametrize("basis", ["sae", "random", "pca"])
def test_values_along_a_window_are_those_of_the_unit_in_its_basis(
    folders: dict[str, Path], windows_of_gpt2: Windows, tmp_path: Path, basis: str
):
    weights = dictionary(tmp_path / "sae", 16, 24)
    subject = causal(str(folders["gpt2"]))
    subject = replace(subject, layers=subject.layers[2:3])
    rung = replace(subject.rung(), basis=bases.find(f"sae:{tmp_path / 'sae'}" if basis == "sae" else basis))
    ladder = Ladder("one", (rung,), lambda _source, _seed: Splits.of_pool(windows_of_gpt2), modality="text")
    run, settings = RunDirectory(tmp_path), Settings(device="cpu")
    model = Model(run, ladder, rung, 0, settings, Splits.of_pool(windows_of_gpt2), "")
    reference, query = halves(windows_of_gpt2, seed=0)
    network = subject.load()
    trained = (network, fit_encoders(network, model, Halves(reference, query), "trained"))
    units = in_basis(basis, stream_of_gpt2(windows_of_gpt2), reference, weights)
    for unit in (0, 5, units.shape[2] - 1):
        result = score._along(lambda: trained, model, "transformer.h.0", unit, [7, 3, 90])
        assert torch.allclose(torch.tensor(result), units[[7, 3, 90], :, unit], atol=2e-3)


def test_the_report_shows_values_of_latents_along_windows(
    folders: dict[str, Path], windows_of_gpt2: Windows, tmp_path: Path
):
    weights = dictionary(tmp_path / "sae", 16, 24)
    settings = {"observer": "bag", "shards": 2, "batch_size": 40, "workers": 1, "resamples": 100}
    basis = f"sae:{tmp_path / 'sae'}"
    positions = {"out": tmp_path / "run", "cache": tmp_path / "cache"}
    run = measure(
        f"hf:{folders['gpt2']}", windows_of_gpt2, layers="transformer.h.0", basis=basis, **settings, **positions
    )
    shown = pl.read_parquet(run.path / "gallery.parquet")
    assert run.units["unit"].max() >= 16  # more latents than neurons
    units = in_basis("sae", stream_of_gpt2(windows_of_gpt2), torch.empty(0), weights)
    for row in shown.iter_rows(named=True):
        assert row["values"] == pytest.approx(units[row["stimulus"], :, row["unit"]].tolist(), abs=2e-3)


# Damaged and odd files


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def set_in(name: str, **fields: object) -> Callable[[Path], None]:
    """What sets fields of a JSON file."""

    def set_fields(folder: Path) -> None:
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | fields))

    return set_fields


def written(name: str, content: bytes) -> Callable[[Path], None]:
    """What writes a file."""

    def write(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return write


def cut_in_header(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:200])


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "half downloaded": (
        lambda folder: cut(folder / "model.safetensors"),
        r"model.safetensors: is cut off: it has 29,952 bytes, and its header says 59,904",
    ),
    "cut in its header": (cut_in_header, r"model.safetensors: is cut off: it has 200 bytes, and its header alone has"),
    "nothing": (written("model.safetensors", b""), r"model.safetensors: is empty; fetch it again"),
    "a pointer": (
        written("model.safetensors", b"version https://git-lfs.github.com/x"),
        "safetensors: is a pointer of Git",
    ),
    "a page": (written("model.safetensors", b"<!DOCTYPE html><html>"), r"model.safetensors: is a page of a web site"),
    "noise": (written("model.safetensors", b"noise" * 20), r"model.safetensors: is no safetensors file"),
    "no header": (written("model.safetensors", b"\2\0\0\0\0\0\0\0{]"), r"safetensors: is damaged: its header can't"),
    "no JSON": (written("config.json", b"{not json"), r"config.json: can't be read as JSON \(line 1, column 2"),
    "Latin-1": (written("config.json", b'{"a": "\xe9"}'), r"config.json: is not in UTF-8, as JSON must be \(byte 8\)"),
    "a list": (written("config.json", b"[1]"), r"config.json: a JSON object was expected, not list"),
    "blank": (written("config.json", b"  "), r"config.json: holds nothing but blanks"),
    "text": (set_in("config.json", n_layer="two"), r"config.json: .*Field 'n_layer' expected int, got str"),
    "no heads": (set_in("config.json", n_head=0), r"config.json: .*ZeroDivisionError.* at self.head_dim = "),
    "minus one block": (set_in("config.json", n_layer=-1), "has no list of -1 blocks, as its configuration says"),
    "unknown kind": (
        set_in("config.json", model_type="new"),
        r"config.json: no configuration can be made of it.*`new`",
    ),
    "tokenizer": (lambda folder: cut(folder / "tokenizer.json"), r"tokenizer.json: can't be read as JSON \(line"),
    "other tokenizer": (written("tokenizer.json", b'{"model": {}}'), r"tokenizer.json: no tokenizer can be made of it"),
    "quantised": (
        set_in("config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        r"config.json: its weights are quantised \(gptq\), and reading them needs the package gptqmodel",
    ),
    "quantised by no method": (
        set_in("config.json", quantization_config={"bits": 4}),
        r"config.json|model.safetensors",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_the_file_at_fault_is_named(folders: dict[str, Path], tmp_path: Path, kind: str):
    damage, message = DAMAGE[kind]
    folder = shutil.copytree(folders["gpt2"], tmp_path / "model")
    damage(folder)
    with pytest.raises(ThalwegError, match=message) as raised:
        causal(str(folder)).load()
    assert "\n" not in str(raised.value)


def test_a_damaged_gguf_file_is_named(tmp_path: Path):
    gguf = pytest.importorskip("gguf")
    file = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(64)
    writer.add_token_list(["a", "b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    content = file.read_bytes()
    for size, message in (
        (0, "is empty"),
        (3, "is no GGUF file"),
        (20, "cut off"),
        (40, "cut off"),
        (100, "tiny.gguf: "),
    ):
        file.write_bytes(content[:size])
        with pytest.raises(ThalwegError, match=message) as raised:
            causal(str(file))
        assert str(file) in str(raised.value)


def test_windows_are_held_against_the_model_before_any_work(
    folders: dict[str, Path], texts_for: dict[str, Windows], tmp_path: Path
):
    windows = texts_for["llama"]
    folder = shutil.copytree(folders["llama"], tmp_path / "model")
    check = causal(str(folder)).check
    assert check is not None
    check(windows)
    rows = int(windows.tokens.max())
    set_in("config.json", max_position_embeddings=WINDOW)(folder)
    with pytest.raises(ThalwegError, match=r"10 positions, of which 1 go to what.*windows of 10 tokens.*--length 9"):
        check(windows)
    set_in("config.json", max_position_embeddings=WINDOW + 1, vocab_size=rows)(folder)
    with pytest.raises(
        ThalwegError, match=rf"the model knows {rows} tokens, but its tokenizer makes token number {rows}"
    ):
        check(windows)
    unloadable = replace(causal(str(folder)), load=lambda: pytest.fail("loaded"))
    with pytest.raises(ThalwegError, match="the model knows"):
        measure(unloadable, windows, out=tmp_path / "run")
    ladder = Ladder("own", (unloadable.rung(),), lambda _source, _seed: Splits.of_pool(windows), modality="text")
    with pytest.raises(ThalwegError, match="the model knows"):
        survey(ladder, out=tmp_path / "run")
    with pytest.raises(ThalwegError, match="the model knows"):
        train_dictionary(unloadable, windows, layer="model.layers.0", out=tmp_path / "sae")


def test_a_configuration_alone_shows_the_architecture(folders: dict[str, Path], tmp_path: Path):
    (tmp_path / "config.json").write_bytes((folders["llama"] / "config.json").read_bytes())
    bare = subjects.architecture(f"hf:{tmp_path}")
    assert bare.notes == (
        f"the architecture without its weights: {tmp_path}: model.safetensors and tokenizer.json missing; a folder as "
        "save_pretrained writes it was expected",
    )
    taps, _ = layers_and_others(bare)
    assert [tap.layer.name for tap in taps] == [layer.name for layer in causal(str(folders["llama"])).layers]
    assert [(tap.kind, tap.units) for tap in taps] == [("heads", 16), ("neurons", 24), ("residual", 16)] * 2
    with pytest.raises(ThalwegError, match=r"model.safetensors and tokenizer.json missing"):
        measure(f"hf:{tmp_path}", out=tmp_path / "run")
    assert subjects.architecture(f"hf:{folders['llama']}").notes == ()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ThalwegError, match=r"config.json: can't be read as JSON"):
        subjects.architecture(f"hf:{tmp_path}")


def test_no_kernel_is_fetched_from_the_hub(cache: Path, folders: dict[str, Path], tmp_path: Path):
    """A configuration may name a way to compute attention that transformers would fetch and run."""
    folder = shutil.copytree(folders["llama"], tmp_path / "model")
    for way in ("kernels-community/flash-attn2", "flash_attention_2", "somebody/attention@main:forward"):
        set_in("config.json", attn_implementation=way, _attn_implementation=way)(folder)
        assert causal(str(folder)).load().config._attn_implementation == "sdpa"
    set_in("config.json", attn_implementation="eager", _attn_implementation="eager")(folder)
    assert causal(str(folder)).load().config._attn_implementation == "eager"


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_called_what_they_are(folders: dict[str, Path], family: str):
    subject = causal(str(folders[family]))
    model = skeleton(Checkpoint(str(folders[family])))
    assert [kind_of(layer.name, model) for layer in subject.layers] == ["heads", "neurons", "residual"] * 2


def test_kinds_of_layers_outside_blocks():
    from transformers import OPTConfig, OPTForCausalLM

    opt = OPTForCausalLM(OPTConfig(hidden_size=8, ffn_dim=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9))
    kinds = {layer.name.rpartition(".")[2]: kind_of(layer.name, opt) for layer in layers(opt)}
    assert kinds == {"out_proj:in": "heads", "fc1": "neurons", "0": "residual"}
    assert kind_of("lm_head", opt) == "linear"
    assert kind_of("model.decoder.final_layer_norm:in", opt) == "layernorm input"


def test_tokens_are_not_taken_for_units(texts_for: dict[str, Windows], folders: dict[str, Path]):
    subject, windows = causal(str(folders["gpt2"])), texts_for["gpt2"]
    block = "transformer.h.0"
    (problem,) = checks.problems(subject.load(), windows, [Layer(block)])
    assert (problem.kind, problem.grave) == ("tokens", True)
    assert problem.text.startswith(f"layer {block!r} would have a unit for each token")
    assert checks.problems(subject.load(), windows, [Layer(block, "last", unit_axis=2)]) == []


def test_layers_that_are_found_in_a_model_of_text_are_read_at_the_last_token(folders: dict[str, Path]):
    subject = causal(str(folders["gpt2"]))
    found, _ = layers_and_others(replace(subject, layers=()))
    assert {tap.layer.reduction for tap in found} == {"last"}


def test_a_model_that_looks_ahead_is_refused(tmp_path: Path, texts_for: dict[str, Windows], folders: dict[str, Path]):
    from transformers import BertConfig, BertLMHeadModel, PreTrainedTokenizerFast

    windows = texts_for["gpt2"]
    small = {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 24, "num_attention_heads": 2}
    config = BertConfig(vocab_size=ENTRIES, max_position_embeddings=64, is_decoder=False, **small)
    BertLMHeadModel(config).save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=byte_level()).save_pretrained(tmp_path)
    residual = Layer("bert.encoder.layer.0", "last", unit_axis=2)
    (problem,) = checks.problems(causal(str(tmp_path)).load(), windows, [residual])
    assert (problem.kind, problem.grave) == ("ahead", True)
    with pytest.raises(ThalwegError, match=r"bert.encoder.layer.0' at a token change with the tokens after it"):
        measure(f"hf:{tmp_path}", windows, out=tmp_path / "run")
    subject = causal(str(folders["gpt2"]))
    assert checks.problems(subject.load(), windows, subject.layers) == []
    assert checks.problems(subject.load(), windows, subject.layers, precision="bfloat16") == []
