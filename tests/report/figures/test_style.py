from __future__ import annotations

import itertools

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.colors import to_rgb

from benchmark.methods import METHODS
from benchmark.report.figures import style
from benchmark.report.figures.method_styles import MethodStyle, method_styles

# Machado, Oliveira and Fernandes, IEEE TVCG 2009, severity 1, for linear RGB
DEFICIENT = {
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(color: str, vision: str) -> npt.NDArray[np.float64]:
    """Return a colour as seen with deficient vision, in CIELAB under D65."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(DEFICIENT[vision]) @ linear, 0, 1)
    ratio = TO_XYZ @ linear / (0.9505, 1.0, 1.089)
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


STYLES = method_styles()


def test_method_styles_are_unique() -> None:
    assert set(STYLES) == set(METHODS.built_in_names())
    assert len({(one.color, one.marker) for one in STYLES.values()}) == len(STYLES)


@pytest.mark.parametrize("vision", DEFICIENT)
def test_method_styles_with_equal_markers_differ_in_colour_for_all_vision(vision: str) -> None:
    for (a, one), (b, other) in itertools.combinations(STYLES.items(), 2):
        if one.marker == other.marker:
            assert np.linalg.norm(lab(one.color, vision) - lab(other.color, vision)) > 40, (a, b)


def test_plug_in_style_depends_on_its_name_and_differs_from_built_in_ones() -> None:
    names = [f"method-{i}" for i in range(60)]
    looks = [style.look(name) for name in names]
    assert looks == [style.look(name) for name in names]
    assert len(set(looks)) > 20
    assert not {look.marker for look in looks} & {look.marker for look in STYLES.values()}
    # fixed for all time: the same in the figures of every version
    assert style.look("method-0") == MethodStyle("#AA4499", (3, 1, 60))


def contrast(color: str) -> float:
    luminance = float(lab(color, "none")[0])
    y = ((luminance + 16) / 116) ** 3 if luminance > 8 else luminance / 903.3
    return 1.05 / (y + 0.05)


@pytest.mark.parametrize("method", STYLES)
def test_legible_colours_of_methods_have_contrast_with_white(method: str) -> None:
    assert contrast(style.legible(style.look(method).color)) >= 4.4
    assert contrast(style.look(method).color) >= 1.8


def test_files_embed_editable_fonts_and_no_date() -> None:
    with style.styled():
        figure = style.canvas(60, 40, "Aé†")
        pdf, png, svg = style.to_pdf(figure), style.to_png(figure), style.to_svg(figure)
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    for word in (b"Date", b"atplotlib"):
        assert word not in pdf
        assert word not in png
        assert word not in svg.encode()
    assert svg.startswith("<svg")
    assert "<text" not in svg
    width = int.from_bytes(png[16:20])
    assert width == pytest.approx(60 / 25.4 * 300, abs=1)


def test_styled_ignores_and_keeps_the_users_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> str:
        with style.styled():
            figure = style.canvas(60, 40)
            style.axes(figure, 10, 10, 40, 20).plot([0, 1], [0, 1])
        return style.to_svg(figure)

    before = drawn()
    monkeypatch.setitem(mpl.rcParams, "lines.linewidth", 9)
    monkeypatch.setitem(mpl.rcParams, "font.size", 30)
    assert drawn() == before
    assert mpl.rcParams["lines.linewidth"] == 9


def test_titles_and_footnotes_are_broken_into_lines() -> None:
    with style.styled():
        figure = style.canvas(style.SINGLE, 40, "a protocol, a data set, networks, quick" + "+protocol.episodes=20" * 5)
        style.footnote(figure, "a remark of some length " * 3, "", "and another")
        title, footnote = figure.texts
        lines = title.get_text().split("\n")
        assert len(lines) == 3
        assert lines[1].startswith("+protocol")
        assert "\n" in footnote.get_text()
        assert ";  " not in footnote.get_text()
        grown = figure.bbox.height - style.canvas(style.SINGLE, 40, "a title").bbox.height
        added = title.get_window_extent().height - style.canvas(60, 40, "a title").texts[0].get_window_extent().height
        assert grown == pytest.approx(added, abs=3)
        for text in (title, footnote):
            assert text.get_window_extent().x1 <= figure.bbox.x1
