"""A tiny causal language model with random weights, saved as transformers saves it."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers


def saved(folder: Path, *, positions: int = 2048) -> Path:
    """The folder of a model of two blocks, with a tokenizer of bytes and a few pairs."""
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    settings = {"vocab_size": 400, "initial_alphabet": alphabet, "show_progress": False}
    trainer = trainers.BpeTrainer(special_tokens=["<|endoftext|>"], **settings)
    tokenizer.train_from_iterator(["Which of these texts drives the unit most? Answer: yes no A B C"] * 9, trainer)
    torch.manual_seed(0)
    size = tokenizer.get_vocab_size()
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    GPT2LMHeadModel(
        GPT2Config(vocab_size=size, n_positions=positions, n_embd=16, n_layer=2, n_head=2, **ends)
    ).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)
    return folder
