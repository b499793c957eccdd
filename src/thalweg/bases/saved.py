"""Dictionaries that a survey trained, in its run directory: in the layout of SAELens, with what is known of each.

Each has a folder with `cfg.json`, `sae_weights.safetensors`, and `training.json`, which says which latents are alive.
They read what the layer passes on: values after its nonlinearity.
"""

from pathlib import Path

import torch

from thalweg.bases import layouts
from thalweg.bases.dictionaries import Dictionary
from thalweg.bases.trained import TrainedDictionary
from thalweg.files import whole

TRAINING = "training.json"
FILES = (layouts.CONFIG, layouts.SAELENS, TRAINING)


def write(folder: Path, layer: str, trained: TrainedDictionary) -> None:
    """Write the dictionary of a layer to a folder."""
    whole.write_tensors(folder / layouts.SAELENS, _tensors(trained.dictionary))
    whole.write_json(folder / layouts.CONFIG, _configuration(layer, trained.dictionary))
    alive = trained.alive.nonzero().flatten().tolist()
    whole.write_json(folder / TRAINING, {"layer": layer, **trained.summary, "alive_latents": alive})


def read(folder: Path) -> TrainedDictionary:
    """The dictionary in a folder.

    Raises:
        ThalwegError: a file is missing or damaged.
    """
    dictionary, about = layouts.read(folder), whole.read_json(folder / TRAINING)
    try:
        alive = torch.zeros(dictionary.latents, dtype=torch.bool)
        alive[torch.tensor(about.pop("alive_latents"), dtype=torch.int64)] = True
        about.pop("layer")
    except (KeyError, AttributeError, TypeError, IndexError) as damage:
        raise whole.Damaged(folder / TRAINING, f"which latents are alive is not said ({damage})") from damage
    return TrainedDictionary(dictionary, alive, about)


def _tensors(dictionary: Dictionary) -> dict[str, torch.Tensor]:
    return {
        "W_enc": dictionary.weight.T.contiguous().cpu(),
        "b_enc": dictionary.bias.cpu(),
        "W_dec": dictionary.decoder.contiguous().cpu(),
        "b_dec": dictionary.offset.cpu(),
    }


def _configuration(layer: str, dictionary: Dictionary) -> dict[str, object]:
    """What SAELens writes of a TopK autoencoder."""
    return {
        "architecture": "topk",
        "d_in": dictionary.neurons,
        "d_sae": dictionary.latents,
        "k": dictionary.k,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "rescale_acts_by_decoder_norm": False,
        "metadata": {"hook_name": layer},
    }
