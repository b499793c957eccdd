"""The beginning of a user's file with a model of letters, for which a test writes layers and a subject."""

MODEL = """
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import thalweg
from thalweg.networks.language import Transformer

LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())


def tokenizer():
    made = Tokenizer(models.BPE({letter: number for number, letter in enumerate(LETTERS)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def load():
    torch.manual_seed(0)
    return Transformer(len(LETTERS), 80, 8, blocks=2, n_heads=2, neurons=32)


"""
