"""A backbone with pooling and a linear head: the form in which backbones are pretrained."""

from __future__ import annotations

from torch import Tensor, nn

from flyweight.models.backbones.backbone import Backbone
from flyweight.models.layers.activations import ActFactory


class Classifier(nn.Module):
    """Backbone, global average pooling of its coarsest level, [hidden linear, act,] linear.

    Parameters beside the backbone's, C channels of the last level, K classes:
        without hidden layer  (C + 1)·K
        with hidden layer Z   (C + 1)·Z + (Z + 1)·K
    MACs are the same without the biases.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int = 1000,
        hidden_channels: int | None = None,
        act: ActFactory | None = None,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        channels = backbone.feature_info[-1].channels
        self.head = nn.Sequential()
        if hidden_channels is not None:
            self.head.add_module("hidden", nn.Linear(channels, hidden_channels))
            if act is not None:
                self.head.add_module("act", act())
            channels = hidden_channels
        self.head.add_module("dropout", nn.Dropout(dropout))
        self.head.add_module("logits", nn.Linear(channels, num_classes))
        for module in self.head.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images [B, 3, H, W] -> logits [B, K]."""
        logits: Tensor = self.head(self.backbone(x)[-1].mean((2, 3)))
        return logits
