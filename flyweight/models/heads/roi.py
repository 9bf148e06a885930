"""The second stage: what is in a region, and where exactly (Girshick 2015, Fast R-CNN)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from flyweight.models.ops.roi import RoIKind, multi_scale_roi_align

# B images, R regions of an image, C classes without background

# Section 2.3: of the layers of classes and of boxes.
CLASS_STD, BOX_STD = 0.01, 0.001


class RoIHead(nn.Module):
    """Regions pooled from the pyramid, two hidden layers, and a layer each for classes and boxes.

    Fast R-CNN section 2, with the two layers of Feature Pyramid Networks
    (https://arxiv.org/abs/1612.03144, section 4.2). With K channels, S cells of a side, Z hidden:
        parameters = (K·S² + 1)·Z + (Z + 1)·Z + 5·(Z + 1)·(C + 1)
        MACs       = (K·S²·Z + Z² + 5·Z·(C + 1)) times the regions

    Args:
        in_channels: K, of every level.
        strides: of the levels that regions are pooled from, finest first; features of further,
            coarser levels are left to the RPN.
        num_classes: C.
        hidden_channels: Z.
        pool: "align" for RoIAlign, "pool" for RoIPool.
        size: S.
    """

    def __init__(
        self,
        in_channels: int,
        strides: Sequence[int],
        *,
        num_classes: int,
        hidden_channels: int = 1024,
        pool: RoIKind = "align",
        size: int = 7,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.pool = pool
        self.size = size
        self.fc6 = nn.Linear(in_channels * size**2, hidden_channels)
        self.fc7 = nn.Linear(hidden_channels, hidden_channels)
        self.classification = nn.Linear(hidden_channels, num_classes + 1)
        self.regression = nn.Linear(hidden_channels, 4 * (num_classes + 1))
        for hidden in (self.fc6, self.fc7):
            nn.init.kaiming_uniform_(hidden.weight, a=1)
            nn.init.zeros_(hidden.bias)
        for output, std in ((self.classification, CLASS_STD), (self.regression, BOX_STD)):
            nn.init.normal_(output.weight, std=std)
            nn.init.zeros_(output.bias)

    def forward(
        self, features: Sequence[Tensor], boxes_xyxy: Tensor, *, static: bool = False
    ) -> tuple[Tensor, Tensor]:
        """What the regions `boxes_xyxy [B, R, 4]`, pixels of the input, hold.

        Args:
            features: the levels `[B, K, H, W]`, finest first.
            static: no shape depends on the boxes, at the price of pooling all from every level.

        Returns:
            Logits `[B, R, C + 1]`, background first; deltas `[B, R, C + 1, 4]` from the regions,
            for each class its own.
        """
        pooled = multi_scale_roi_align(
            features[: len(self.strides)],
            boxes_xyxy,
            self.strides,
            size=self.size,
            kind=self.pool,
            static=static,
        )
        x = functional.relu(self.fc6(pooled.flatten(1)))
        x = functional.relu(self.fc7(x))
        shape = boxes_xyxy.shape[:2]
        logits: Tensor = self.classification(x)
        deltas: Tensor = self.regression(x)
        return logits.unflatten(0, shape), deltas.unflatten(1, (-1, 4)).unflatten(0, shape)
