"""Networks of one architecture as one network of so many times the channels: one call serves them all."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.backbones.network import Network, Outputs


class GroupedNetwork:
    """Copies of T networks as one ``network``, whose convolutions are grouped so that no channel meets another's.

    Channels, features and parameters of the members follow each other. What works on each channel by itself (batch
    norm, pooling, ReLU) does not know of it. ``ValueError``: the members differ in architecture or one of their modules
    is none of Conv2d, BatchNorm2d and Linear but has parameters.
    """

    def __init__(self, members: Sequence[Network]) -> None:
        if len({repr(member) for member in members}) != 1:
            raise ValueError("networks of different architecture do not stand side by side")
        self.members = members
        self.network = copy.deepcopy(members[0])
        for name, module in members[0].named_modules():
            if any(True for _ in (*module.parameters(recurse=False), *module.buffers(recurse=False))):
                self.network.set_submodule(name, _widened(module, len(members)))
        self.network.load_state_dict(_joined([member.state_dict() for member in members]), assign=True)
        memory_format: Any = torch.channels_last
        self.network.to(memory_format=memory_format)

    def __call__(self, images: Tensor) -> list[Outputs]:
        """Embedding and logits, in float32 at the least and without stages, of every member on its own images.

        images: T x B x C x H x W.
        """
        pixels = images.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        outputs = self.network(pixels)
        count = len(self.members)
        embeddings, logits = (
            x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(1, (count, -1)).unbind(1)
            for x in (outputs.embedding, outputs.logits)
        )
        return [Outputs({}, *own) for own in zip(embeddings, logits, strict=True)]

    @torch.no_grad()
    def check(self, images: Tensor) -> None:
        """Raise ``ValueError`` unless the last member gives on its images (T x B x C x H x W) what it gives alone.

        Sees what no list of modules can: a ``forward`` that works across channels. Leaves the network in eval mode.
        """
        self.network.eval()
        alone = self.members[-1]
        training = alone.training
        expected, found = alone.eval()(images[-1]).logits, self(images)[-1].logits
        alone.train(training)
        # far above rounding, even of TensorFloat-32
        if not torch.allclose(found, expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max()), equal_nan=True):
            raise ValueError(f"{type(alone.backbone).__name__} mixes channels of networks that stand side by side")

    def reload_heads(self) -> None:
        """Take over the heads of the members anew."""
        self.network.head.load_state_dict(_joined([member.head.state_dict() for member in self.members]))

    def copy_back(self) -> None:
        """Copy parameters and buffers to the members."""
        count = len(self.members)
        parts = {name: x.chunk(count) if x.ndim else [x] * count for name, x in self.network.state_dict().items()}
        for number, member in enumerate(self.members):
            member.load_state_dict({name: part[number] for name, part in parts.items()})


class _Linears(nn.Module):
    """Linear layers side by side: features B x T*D to outputs B x T*K."""

    def __init__(self, layer: nn.Linear, count: int) -> None:
        super().__init__()
        self.count = count
        self.weight = nn.Parameter(torch.empty(count * layer.out_features, layer.in_features, device="meta"))
        self.bias = None
        if layer.bias is not None:
            self.bias = nn.Parameter(torch.empty(count * layer.out_features, device="meta"))

    def forward(self, features: Tensor) -> Tensor:
        x = features.unflatten(1, (self.count, -1)).transpose(0, 1)
        outputs = x @ self.weight.unflatten(0, (self.count, -1)).transpose(1, 2)
        if self.bias is not None:
            outputs = outputs + self.bias.view(self.count, 1, -1)
        return outputs.transpose(0, 1).flatten(1)


def _widened(module: nn.Module, count: int) -> nn.Module:
    """A module that does for ``count`` networks what ``module`` does for one, its weights yet to come."""
    # exactly these: a subclass may compute anything
    if type(module) is nn.Linear:
        return _Linears(module, count)
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


def _joined(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {
        name: torch.cat([state[name] for state in states]) if first.ndim else first.clone()
        for name, first in states[0].items()
    }
