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

    Families that classify in another way give their own `head`, from the coarsest level
    [B, C, H, W] to logits [B, K]; the arguments after it are then without effect.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        head: nn.Module | None = None,
        num_classes: int = 1000,
        hidden_channels: int | None = None,
        act: ActFactory | None = None,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        channels = backbone.feature_info[-1].channels
        self.pools = head is None
        self.head = nn.Sequential() if head is None else head
        if head is None:
            self._add_linear_layers(
                channels, num_classes, hidden_channels=hidden_channels, act=act, dropout=dropout
            )
        for module in self.head.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)

    def _add_linear_layers(
        self,
        channels: int,
        num_classes: int,
        *,
        hidden_channels: int | None,
        act: ActFactory | None,
        dropout: float,
    ) -> None:
        if hidden_channels is not None:
            self.head.add_module("hidden", nn.Linear(channels, hidden_channels))
            if act is not None:
                self.head.add_module("act", act())
            channels = hidden_channels
        self.head.add_module("dropout", nn.Dropout(dropout))
        self.head.add_module("logits", nn.Linear(channels, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images [B, 3, H, W] -> logits [B, K]."""
        coarsest = self.backbone(x)[-1]
        logits: Tensor = self.head(coarsest.mean((2, 3)) if self.pools else coarsest)
        return logits
