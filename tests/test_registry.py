from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import InputError, UnusablePlugIn
from benchmark.registry import Registry
from benchmark.system import containment


@pytest.fixture
def shapes() -> Registry[object]:
    registry: Registry[object] = Registry("shape")
    registry.register("square")(dict)
    registry.register("{sides}gon-{size}", examples=("5gon-2",))(list)
    registry.register_lazy("counter", "collections:Counter", help="counts")
    return registry


def test_registry_reads_names_fields_and_references(shapes: Registry[object]) -> None:
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
def test_unknown_name_suggests_near_names(shapes: Registry[object], name: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        shapes.get(name)


@pytest.mark.parametrize("name", ["x5gon-2", "5gon-2x", "-5gon-2", "5gon-", "٣gon-2", "1234567890gon-1"])
def test_name_pattern_matches_whole_numbers_only(shapes: Registry[object], name: str) -> None:
    with pytest.raises(InputError):
        shapes.get(name)


@pytest.fixture
def files() -> Registry[object]:
    registry: Registry[object] = Registry("file")
    registry.register_lazy("{name:text}@{path:text}", "collections:deque", help="named")
    registry.register("folder:{path:text}")(list)
    registry.register("scaled-x{width:decimal}", examples=("scaled-x0.5",))(dict)
    registry.register("folder:plain")(set)
    return registry


def test_name_pattern_reads_text_and_decimals(files: Registry[object]) -> None:
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


def test_display_name_has_fields_in_capitals(files: Registry[object]) -> None:
    assert files.names() == ["scaled-x0.5", "folder:plain"]
    assert files.display_names() == ["NAME@PATH", "folder:PATH", "scaled-x0.5", "folder:plain"]
    assert files.help("NAME@PATH") == "named"
    assert files.help("folder:PATH").startswith("Built-in mutable sequence")
    with pytest.raises(InputError, match="did you mean 'folder:PATH'"):
        files.get("folder")
    with pytest.raises(InputError, match="did you mean 'fodler'"):
        files.get("fodle", extra=["fodler"])


def test_registering_a_name_twice_is_refused(shapes: Registry[object]) -> None:
    with pytest.raises(ValueError, match="'square' is registered twice"):
        shapes.register("square")(set)
    with pytest.raises(ValueError, match="registered twice"):
        shapes.register_lazy("counter", "collections:deque")


def plugged(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str, str], **options: Any) -> Registry[Any]:
    """A registry with ``square`` and ``{sides}gon`` of its own, and entry points: name, target, package."""
    from importlib import metadata

    def found(group: str) -> list[object]:
        made = [metadata.EntryPoint(name, target, group) for name, target, _ in points]
        dists = [type("Dist", (), {"name": package}) for *_, package in points]
        return [point._for(dist) for point, dist in zip(made, dists, strict=True)]  # type: ignore[attr-defined]

    monkeypatch.setattr(metadata, "entry_points", found)
    registry: Registry[Any] = Registry("shape", group="benchmark.shapes", **options)
    registry.register("square")(dict)
    registry.register("{sides}gon", examples=("5gon",))(list)
    return registry


def test_plugin_entry_points_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = plugged(monkeypatch, ("ordered", "collections:OrderedDict", "acme"))
    assert registry.names() == ["square", "5gon", "ordered"]
    assert registry.get("ordered").entry.__name__ == "OrderedDict"
    assert registry.help("ordered") == "Dictionary that remembers insertion order (plug-in of acme)"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no_such_module:Thing", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("collections:Missing", "AttributeError: module 'collections' has no attribute 'Missing'"),
        ("collections", "AttributeError"),
        ("math:pi", "TypeError: math:pi cannot be called"),
        ("collections:deque", "TypeError: collections:deque is no subclass of dict"),
    ],
)
def test_broken_plugin_is_listed_with_the_reason(monkeypatch: pytest.MonkeyPatch, target: str, reason: str) -> None:
    registry = plugged(monkeypatch, ("broken", target, "acme"), base=dict)
    assert registry.names() == ["square", "5gon", "broken"]
    for _ in range(2):
        assert f"shape 'broken', a plug-in of acme, cannot be loaded ({reason}" in registry.help("broken")
        with pytest.raises(UnusablePlugIn, match="a plug-in of acme, cannot be loaded"):
            registry.get("broken")
    assert registry.get("square").entry is dict
    assert [registry.usable(name) for name in registry.names()] == [True, True, False]


@pytest.mark.parametrize("name", ["square", "{sides}gon", "7gon"])
def test_plugin_with_a_name_of_the_suite_leaves_it_to_the_suite(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    registry = plugged(monkeypatch, (name, "collections:Counter", "acme"), ("own", "collections:Counter", "acme"))
    used = name.replace("{sides}", "7")
    line = f"the plug-in of acme cannot be used: shape {name!r} is the suite's own; rename it in acme"
    assert registry.get(used).entry in (dict, list)
    assert registry.help(f"{name} (acme)") == line
    assert registry.display_names()[-1] == f"{name} (acme)"
    assert f"{name} (acme)" not in registry.names()
    assert not registry.usable(f"{name} (acme)")
    with pytest.raises(UnusablePlugIn, match=re.escape(line)):
        registry.get(f"{name} (acme)")
    assert registry.get("own").entry.__name__ == "Counter"
    assert (registry.package("own"), registry.package(used), registry.package("none")) == ("acme", None, None)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise SystemExit(3)", "it ends the process when it is imported"),
        ("import os; os._exit(3)", "it ends the process when it is imported"),
        ("import time\nwhile True:\n    try:\n        time.sleep(60)\n    except Exception:\n        pass",
         "it does not return from its import within 0 s"),
        ("raise KeyError('x\\ny')", "KeyError"),
    ],
)  # fmt: skip
def test_plugin_that_ends_or_hangs_the_process_is_listed_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, reason: str
) -> None:
    (tmp_path / "odd_shape.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(containment, "IMPORT_SECONDS", 0.2)
    registry = plugged(monkeypatch, ("odd", "odd_shape:Thing", "acme"))
    assert f"shape 'odd', a plug-in of acme, cannot be loaded ({reason}" in registry.help("odd")
    assert registry.get("square").entry is dict


def test_plugin_that_prints_and_closes_standard_output_leaves_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loud_shape.py").write_text("import sys\nprint('loud')\nsys.stdout.close()\nThing = dict\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = plugged(monkeypatch, ("loud", "loud_shape:Thing", "acme"))
    assert registry.get("loud").entry is dict
    sys.stdout.write("after\n")
    assert capsys.readouterr() == ("after\n", "loud\n")


def test_plugins_of_one_name_name_both_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = plugged(monkeypatch, ("own", "collections:Counter", "acme"), ("own", "collections:deque", "zeta"))
    with pytest.raises(UnusablePlugIn, match="a plug-in of acme and of zeta"):
        registry.get("own")
    assert registry.names().count("own") == 1


@pytest.mark.parametrize("name", ["a-{size:colour}", "a-{size}-{size}"])
def test_plugin_with_unreadable_fields_is_listed_with_the_reason(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    registry = plugged(monkeypatch, (name, "collections:Counter", "acme"))
    shown = registry.names()[-1]
    assert "plug-in of acme, has a name whose fields cannot be read" in registry.help(shown)
    assert registry.get("square").entry is dict


def test_plugin_that_registers_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = plugged(monkeypatch, ("own", "collections:Counter", "acme"))
    assert "own" in registry
    with pytest.raises(ValueError, match="registered twice: a plug-in has its name from its entry point alone"):
        registry.register("own")(dict)


def test_override_is_undone_at_the_end(shapes: Registry[object]) -> None:
    before = shapes.names()
    with shapes.override("square", set), shapes.override("fresh", tuple):
        assert shapes.get("square").entry is set
        assert shapes.get("fresh").entry is tuple
    assert shapes.get("square").entry is dict
    assert shapes.names() == before


def test_listing_registries_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from benchmark.backbones import BACKBONES, PRETRAINED\nfrom benchmark.data import DATASETS\n"
        "from benchmark.methods import METHODS\nfrom protocols import PROTOCOLS\n"
        "for r in (BACKBONES, PRETRAINED, DATASETS, METHODS, PROTOCOLS):\n"
        "    assert [r.help(n) for n in r.display_names()]\n"
        "heavy = {'torch', 'pandas', 'numpy', 'matplotlib', 'learn2learn', 'avalanche', 'scipy', 'timm',\n"
        "         'efficientnet_lite_pytorch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_registry_is_a_collection_of_its_names() -> None:
    registry: Registry[type] = Registry("thing")
    registry.register("one")(int)
    registry.register("two-{n}", examples=("two-5",))(str)
    assert list(registry) == ["one", "two-5"]
    assert len(registry) == 2
    assert registry["one"] is int
    assert registry["two-7"] is str
    assert repr(registry) == "<2 names of the kind thing: one, two-5>"
    assert Registry("empty")
    with pytest.raises(InputError, match="did you mean 'one'"):
        registry["on"]
