"""Observers that are made from their name: networks of vision libraries, sentence encoders, DreamSim."""

import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from support.caches import contents, repository
from support.tiny import blobs
from thalweg import ThalwegError
from thalweg.downloads.missing import Missing
from thalweg.measures.mis import mis
from thalweg.models.records import Layer
from thalweg.observers.answers import answer
from thalweg.observers.base import extract_features, find
from thalweg.observers.embedding import build_view
from thalweg.observers.perceptual import FILES
from thalweg.packages import imported, prepare_torchvision
from thalweg.recording.record import record
from thalweg.recording.settings import RecordingSettings
from thalweg.stimuli.base import halves
from thalweg.stimuli.windows import Vocabulary, Windows
from thalweg.trials.building import build_trials


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_a_network_of_timm_observes_by_what_its_head_takes_in(hub: Path):
    timm = imported("timm", said="")
    torch.manual_seed(0)
    network = timm.create_model("test_vit").eval()
    with pytest.raises(Missing, match=r"timm/test_vit.r160_in1k is not in .*hf download") as missing:
        find("timm:test_vit")
    assert [fetch.what for fetch in missing.value.fetches] == ["timm/test_vit.r160_in1k@main of the Hugging Face hub"]
    repository(hub, "timm/test_vit.r160_in1k", {"model.safetensors": save(network.state_dict())})
    observer = pickle.loads(pickle.dumps(find("timm:test_vit")))
    pool = blobs(20, seed=1)
    seen = extract_features(observer, pool)["features"]
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    batch = torch.stack([transform(pool.picture(number)) for number in range(20)])
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(batch), pre_logits=True)
    assert torch.allclose(seen, expected, atol=1e-4)
    assert "last features of the network timm:test_vit" in observer.sees
    view = build_view(observer, {observer.name: {"features": seen}}, pool)
    apart = nn.functional.normalize(expected - expected.mean(0), dim=1)
    assert torch.allclose(view.embedding, apart, atol=1e-4)
    assert view.dictionary.shape == expected.shape
    assert observer.relation(find("timm:test_vit").family) == "itself"
    assert observer.relation("test/other") == "relative"


def sentences(*given: str) -> Windows:
    """Windows of as many words each."""
    words = sorted({word for sentence in given for word in sentence.split()})
    tokens = torch.tensor([[words.index(word) for word in sentence.split()] for sentence in given])
    vocabulary = Vocabulary(
        tuple(f" {word}".encode() for word in words), tokens.flatten().bincount(), torch.ones(1, len(words))
    )
    nothing = torch.zeros(len(given), dtype=torch.long)
    return Windows(tokens.int(), nothing, nothing, nothing, ("any",), vocabulary)


def encoder_in(folder: Path) -> Path:
    """A tiny sentence encoder as its library writes it, without training."""
    prepare_torchvision()
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "the", "river", "runs", "deep", "cold"]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    plain = folder / "plain"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(plain)
    torch.manual_seed(0)
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(words), **size)).save_pretrained(plain)
    network = Transformer(str(plain))
    SentenceTransformer(modules=[network, Pooling(8)], device="cpu").save(str(folder / "encoder"))
    return folder / "encoder"


def test_a_sentence_encoder_is_found_in_the_hubs_cache_or_a_folder(hub: Path, tmp_path: Path):
    with pytest.raises(Missing, match="Owner/encoder@main: not on this machine"):
        find("hf:Owner/encoder")
    folder = encoder_in(tmp_path)
    repository(hub, "Owner/encoder", contents(folder))
    windows = sentences("the river runs deep", "the cold river runs", "deep deep deep deep")
    observer = pickle.loads(pickle.dumps(find("hf:Owner/encoder")))
    seen = observer.features(windows)
    assert seen.shape == (3, 8)
    assert torch.equal(seen, find(f"hf:{folder}").features(windows))
    assert not torch.allclose(seen[0], seen[1])
    assert (observer.modality, observer.family.partition("/")[0]) == ("text", "bert")
    assert find(f"hf:{folder}").relation(observer.family) == "itself"  # the same weights under another name


class Perceptual(nn.Module):
    """What DreamSim's package returns, with the brightness of nine places for features."""

    def embed(self, pictures: Tensor) -> Tensor:
        places = nn.functional.adaptive_avg_pool2d(pictures.mean(1, keepdim=True), 3).flatten(1)
        return nn.functional.normalize(places - places.mean(1, keepdim=True), dim=1)


@pytest.fixture
def dreamsim_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """A stand-in for DreamSim's package, and the calls that it got."""
    calls: list[dict] = []

    def preprocess(picture: Image.Image) -> Tensor:
        return torch.tensor(list(picture.resize((12, 12)).convert("L").getdata())).reshape(1, 1, 12, 12) / 255

    def dreamsim(**options: object) -> tuple[nn.Module, object]:
        calls.append(options)
        torch.hub.set_dir(options["cache_dir"])  # as the package does
        return Perceptual().eval(), preprocess

    module = SimpleNamespace(dreamsim=dreamsim, __spec__=SimpleNamespace(name="dreamsim"))
    monkeypatch.setitem(sys.modules, "dreamsim", module)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)
    return calls


def test_mis_by_dreamsim_is_the_published_score(dreamsim_package: list[dict], tmp_path: Path):
    with pytest.raises(Missing, match=r"dino_vitb16_pretrain\.pth.* missing in .*torch/dreamsim"):
        find("dreamsim")
    for name in FILES:
        file = tmp_path / "torch" / "dreamsim" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    observer = find("dreamsim")
    pool = blobs(400, seed=2)
    seen = extract_features(observer, pool)["features"]
    assert torch.hub.get_dir() == str(tmp_path / "torch")
    assert dreamsim_package[-1]["cache_dir"] == str(tmp_path / "torch" / "dreamsim")
    view = build_view(observer, {"dreamsim": {"features": seen}}, pool)
    assert torch.allclose(view.embedding, seen, atol=1e-6)  # DreamSim's own cosine, not centred over the pool
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
    recordings = [
        record(model, (Layer("1"),), pool, ids, RecordingSettings(k=64, sample=100))["1", "neurons"]
        for ids in halves(pool, seed=0)
    ]
    trials = build_trials(*recordings)
    score = mis(answer(trials, view.embedding))["extreme", ""].value
    for unit in range(3):
        expected = published_score(seen, trials, unit)
        assert float(score[unit]) == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ThalwegError, match="takes nothing after its name"):
        find("dreamsim:large")


def published_score(seen: Tensor, trials: object, unit: int) -> float:
    """The mean of sigmoid((D+ - D-) / 0.16) over the pairs of the extreme band, with s(q, E) the mean cosine of a query
    to nine references (Zimmermann et al. 2024, equations 1 to 3).
    """
    high, low = (seen[side[unit, :9]] for side in (trials.high, trials.low))
    queries = trials.queries["extreme"]
    total = [
        torch.sigmoid(
            (
                (seen[q] @ high.T).mean()
                - (seen[q] @ low.T).mean()
                - (seen[r] @ high.T).mean()
                + (seen[r] @ low.T).mean()
            )
            / 0.16
        )
        for q in queries.high[unit].tolist()
        for r in queries.low[unit].tolist()
    ]
    return float(torch.stack(total).mean())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tim:resnet18", "no kind of observer is called 'tim'; did you mean 'timm'"),
        ("timm:resnet19", "no model of timm is called 'resnet19'"),
        ("dreamsin", "did you mean 'dreamsim'"),
    ],
)
def test_wrong_names_are_told(name: str, message: str):
    with pytest.raises(ThalwegError, match=message):
        find(name)
