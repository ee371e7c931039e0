from __future__ import annotations

import subprocess
import sys

import pytest

from benchmark.errors import InputError
from benchmark.registry import Registry


@pytest.fixture
def shapes() -> Registry[object]:
    registry: Registry[object] = Registry("shape")
    registry.register("square")(dict)
    registry.register("{sides}gon-{size}", examples=("5gon-2",))(list)
    registry.refer("counter", "collections:Counter", help="counts")
    return registry


def test_names_fields_and_references(shapes: Registry[object]) -> None:
    from collections import Counter

    assert shapes.names() == ["square", "5gon-2", "counter"]
    assert shapes.get("square").entry is dict
    match = shapes.get("12gon-7")
    assert match.entry is list
    assert match.fields == {"sides": 12, "size": 7}
    assert shapes.get("counter").entry is Counter
    assert shapes.help("counter") == "counts"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("sqare", "did you mean 'square'"), ("zzz", "known: square, 5gon-2, counter"), ("gon-2", "5gon-2")],
)
def test_unknown_names_get_a_hint(shapes: Registry[object], name: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        shapes.get(name)


@pytest.mark.parametrize("name", ["x5gon-2", "5gon-2x", "-5gon-2", "5gon-", "٣gon-2", "1234567890gon-1"])
def test_names_with_fields_match_whole_numbers_only(shapes: Registry[object], name: str) -> None:
    with pytest.raises(InputError):
        shapes.get(name)


@pytest.fixture
def files() -> Registry[object]:
    registry: Registry[object] = Registry("file")
    registry.refer("{name:text}@{path:text}", "collections:deque", help="named")
    registry.register("folder:{path:text}")(list)
    registry.register("scaled-x{width:decimal}", examples=("scaled-x0.5",))(dict)
    registry.register("folder:plain")(set)
    return registry


def test_fields_of_text_and_decimals(files: Registry[object]) -> None:
    match = files.get("folder:/some where/a.b@c")
    assert match.entry is not list, "the first name that fits"
    assert match.fields == {"name": "folder:/some where/a.b", "path": "c"}
    assert files.get("a@b@c").fields == {"name": "a", "path": "b@c"}
    assert files.get("folder:../x y").fields == {"path": "../x y"}
    assert files.get("folder:plain").entry is set, "a plain name comes first"
    assert files.get("scaled-x0.75").fields == {"width": 0.75}
    assert files.get("scaled-x1").fields == {"width": 1.0}
    assert "folder:x" in files
    for name in ("folder:", "folder:a\nb", "scaled-x", "scaled-x1.0", "scaled-x01", "scaled-x.5", "xfolder:a"):
        assert name not in files


def test_what_has_no_example_is_listed_with_its_fields_in_capitals(files: Registry[object]) -> None:
    assert files.names() == ["scaled-x0.5", "folder:plain"]
    assert files.listing() == ["NAME@PATH", "folder:PATH", "scaled-x0.5", "folder:plain"]
    assert files.help("NAME@PATH") == "named"
    assert files.help("folder:PATH").startswith("Built-in mutable sequence")
    with pytest.raises(InputError, match="did you mean 'folder:PATH'"):
        files.get("folder")
    with pytest.raises(InputError, match="did you mean 'fodler'"):
        files.get("fodle", also=["fodler"])


def test_duplicates_are_refused(shapes: Registry[object]) -> None:
    with pytest.raises(ValueError, match="'square' is registered twice"):
        shapes.register("square")(set)
    with pytest.raises(ValueError, match="registered twice"):
        shapes.refer("counter", "collections:deque")


def test_entry_points_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    point = metadata.EntryPoint("ordered", "collections:OrderedDict", "benchmark.shapes")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point] if group == "benchmark.shapes" else [])
    registry: Registry[type] = Registry("shape", group="benchmark.shapes")
    assert registry.names() == ["ordered"]
    assert registry.get("ordered").entry.__name__ == "OrderedDict"


def test_listing_every_registry_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from benchmark.backbones import BACKBONES, PRETRAINED\nfrom benchmark.data import DATASETS\n"
        "from benchmark.methods import METHODS\nfrom protocols import PROTOCOLS\n"
        "for r in (BACKBONES, PRETRAINED, DATASETS, METHODS, PROTOCOLS):\n    assert [r.help(n) for n in r.listing()]\n"
        "heavy = {'torch', 'pandas', 'numpy', 'matplotlib', 'learn2learn', 'avalanche', 'scipy', 'timm',\n"
        "         'efficientnet_lite_pytorch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
