"""Several networks of one architecture as one network with grouped convolutions: one forward pass serves all."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.backbones.network import Network, Outputs


class GroupedNetwork:
    """T networks as one network whose convolutions are grouped, so that their channels never mix.

    Channels, features and parameters of the networks are concatenated in order. Modules that treat every channel
    separately (batch norm, pooling, ReLU) need no change.

    Args:
        networks: T networks of one architecture.

    Attributes:
        networks: the T networks; they keep their weights until ``copy_back``.
        network: the grouped network.

    Raises:
        ValueError: the architectures differ, or a module with parameters is not Conv2d, BatchNorm2d or Linear.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        if len({repr(network) for network in networks}) != 1:
            raise ValueError("networks of different architecture do not stand side by side")
        self.networks = networks
        self.network = copy.deepcopy(networks[0])
        for name, module in networks[0].named_modules():
            if any(True for _ in (*module.parameters(recurse=False), *module.buffers(recurse=False))):
                self.network.set_submodule(name, _grouped(module, len(networks)))
        self.network.load_state_dict(_concatenated([network.state_dict() for network in networks]), assign=True)
        memory_format: Any = torch.channels_last
        self.network.to(memory_format=memory_format)

    def __call__(self, images: Tensor) -> list[Outputs]:
        """Run every network on its own images.

        Args:
            images: T x B x C x H x W.

        Returns:
            Embeddings and logits of each network in at least float32, without stages.
        """
        pixels = images.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        outputs = self.network(pixels)
        count = len(self.networks)
        embeddings, logits = (
            x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(1, (count, -1)).unbind(1)
            for x in (outputs.embedding, outputs.logits)
        )
        return [Outputs({}, *each) for each in zip(embeddings, logits, strict=True)]

    @torch.no_grad()
    def check(self, images: Tensor) -> None:
        """Check that the last network gives the same logits alone and in the group.

        This finds a ``forward`` that works across channels. The grouped network is left in eval mode.

        Args:
            images: T x B x C x H x W.

        Raises:
            ValueError: the logits differ.
        """
        self.network.eval()
        alone = self.networks[-1]
        training = alone.training
        expected, grouped = alone.eval()(images[-1]).logits, self(images)[-1].logits
        alone.train(training)
        if not expected.isfinite().all():
            return  # nothing to compare: the caller refuses logits that are not finite
        # far above rounding, even of TensorFloat-32
        if not torch.allclose(grouped, expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max())):
            raise ValueError(f"{type(alone.backbone).__name__} mixes channels of networks that stand side by side")

    def reload_heads(self) -> None:
        """Copy the networks' heads into the grouped network."""
        self.network.head.load_state_dict(_concatenated([network.head.state_dict() for network in self.networks]))

    def copy_back(self) -> None:
        """Copy the grouped network's parameters and buffers into the networks."""
        count = len(self.networks)
        parts = {name: x.chunk(count) if x.ndim else [x] * count for name, x in self.network.state_dict().items()}
        for number, network in enumerate(self.networks):
            network.load_state_dict({name: part[number] for name, part in parts.items()})


class GroupedLinear(nn.Module):
    """T linear layers on T groups of features.

    Args:
        layer: one of the layers, for its shape: D to K features.
        count: number of layers (T).
    """

    def __init__(self, layer: nn.Linear, count: int) -> None:
        super().__init__()
        self.count = count
        self.weight = nn.Parameter(torch.empty(count * layer.out_features, layer.in_features, device="meta"))
        self.bias = None
        if layer.bias is not None:
            self.bias = nn.Parameter(torch.empty(count * layer.out_features, device="meta"))

    def forward(self, features: Tensor) -> Tensor:
        """Map features B x T*D to outputs B x T*K."""
        x = features.unflatten(1, (self.count, -1)).transpose(0, 1)
        outputs = x @ self.weight.unflatten(0, (self.count, -1)).transpose(1, 2)
        if self.bias is not None:
            outputs = outputs + self.bias.view(self.count, 1, -1)
        return outputs.transpose(0, 1).flatten(1)


def _grouped(module: nn.Module, count: int) -> nn.Module:
    """The grouped form of ``count`` modules like ``module``, without weights."""
    # exact types: a subclass may compute anything
    if type(module) is nn.Linear:
        return GroupedLinear(module, count)
    if type(module) is nn.BatchNorm2d:
        return nn.BatchNorm2d(
            count * module.num_features,
            module.eps,
            module.momentum,
            module.affine,
            module.track_running_stats,
            device="meta",
        )
    if type(module) is nn.Conv2d:
        return nn.Conv2d(
            count * module.in_channels,
            count * module.out_channels,
            module.kernel_size,  # type: ignore[arg-type]
            module.stride,  # type: ignore[arg-type]
            module.padding,  # type: ignore[arg-type]
            module.dilation,  # type: ignore[arg-type]
            count * module.groups,
            module.bias is not None,
            module.padding_mode,
            device="meta",
        )
    raise ValueError(f"networks with a {type(module).__name__} do not stand side by side")


def _concatenated(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {
        name: torch.cat([state[name] for state in states]) if first.ndim else first.clone()
        for name, first in states[0].items()
    }
