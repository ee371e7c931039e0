"""What only a GPU can show of training: precision, generators, images that stay there or are streamed, memory."""

from __future__ import annotations

import pytest
import torch

from benchmark.backbones.network import build_network
from benchmark.data import ImageSet, Task
from benchmark.data.augmentation import CropKind, ImageLoader, Normalisation, room_for_images
from benchmark.data.task import hold_out
from benchmark.methods import LabelSpaces
from benchmark.spec import Training
from benchmark.system.environment import describe_environment, peak_memory_mb
from benchmark.system.progress import Silent
from benchmark.training import Device, accuracy, fit, select_device
from benchmark.training.device import Precision
from benchmark.training.initialisation import build_method

pytestmark = pytest.mark.cuda


@pytest.fixture
def device() -> Device:
    return select_device("cuda")


@pytest.fixture
def task(tiny: ImageSet) -> Task:
    return hold_out(tiny, tiny.splits["train"][:6], 0.25)


def test_auto_takes_the_gpu_and_names_it(device: Device) -> None:
    assert select_device("auto") == device
    assert describe_environment(device.torch, "float32")["gpu"] == torch.cuda.get_device_name()


def test_float32_keeps_more_digits_than_tf32(device: Device) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 256, 256, generator=generator, dtype=torch.float64)
    exact = a @ b
    product = (a.float().to(device.torch) @ b.float().to(device.torch)).cpu().double()
    image, kernel = a.view(1, 16, 64, 64), b[:144, :16].reshape(16, 16, 3, 3)
    convolved = torch.conv2d(image.float().to(device.torch), kernel.float().to(device.torch)).cpu().double()
    for found, expected in ((product, exact), (convolved, torch.conv2d(image, kernel))):
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_generators_of_both_processors_are_seeded_and_restored(device: Device) -> None:
    def draw() -> list[float]:
        return [float(torch.rand((), device=place)) for place in ("cpu", device.torch)]

    before = device.random_state()
    with device.seeded(5):
        state = device.random_state()
        drawn = draw()
        device.set_random_state(state)
        assert draw() == drawn
    after = device.random_state()
    assert set(before) == set(after) == {"cpu", "cuda"}
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("crop", ["padded", "resized"])
def test_streamed_images_equal_resident_images_and_those_of_the_cpu(task: Task, device: Device, crop: CropKind) -> None:
    norm = Normalisation.of(task.data, task.train)
    positions = torch.arange(0, len(task.train), 3)

    def load(place: torch.device, resident: int | None) -> torch.Tensor:
        loader = ImageLoader(
            task.data, task.train, norm, padding=2, crop=crop, device=place, resident=resident
        )  # fmt: skip
        pixels = loader.augmented(positions.to(place), torch.Generator().manual_seed(1))
        assert pixels.device.type == place.type
        return pixels.cpu()

    resident, streamed = load(device.torch, None), load(device.torch, 0)
    assert torch.equal(resident, streamed)
    torch.testing.assert_close(resident, load(torch.device("cpu"), None), rtol=1e-4, atol=1e-4)


def test_images_may_fill_half_of_the_free_memory(device: Device) -> None:
    free, _ = torch.cuda.mem_get_info(device.torch)
    assert room_for_images(device.torch) == pytest.approx(free // 2, rel=0.1)


@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")  # float16 skips first steps: its scale is too large
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_training_on_the_gpu_learns(task: Task, precision: Precision) -> None:
    device = select_device("cuda", precision)
    student = build_network("conv4-16", channels=3, size=16, classes=6, seed=0).to(device.torch)
    norm, labels = Normalisation.of(task.data, task.train), LabelSpaces(task.classes, ())
    method = build_method("ce", None, labels, student, None, 0, channels=3, size=16)
    torch.cuda.reset_peak_memory_stats()
    result = fit(
        student, method, task, Training(steps=60, batch_size=16, lr=0.05), norm, teacher=None, seed=0, device=device,
        progress=Silent(), title="test",
    )  # fmt: skip
    assert result.history[-1]["ce"] < result.history[0]["ce"]
    assert all(value.is_cuda for value in student.state_dict().values())
    assert peak_memory_mb(device.torch) > 0
    score = accuracy(student, task, task.train, norm, device)
    assert score is not None
    assert score > 2 / 6


def test_float16_skips_a_step_whose_gradients_overflow() -> None:
    device = select_device("cuda", "float16")
    scaler = device.scaler()
    weight = torch.nn.Parameter(torch.ones(2, device=device.torch))
    optimiser = torch.optim.SGD([weight], lr=0.1)
    scaler.scale(weight.sum() * torch.inf).backward()
    scaler.step(optimiser)
    before = scaler.get_scale()
    scaler.update()
    assert torch.equal(weight.detach().cpu(), torch.ones(2))
    assert scaler.get_scale() < before
