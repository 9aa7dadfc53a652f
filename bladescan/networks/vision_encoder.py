"""What every vision encoder is: a trunk that describes an image, and a linear layer to the embedding."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class VisionEncoder(nn.Module):
    """From normalised pixels to a raw embedding.

    Args:
        name: of the architecture.
        width: channels of its stem, which all others follow.
        embedding_dim: outputs of the last layer ``fc``.
    """

    float32_layers: ClassVar[tuple[str, ...]] = ("norm", "fc")
    """Children that compute in float32 also where the others compute in half precision."""

    own_layers: ClassVar[tuple[str, ...]] = ("norm.", "fc.")
    """What no published weights have: tensors whose names begin so start at random."""

    fc: nn.Linear
    """The last layer, made by the subclass that knows how many numbers its trunk gives."""

    def __init__(self, name: str, width: int, embedding_dim: int) -> None:
        super().__init__()
        self.name, self.width, self.embedding_dim = name, width, embedding_dim

    def features(self, x: Tensor) -> Tensor:
        """Run the trunk on normalised pixels ``[n, 3, height, width]``: float ``[n, d]``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Embed images.

        Args:
            x: normalised pixels, float ``[n, 3, height, width]``, any height and width.

        Returns:
            Raw embeddings ``[n, embedding_dim]``, not normalised.
        """
        embedding: Tensor = self.fc(self.features(x))
        return embedding
