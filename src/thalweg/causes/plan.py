"""What one network of the experiment is, and how it is trained."""

from dataclasses import dataclass

from thalweg.causes.networks import RECTIFIER

ONLINE = 0  # as the number of examples: stimuli never repeat


@dataclass(frozen=True)
class NetworkPlan:
    """One network: its place in the design, and all that its training depends on.

    Attributes:
        arm: What it is for: `factorial`, `centre`, `levels` or `intervention`.
        seed: Of its weights, its stimuli and their noise; networks of one seed and cell share what they can.
        examples: Questions of each circuit in the training set, or `ONLINE`.
        width: Units of each hidden layer.
        depth: Hidden layers.
        density: The probability that a circuit's block is active.
        modality: `tokens` or `images`.
        label_noise: The share of training answers that are flipped.
        intervention: Its name, or nothing.
        dropout: The share of units that are dropped in training.
        l1: The weight of the mean absolute activation in the loss.
        nonlinearity: `rectifier` or `softmax-linear`.
        kept_weights: The share of each weight matrix that is kept, the largest; 1 keeps all.
        teacher_width: The width of the network whose answers it learns, or 0.
        steps: Of training.
    """

    arm: str
    seed: int
    examples: int
    width: int
    depth: int
    density: float
    modality: str
    label_noise: float
    intervention: str = ""
    dropout: float = 0.0
    l1: float = 0.0
    nonlinearity: str = RECTIFIER
    kept_weights: float = 1.0
    teacher_width: int = 0
    steps: int = 2500

    @property
    def online(self) -> bool:
        """Whether its stimuli never repeat."""
        return self.examples == ONLINE

    @property
    def cell(self) -> str:
        """What it has in common with the networks that differ from it in the seed alone."""
        data = "online" if self.online else f"{self.examples} examples"
        parts = [data, f"width {self.width}", f"depth {self.depth}", f"density {self.density:g}", self.modality]
        parts.append(f"noise {self.label_noise:g}")
        return ", ".join([*parts, *filter(None, [self.intervention])])

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.cell}, seed {self.seed}"
