"""Published families of language models in the latents of dictionaries that were published for them.

`gemma-scope-2` is Gemma 3 from 270 million to 27 billion parameters, pretrained, in the latents of Gemma Scope 2
(McDougall et al. 2025), the one family with dictionaries at every size: of the residual stream after four blocks, at
about 25, 50, 65 and 85 % of the depth, 16,384 latents each, of medium sparsity. Dictionaries are named as SAELens lists
them. `pythia-sparsify` is Pythia with the dictionaries that EleutherAI trained with sparsify, of what the MLPs write to
the residual stream, at the same depths. There are such for three sizes only, and a verdict needs four: it gives scores
and no verdict. Those of 70 and 160 million parameters were trained on the deduplicated models, that of 410 million on
the other, so these are taken.

All models of a family read the same tokens. A number after the ladder's name leaves out what is larger, in millions of
parameters, by the models' names.
"""

from thalweg.bases.latents import Latents
from thalweg.bases.sources import DictionarySource, InHub, Published
from thalweg.ladders.causal import PYTHIA_SIZES, QUICK, ladder_of, rung_of, up_to
from thalweg.ladders.words import MOST
from thalweg.models.records import Ladder, Layer
from thalweg.stimuli import corpus
from thalweg.subjects.checkpoints import Checkpoint

GEMMA_SIZES = {
    270: ("270m", "gemma-3-270m", (5, 9, 12, 15)),
    1000: ("1b", "gemma-3-1b-pt", (7, 13, 17, 22)),
    4000: ("4b", "gemma-3-4b-pt", (9, 17, 22, 29)),
    12_000: ("12b", "gemma-3-12b-pt", (12, 24, 31, 41)),
    27_000: ("27b", "gemma-3-27b-pt", (16, 31, 40, 53)),
}  # in millions of parameters: the name in releases, the repository, the blocks that have dictionaries of all widths
SEEING = 4000  # from here on Gemma 3 has an image tower beside it, and its blocks lie one module deeper
GEMMA_OWNER = "google"
SPARSIFY = {
    70: ("pythia-70m-deduped", "sae-pythia-70m-deduped-32k"),
    160: ("pythia-160m-deduped", "sae-pythia-160m-deduped-32k"),
    410: ("pythia-410m", "sae-pythia-410m-65k"),
}  # in millions of parameters: the model and its dictionaries
DEPTHS = (0.25, 0.5, 0.65, 0.85)  # of those blocks of Pythia whose dictionaries are taken, as in Gemma Scope 2
ELEUTHER = "EleutherAI"


def gemma_scope_2(largest: int = 27_000, *, length: int = corpus.LENGTH) -> Ladder:
    """Gemma 3 in the latents of Gemma Scope 2, to the largest with no more than so many million parameters.

    Raises:
        ThalwegError: none is as small.
    """
    sizes = up_to("gemma-scope-2", largest, GEMMA_SIZES)
    rungs = []
    for size in sizes:
        short, repository, blocks = GEMMA_SIZES[size]
        stack = "model.language_model.layers" if size >= SEEING else "model.layers"
        release = f"gemma-scope-2-{short}-pt-res"
        sources = [Published(release, f"layer_{block}_width_16k_l0_medium") for block in blocks]
        checkpoint = Checkpoint(f"{GEMMA_OWNER}/{repository}")
        layers = _at([f"{stack}.{block}" for block in blocks])
        rungs.append(rung_of(checkpoint, layers, quick=size <= QUICK, basis=_in(sources)))
    name = "gemma-scope-2" if len(sizes) == len(GEMMA_SIZES) else f"gemma-scope-2:{largest}"
    description = f"Gemma 3 in the latents of Gemma Scope 2, from {sizes[0]} to {sizes[-1]} million parameters"
    return ladder_of(name, rungs, description, length)


def pythia_sparsify(largest: int = 410, *, length: int = corpus.LENGTH) -> Ladder:
    """Pythia in the latents of sparsify's dictionaries, to the largest with no more than so many million parameters.

    Raises:
        ThalwegError: none is as small.
    """
    sizes = up_to("pythia-sparsify", largest, SPARSIFY)
    rungs = []
    for size in sizes:
        model, dictionaries = SPARSIFY[size]
        blocks = [round(depth * PYTHIA_SIZES[size][1]) for depth in DEPTHS]
        sources = [InHub(f"{ELEUTHER}/{dictionaries}", f"layers.{block}.mlp") for block in blocks]
        layers = _at([f"gpt_neox.layers.{block}.mlp" for block in blocks])
        rungs.append(rung_of(Checkpoint(f"{ELEUTHER}/{model}"), layers, quick=size < QUICK, basis=_in(sources)))
    name = "pythia-sparsify" if len(sizes) == len(SPARSIFY) else f"pythia-sparsify:{largest}"
    description = f"Pythia in the latents of sparsify's dictionaries, from {sizes[0]} to {sizes[-1]} million parameters"
    return ladder_of(name, rungs, description, length)


def _at(names: list[str]) -> tuple[Layer, ...]:
    """Layers of a transformer, their values at the last token."""
    return tuple(Layer(name, "last", unit_axis=2, max_units=MOST) for name in names)


def _in(sources: list[Published] | list[InHub]) -> Latents:
    """The latents of these dictionaries."""
    known: tuple[DictionarySource, ...] = tuple(sources)
    return Latents(known)


GEMMA_SCOPE_2 = gemma_scope_2()
PYTHIA_SPARSIFY = pythia_sparsify()
