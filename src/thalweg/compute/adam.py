"""Adam without PyTorch's compiler.

The first step of any `torch.optim.Optimizer` imports `torch._dynamo`, which takes 2.5 seconds in each process, and each
step of it goes through hooks that cost a small network a tenth of its training. The arithmetic is PyTorch's own.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw

EPSILON = 1e-8


class Adam:
    """Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019) where weights decay.

    Gives the same bits as `torch.optim.Adam` and `torch.optim.AdamW` with the same settings.

    Attributes:
        learning_rate: Of the next step; may be set between steps.
        parameters: What is trained.
        means: Of each parameter, the running mean of its gradient.
        squares: Of each parameter, the running mean of its gradient's square.
        steps: Of each parameter, the number of steps, as a tensor.

    Args:
        parameters: The tensors to train; those that need no gradient are left out.
        learning_rate: Of the first step.
        betas: The shares of the old means that stay in a step.
        weight_decay: Share of each weight, times the learning rate, that is taken away before a step; 0 is plain Adam.
        fused: One kernel for all parameters; None chooses it where every parameter lies on a CPU or a CUDA device.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        fused: bool | None = None,
    ) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.learning_rate, self.betas, self.weight_decay = learning_rate, betas, weight_decay
        on_known = all(parameter.device.type in ("cpu", "cuda") for parameter in self.parameters)
        self.fused = on_known if fused is None else fused
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the gradients; parameters without one stay as they are."""
        given = [number for number, parameter in enumerate(self.parameters) if parameter.grad is not None]
        update = adamw if self.weight_decay else adam
        update(
            [self.parameters[number] for number in given],
            [gradient for parameter in self.parameters if (gradient := parameter.grad) is not None],
            [self.means[number] for number in given],
            [self.squares[number] for number in given],
            [],
            [self.steps[number] for number in given],
            fused=self.fused,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            eps=EPSILON,
            maximize=False,
        )

    def keep(self, chosen: Tensor, parameters: Sequence[Tensor]) -> "Adam":
        """The optimiser of part of a stack, with its means and steps.

        Args:
            chosen: Which entries of each parameter's first axis stay.
            parameters: The parameters that are left, in the same order.

        Returns:
            An optimiser with the same settings.
        """
        kept = Adam(parameters, self.learning_rate, betas=self.betas, weight_decay=self.weight_decay, fused=self.fused)
        kept.means = [mean[chosen].clone() for mean in self.means]
        kept.squares = [square[chosen].clone() for square in self.squares]
        kept.steps = [steps.clone() for steps in self.steps]
        return kept
