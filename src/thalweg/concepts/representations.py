"""What a network makes of a concept's word, at each layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from thalweg.concepts.pairs import ConceptPairs, Questions
from thalweg.errors import ThalwegError
from thalweg.models.hooks import answer_in, capture_activations
from thalweg.models.records import Layer


@dataclass(frozen=True, eq=False)
class Reader:
    """A network that is read and asked.

    Attributes:
        network: A causal language model, in evaluation mode.
        device: Where it is.
        at_once: Contexts that it is given at once.
    """

    network: nn.Module
    device: str = "cpu"
    at_once: int = 256

    def at_places(
        self, layers: Sequence[Layer], tokens: Int[Tensor, "row token"], places: Int[Tensor, " row"]
    ) -> Mapping[str, Float[Tensor, "row unit"]]:
        """The values of layers at one place of each context, before their nonlinearity."""
        parts: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
        for rows in torch.arange(len(tokens)).split(self.at_once):
            with torch.inference_mode(), capture_activations(self.network, layers) as captured:
                self.network(tokens[rows].to(self.device))
                for layer in layers:
                    laid = captured[layer.name].movedim(layer.unit_axis, -1)
                    if laid.ndim != 3 or laid.shape[1] < tokens.shape[1]:
                        raise ThalwegError(
                            f"layer {layer.name!r} gives values of shape {tuple(laid.shape)}; (window, token, unit) "
                            "was expected: name a layer that gives something at each token"
                        )
                    before = laid.shape[1] - tokens.shape[1]  # what the model puts before every text
                    parts[layer.name].append(laid[torch.arange(len(rows)), before + places[rows]].float().cpu())
        return {name: torch.cat(values) for name, values in parts.items()}

    def values_at(
        self, layer: Layer, tokens: Int[Tensor, "2 concept token"], places: Int[Tensor, "2 concept"]
    ) -> Float[Tensor, "2 concept unit"]:
        """The values of one layer in both languages, as it gives them."""
        values = self.at_places([layer], tokens.flatten(0, 1), places.flatten())[layer.name]
        by_language: Tensor = values.unflatten(0, (2, -1))
        return by_language

    def predictions(self, tokens: Int[Tensor, "row token"], ends: Int[Tensor, " row"]) -> Float[Tensor, "row token_id"]:
        """Log-probabilities of the token after one place of each context."""
        parts = []
        with torch.inference_mode():
            for rows in torch.arange(len(tokens)).split(self.at_once):
                logits = answer_in(self.network(tokens[rows].to(self.device)))
                if logits is None or logits.ndim != 3:
                    raise ThalwegError("the model gives no logits of shape (window, token, vocabulary)")
                parts.append(logits[torch.arange(len(rows)), ends[rows]].float().log_softmax(1).cpu())
        return torch.cat(parts)


def represent(
    reader: Reader, pairs: ConceptPairs, layers: Sequence[Layer]
) -> Mapping[str, Float[Tensor, "2 concept unit"]]:
    """What each layer passes on at the concepts' words, in both languages: means over contexts."""
    languages, concepts, contexts = pairs.places.shape
    values = reader.at_places(layers, pairs.tokens.flatten(0, 2), pairs.places.flatten())
    made = {}
    for layer in layers:
        passed_on = layer.nonlinearity(values[layer.name]) if layer.nonlinearity else values[layer.name]
        made[layer.name] = passed_on.unflatten(0, (languages, concepts, contexts)).mean(2)
    return made


def hits(reader: Reader, questions: Questions) -> Float[Tensor, " question"]:
    """Whether the network finds the right answer likeliest, 0 or 1 for each question."""
    ends = torch.full((len(questions.tokens),), questions.tokens.shape[1] - 1)
    chosen = reader.predictions(questions.tokens, ends).gather(1, questions.candidates).argmax(1)
    return (chosen == questions.right).double()
