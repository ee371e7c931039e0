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


def test_a_family_makes_an_entry_from_the_rest_of_the_name(shapes: Registry[object]) -> None:
    @shapes.family("ring:", example="ring:RADIUS")
    def ring(rest: str) -> object:
        """A ring of that radius.

        More of it.
        """
        return ("ring", rest)

    assert shapes.names()[-1] == "ring:RADIUS"
    assert shapes.patterns()[-1] == "ring:"
    assert shapes.help("ring:RADIUS") == "A ring of that radius."
    for rest in ("3", "/a/b c:d", "two\nlines", "ring:3"):
        match = shapes.get(f"ring:{rest}")
        assert match.entry == ("ring", rest)
        assert match.fields == {}
    for name in ("ring", "ring:", "a ring:3"):
        with pytest.raises(InputError, match="unknown shape"):
            shapes.get(name)
    with pytest.raises(ValueError, match="registered twice"):
        shapes.family("ring:", example="ring:2")(ring)


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
        "from benchmark.backbones import BACKBONES\nfrom benchmark.data import DATASETS\n"
        "from benchmark.methods import METHODS\nfrom protocols import PROTOCOLS\n"
        "for r in (BACKBONES, DATASETS, METHODS, PROTOCOLS):\n    assert [r.help(n) for n in r.names()]\n"
        "heavy = {'torch', 'pandas', 'numpy', 'matplotlib', 'learn2learn', 'avalanche', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
