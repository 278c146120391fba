"""Pictures in a page are light, look the same, and leave the file alone."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageStat

from cmbagent_nb.render.markdown import markdown_html
from cmbagent_nb.render.pictures import data_uri, lighter


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.astype("uint8")).save(out, "PNG")
    return out.getvalue()


def figure(tmp_path: Path) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(6, 4))
    axes = drawn.subplots()
    x = np.linspace(0, 20, 400)
    axes.plot(x, np.sin(x), x, np.cos(x))
    axes.plot(x[::4], np.sin(x[::4]), "o", ms=3)
    drawn.savefig(tmp_path / "figure.png", dpi=150)
    return tmp_path / "figure.png"


def test_a_figure_becomes_lighter_and_looks_the_same(tmp_path: Path) -> None:
    original = figure(tmp_path).read_bytes()
    light = lighter(original)
    assert len(light) < len(original) / 2
    before, after = (Image.open(io.BytesIO(data)).convert("RGB") for data in (original, light))
    assert before.size == after.size
    assert max(ImageStat.Stat(ImageChops.difference(before, after)).rms) < 2


def test_a_photograph_keeps_its_colours() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3))
    data = png(noise)
    assert lighter(data) == data


def test_a_picture_that_can_be_seen_through_is_left_alone() -> None:
    pixels = np.zeros((200, 200, 4))
    pixels[:100, :, 3] = np.linspace(0, 255, 200)
    data = png(pixels)
    assert lighter(data) == data


def test_what_is_no_picture_is_passed_on() -> None:
    data = b"not a picture" * 2000
    assert base64.b64decode(data_uri(data, "image/png").partition(",")[2]) == data


def test_a_report_shows_the_light_picture_and_the_file_stays(tmp_path: Path) -> None:
    path = figure(tmp_path)
    original = path.read_bytes()
    html = markdown_html("![a figure](figure.png)", tmp_path)
    assert 'alt="a figure"' in html
    assert len(html) < len(original)
    assert path.read_bytes() == original
