"""Checks of backbones."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmark.backbones.grouped import GroupedNetwork
from benchmark.backbones.network import Backbone, Network, build_network
from benchmark.checks.check import Candidate, CheckFailed, CheckSuite, require, require_documentation
from benchmark.checks.randomness import advance_global_generators, global_generators_unchanged
from benchmark.errors import InputError

BACKBONE_CHECKS = CheckSuite("backbone")
_SIZES = (16, 32, 84, 224)
_CLASSES = 7


@BACKBONE_CHECKS.register
def is_documented(candidate: Candidate) -> None:
    """Its docstring describes it."""
    require_documentation(candidate)


@BACKBONE_CHECKS.register
def builds_for_grey_and_colour(candidate: Candidate) -> None:
    """It is built for grey and for colour images, and refuses unsuitable sizes with an input error."""
    for channels in (1, 3):
        network = _build(candidate, channels, _smallest_size(candidate, channels), 0)
        built = type(network.backbone).__name__
        require(isinstance(network.backbone, Backbone), f"it builds a {built}, which is not a Backbone")


@BACKBONE_CHECKS.register
def outputs_have_declared_shapes(candidate: Candidate) -> None:
    """It returns named maps, an embedding of length ``dim`` and logits, for batches of any size."""
    for network, images in _networks_with_images(candidate):
        for count in (5, 2):
            outputs = network(images[:count])
            logits, embedding, dim = tuple(outputs.logits.shape), tuple(outputs.embedding.shape), network.backbone.dim
            require(logits == (count, _CLASSES), f"its logits have shape {logits}")
            require(embedding == (count, dim), f"its embedding has shape {embedding}, its dim is {dim}")
            require(bool(outputs.stages), "it returns no stage")
            for name, stage in outputs.stages.items():
                require(isinstance(name, str), f"the name of a stage is {name!r}")
                require(stage.ndim == 4 and len(stage) == count, f"its {name} has shape {tuple(stage.shape)}")
            tensors = [*outputs.stages.values(), outputs.embedding, outputs.logits]
            require(all(bool(torch.isfinite(tensor).all()) for tensor in tensors), "its outputs are not finite")


@BACKBONE_CHECKS.register
def gradients_reach_all_parameters(candidate: Candidate) -> None:
    """A gradient reaches all of its parameters."""
    for network, images in _networks_with_images(candidate):
        network(images).logits.pow(2).sum().backward()
        untrained = [name for name, parameter in network.named_parameters() if parameter.grad is None]
        require(not untrained, f"no gradient reaches {', '.join(untrained)}")


@BACKBONE_CHECKS.register
def weights_follow_seed(candidate: Candidate) -> None:
    """Its initial weights depend on the seed alone, and building it leaves global generators unchanged."""

    def weights(seed: int) -> Tensor:
        advance_global_generators()
        with global_generators_unchanged():
            network = _build(candidate, 3, _smallest_size(candidate, 3), seed)
        return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

    first = weights(1)
    require(torch.equal(first, weights(1)), "the same seed gives different weights")
    require(not torch.equal(first, weights(2)), "different seeds give the same weights")


@BACKBONE_CHECKS.register
def evaluates_images_independently(candidate: Candidate) -> None:
    """In eval mode the outputs of an image are always the same and do not depend on the rest of the batch."""
    for network, images in _networks_with_images(candidate):
        network(images)
        network.eval()
        with torch.no_grad():
            batch, repeated = network(images), network(images)
            require(torch.equal(batch.logits, repeated.logits), "the same images twice give different outputs")
            require(
                torch.equal(batch.embedding, network.embed(images)), "embed() gives another embedding than forward()"
            )
            single = torch.cat([network.embed(image[None]) for image in images])
            tolerance = 1e-3 * float(batch.embedding.abs().max())
            independent = torch.allclose(single, batch.embedding, rtol=1e-3, atol=tolerance)
            require(independent, "an image's embedding depends on the others of its batch")


@BACKBONE_CHECKS.register
def state_round_trips(candidate: Candidate) -> None:
    """A network that loads the state of another gives the same outputs."""
    for network, images in _networks_with_images(candidate):
        network(images)
        other = _build(candidate, images.shape[1], images.shape[2], 9)
        other.load_state_dict(network.state_dict())
        with torch.no_grad():
            equal = torch.equal(network.eval()(images).logits, other.eval()(images).logits)
        require(equal, "its outputs depend on values that its state does not hold")


@BACKBONE_CHECKS.register
def works_grouped(candidate: Candidate) -> None:
    """Grouped with networks of its kind it gives the same outputs as alone, or the group refuses it."""
    size = _smallest_size(candidate, 3)
    networks = [_build(candidate, 3, size, seed) for seed in (1, 2)]
    try:
        grouped = GroupedNetwork(networks)
    except ValueError:
        return  # protocols that train many students at a time refuse such a backbone with an input error
    grouped.check(torch.randn(2, 3, 3, size, size, generator=torch.Generator().manual_seed(0)))


def _networks_with_images(candidate: Candidate) -> Iterator[tuple[Network, Tensor]]:
    """Yield a network and five images, N x C x H x W, for each number of channels."""
    for channels in (1, 3):
        size = _smallest_size(candidate, channels)
        images = torch.randn(5, channels, size, size, generator=torch.Generator().manual_seed(0))
        yield _build(candidate, channels, size, 3), images


@functools.lru_cache(maxsize=8)
def _smallest_size(candidate: Candidate, channels: int) -> int:
    """The smallest side length, in pixels, of the images that it accepts."""
    refusal = ""
    for size in _SIZES:
        try:
            _build(candidate, channels, size, 0)
        except InputError as error:
            refusal = str(error)
        else:
            return size
    raise CheckFailed(f"it accepts images of {channels} channels in none of the sizes {_SIZES}: {refusal}")


def _build(candidate: Candidate, channels: int, size: int, seed: int) -> Network:
    return build_network(candidate.name, channels=channels, size=size, classes=_CLASSES, seed=seed)
