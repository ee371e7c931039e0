"""What every backbone keeps to."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmark.backbones.grouped import GroupedNetwork
from benchmark.backbones.network import Backbone, Network, build_network
from benchmark.checks.check import Broken, Contract, Subject, check_documented, require
from benchmark.checks.randomness import disturb, untouched
from benchmark.errors import InputError

BACKBONE = Contract("backbone")
_SIZES = (16, 32, 84, 224)
_CLASSES = 7


@BACKBONE.rule
def documented(subject: Subject) -> None:
    """Its docstring says what it is."""
    check_documented(subject)


@BACKBONE.rule
def built(subject: Subject) -> None:
    """It is built for grey and for colour images, and refuses sizes that it does not take in a line."""
    for channels in (1, 3):
        network = _build(subject, channels, _size(subject, channels), 0)
        what = type(network.backbone).__name__
        require(isinstance(network.backbone, Backbone), f"it builds a {what}, which is no Backbone")


@BACKBONE.rule
def tapped(subject: Subject) -> None:
    """It yields named maps, an embedding of its ``dim`` and logits, for batches of any size."""
    for network, images in _networks(subject):
        for count in (5, 2):
            outputs = network(images[:count])
            require(outputs.logits.shape == (count, _CLASSES), f"its logits have shape {tuple(outputs.logits.shape)}")
            dim = network.backbone.dim
            shape = tuple(outputs.embedding.shape)
            require(shape == (count, dim), f"its embedding has shape {shape}, its dim is {dim}")
            require(bool(outputs.stages), "it names no stage")
            for name, stage in outputs.stages.items():
                require(isinstance(name, str), f"the name of a stage is {name!r}")
                require(stage.ndim == 4 and len(stage) == count, f"its {name} has shape {tuple(stage.shape)}")
            every = [*outputs.stages.values(), outputs.embedding, outputs.logits]
            require(all(bool(torch.isfinite(x).all()) for x in every), "its outputs are not finite")


@BACKBONE.rule
def trained(subject: Subject) -> None:
    """A gradient reaches all of its parameters."""
    for network, images in _networks(subject):
        network(images).logits.pow(2).sum().backward()
        idle = [name for name, parameter in network.named_parameters() if parameter.grad is None]
        require(not idle, f"no gradient reaches {', '.join(idle)}")


@BACKBONE.rule
def drawn(subject: Subject) -> None:
    """Its weights follow the seed alone, and building it draws from no generator of others."""

    def weights(seed: int) -> Tensor:
        disturb()
        with untouched():
            network = _build(subject, 3, _size(subject), seed)
        return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

    require(torch.equal(weights(1), weights(1)), "the same seed gives different weights")
    require(not torch.equal(weights(1), weights(2)), "different seeds give the same weights")


@BACKBONE.rule
def judged(subject: Subject) -> None:
    """In eval mode an image's outputs are the same each time, and the same whatever stands beside it."""
    for network, images in _networks(subject):
        network(images)
        network.eval()
        with torch.no_grad():
            whole, again = network(images), network(images)
            require(torch.equal(whole.logits, again.logits), "twice the same images give different outputs")
            require(torch.equal(whole.embedding, network.embed(images)), "its embedding alone is another")
            alone = torch.cat([network.embed(image[None]) for image in images])
            near = torch.allclose(alone, whole.embedding, rtol=1e-3, atol=1e-3 * float(whole.embedding.abs().max()))
            require(near, "an image's embedding depends on the others of its batch")


@BACKBONE.rule
def kept(subject: Subject) -> None:
    """A network that reads the state of another gives what that one gives."""
    for network, images in _networks(subject):
        network(images)
        other = _build(subject, images.shape[1], images.shape[2], 9)
        other.load_state_dict(network.state_dict())
        with torch.no_grad():
            same = torch.equal(network.eval()(images).logits, other.eval()(images).logits)
        require(same, "its state does not hold all that its outputs follow from")


@BACKBONE.rule
def beside_others(subject: Subject) -> None:
    """Side by side with others of its kind it gives what it gives alone, or is refused there."""
    size = _size(subject)
    members = [_build(subject, 3, size, seed) for seed in (1, 2)]
    try:
        together = GroupedNetwork(members)
    except ValueError:
        return  # students of many tasks are then refused, in a line
    together.check(torch.randn(2, 3, 3, size, size, generator=torch.Generator().manual_seed(0)))


def _networks(subject: Subject) -> Iterator[tuple[Network, Tensor]]:
    """A network and five images for each number of channels."""
    for channels in (1, 3):
        size = _size(subject, channels)
        images = torch.randn(5, channels, size, size, generator=torch.Generator().manual_seed(0))
        yield _build(subject, channels, size, 3), images


def _size(subject: Subject, channels: int = 3) -> int:
    """The smallest size of images that it takes."""
    refused = ""
    for size in _SIZES:
        try:
            _build(subject, channels, size, 0)
        except InputError as error:
            refused = str(error)
        else:
            return size
    raise Broken(f"it takes images of {channels} channels in none of the sizes {_SIZES}: {refused}")


def _build(subject: Subject, channels: int, size: int, seed: int) -> Network:
    return build_network(subject.name, channels=channels, size=size, classes=_CLASSES, seed=seed)
