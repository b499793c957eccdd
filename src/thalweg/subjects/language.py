"""Causal language models of transformers, measured as they were published.

Which model it is: a repository's name, looked up where the hub's own client keeps what it downloaded; a folder that
`save_pretrained` wrote; or a GGUF file, whose quantised weights are turned into float32. Nothing is downloaded here; a
file that is missing is an error before any work. Code that comes with a model runs only where the user says so, and of
pickled weights only tensors are read.

The model is changed by two hooks and not otherwise, so that modules keep the names they were published with. Before a
pass, the tokens that its tokenizer puts before every text (`<s>`, `<bos>`; for GPT-2 and Pythia there are none) are put
before each window, because such models never saw text without them; after it, their places are dropped, and only the
logits are returned. Inside, these places are there: a layer's `skip` counts them, so a maximum over places leaves them
out, and the value at the last token is the same either way.

Units, block by block: the outputs of the attention heads, side by side, before they are written to the residual stream
(the input of the projection that does so); the neurons of the multilayer perceptron, before their activation function
or, where it is gated, the product of gate and value (the input of the projection that reads it); and the residual
stream after the block. Blocks are found by their number, and what is in them by the spellings of the table below; of an
architecture that spells otherwise, only the residual stream is measured.
"""

from functools import partial

from thalweg.errors import ThalwegError
from thalweg.models.records import Subject
from thalweg.stimuli.base import Stimuli
from thalweg.stimuli.windows import Windows
from thalweg.subjects.checkpoints import Checkpoint, check_causal, family, located, named, weights
from thalweg.subjects.language_layers import layers
from thalweg.subjects.transformers_models import (
    beginning,
    build,
    configuration,
    configuration_file,
    load,
    skeleton,
    tokenizer,
)


def causal(rest: str, *, trust_remote_code: bool = False, device_map: str | None = None, bare: bool = False) -> Subject:
    """The causal language model of a repository (NAME or NAME@REVISION), a folder, or a GGUF file; with `bare`, its
    architecture, newly initialised, for which a configuration alone will do.

    Raises:
        ThalwegError: files are missing, with where they were expected, or damaged; an architecture that is no causal
            language model, that transformers does not know, or whose own code would have to run; or a package is
            missing.
    """
    checkpoint = named(rest, trust_remote_code=trust_remote_code, device_map=device_map)
    check_causal(checkpoint)
    if bare:
        architecture = partial(build, checkpoint)
        known = layers(skeleton(checkpoint))
        return Subject(checkpoint.short, architecture, known, architecture, kind="transformer", modality="text")
    located(checkpoint)
    return Subject(
        name=checkpoint.short,
        load=partial(load, checkpoint),
        layers=layers(skeleton(checkpoint), skip=len(beginning(checkpoint))),
        build=partial(build, checkpoint),
        kind="transformer",
        modality="text",
        weights=weights(checkpoint),
        tokenizer=partial(tokenizer, checkpoint),
        check=partial(check_windows, checkpoint),
        family=family(checkpoint),
    )


def check_windows(checkpoint: Checkpoint, stimuli: Stimuli) -> None:
    """Hold windows of text against the model: its positions, and the rows of its embedding.

    Raises:
        ThalwegError: the windows are longer than the model has positions, or hold a token that it does not know.
    """
    if not isinstance(stimuli, Windows) or not len(stimuli):
        return
    file, config = configuration_file(checkpoint), configuration(checkpoint).get_text_config()
    positions, before = getattr(config, "max_position_embeddings", None), len(beginning(checkpoint))
    if isinstance(positions, int) and 0 < positions < stimuli.length + before:
        also = f", of which {before} go to what its tokenizer puts before a text" if before else ""
        raise ThalwegError(
            f"{file}: the model has {positions} positions{also}; windows of {stimuli.length} tokens do not fit: give "
            f"--length {positions - before} at most"
        )
    rows, highest = getattr(config, "vocab_size", None), int(stimuli.tokens.max())
    if isinstance(rows, int) and highest >= rows:
        text = stimuli.vocabulary.pieces[highest].decode("utf-8", "replace")
        raise ThalwegError(
            f"{file}: the model knows {rows:,} tokens, but its tokenizer makes token number {highest:,} ({text!r}) of "
            "these texts; a model and the tokenizer that it was trained with were expected"
        )
