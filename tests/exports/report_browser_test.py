"""report.html in a browser: it draws, plays, colours and listens to keys, without an error or a network."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from rig3r_jax.exports.export import export_file
from rig3r_jax.exports.options import ExportOptions
from tests.browsers import headless_chromium, open_page
from tests.exports.reconstruction_report_test import places_of, scene_of
from tests.exports.reconstructions import rig_of_three, unordered

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    with headless_chromium() as browser:
        yield browser


def _drawn(page):
    """Pixels of the canvas."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return np.asarray(Image.open(io.BytesIO(page.locator("#view").screenshot())).convert("RGB")).astype(int)


def _write(folder, make=rig_of_three, **changes):
    reconstruction = dataclasses.replace(make("pinhole"), image_folder=str(folder), **changes)
    for number, image in enumerate(reconstruction.images):
        (folder / image.name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (image.width, image.height), (20 * number, 90, 200)).save(folder / image.name)
    export_file(reconstruction, "report", folder / "report.html", ExportOptions(confident=1.0, edges=None))
    return f"file://{folder}/report.html"


def test_every_control_changes_what_is_drawn(browser, tmp_path):
    with open_page(browser, _write(tmp_path)) as page:
        status = page.locator("#status")
        assert "360 of 360 points · confidence from 1" in status.inner_text()
        before = _drawn(page)
        assert len(np.unique(before.reshape(-1, 3), axis=0)) > 100
        names = page.locator("#coloring option").evaluate_all("options => options.map(option => option.value)")
        assert names == ["colors", "confidence", "image", "camera", "time", "rig"]
        for name in names[1:]:
            page.select_option("#coloring", name)
            after = _drawn(page)
            assert np.abs(after - before).max() > 50, name
            before = after
        page.fill("#share", "50")
        assert "180 of 360 points" in status.inner_text() and page.inner_text("#share-value") == "50 %"
        page.select_option("#scope", "step")
        assert np.abs(_drawn(page) - before).max() > 50
        for control, value in (("#size", "9"), ("#cameras", "30")):
            before = _drawn(page)
            page.fill(control, value)
            assert np.abs(_drawn(page) - before).max() > 50, control
        before = _drawn(page)
        page.uncheck("#pictures")
        assert np.abs(_drawn(page) - before).max() > 50


def test_the_script_reads_the_points_that_were_written(browser, tmp_path):
    eyes = "scene.names.map((_, i) => [3, 7, 11].map(entry => numbers(scene.poses, Float32Array)[12 * i + entry]))"
    with open_page(browser, _write(tmp_path)) as page:
        places = page.evaluate(f"Array.from(decode(scene.points, {eyes}).places)")
    scene = scene_of(tmp_path / "report.html")
    np.testing.assert_allclose(np.reshape(places, (-1, 3)) + scene["center"], places_of(scene), atol=1e-5)


def test_steps_and_keys(browser, tmp_path):
    with open_page(browser, _write(tmp_path)) as page:
        moment, view = page.locator("#moment"), page.locator("#view")
        assert moment.inner_text() == "step 1 of 4 · 0.00 s"
        page.click("#after")
        assert moment.inner_text() == "step 2 of 4 · 0.25 s"
        assert page.locator("#strip small").all_inner_texts() == [
            f"{name}/001.jpg" for name in ("front", "left", "right")
        ]
        view.focus()
        for key, step in ((".", 3), (".", 4), (".", 4), (",", 3)):
            page.keyboard.press(key)
            assert moment.inner_text().startswith(f"step {step} of 4")
        home = _drawn(page)
        for key in ("ArrowLeft", "Shift+ArrowUp", "+", "-"):
            before = _drawn(page)
            page.keyboard.press(key)
            assert np.abs(_drawn(page) - before).max() > 50, key
        page.keyboard.press("Home")
        np.testing.assert_array_equal(_drawn(page), home)
        page.keyboard.press("Space")
        assert page.inner_text("#play") == "Pause"
        page.locator("#moment", has_text="step 1 of 4").wait_for()
        page.click("#play")
        assert page.inner_text("#play") == "Play"


def test_pointers_turn_move_zoom_and_choose(browser, tmp_path):
    with open_page(browser, _write(tmp_path)) as page:
        page.locator("#view").scroll_into_view_if_needed()
        box = page.locator("#view").bounding_box()
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for button, modifier in (("left", None), ("right", None), ("left", "Shift")):
            before = _drawn(page)
            page.mouse.move(*middle)
            if modifier:
                page.keyboard.down(modifier)
            page.mouse.down(button=button)
            page.mouse.move(middle[0] + 80, middle[1] + 30, steps=4)
            page.mouse.up(button=button)
            if modifier:
                page.keyboard.up(modifier)
            assert np.abs(_drawn(page) - before).max() > 50, (button, modifier)
        before = _drawn(page)
        page.locator("#view").focus()
        page.mouse.wheel(0, -300)
        assert np.abs(_drawn(page) - before).max() > 50


def test_a_picture_is_stood_behind(browser, tmp_path):
    """From where an image was taken its picture, drawn in its frustum, fills the middle of the view."""
    with open_page(browser, _write(tmp_path)) as page:
        page.locator("button.image").nth(7).click()
        assert "left/002.jpg" in page.inner_text("#status")
        assert page.inner_text("#moment").startswith("step 3 of 4")
        page.select_option("#scope", "step")
        page.fill("#share", "1")
        pixels = _drawn(page)
        height, width = pixels.shape[:2]
        middle = pixels[height // 2 - 40 : height // 2 + 40, width // 2 - 40 : width // 2 + 40]
        assert np.median(np.abs(middle - (140, 90, 200)).max(axis=-1)) < 12


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_legible_in_both_schemes_on_a_phone(browser, tmp_path, scheme):
    with open_page(browser, _write(tmp_path), width=390, height=844, scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        ground = _drawn(page)[5, 5].mean()
        assert ground > 200 if scheme == "light" else ground < 80


def test_cameras_alone_and_single_photographs(browser, tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    with open_page(browser, _write(tmp_path / "a", points=None)) as page:
        assert len(np.unique(_drawn(page).reshape(-1, 3), axis=0)) > 20
        assert page.locator("#share").count() == 0
    with open_page(browser, _write(tmp_path / "b", unordered)) as page:
        assert page.inner_text("#moment") == "step 1 of 3"
        assert "90 of 90 points" in page.inner_text("#status")


def test_a_name_that_is_a_script_stays_text(browser, tmp_path):
    hostile = "</script><script>document.title='taken'</script>.jpg"
    rig = rig_of_three("pinhole")
    images = (dataclasses.replace(rig.images[0], name=hostile), *rig.images[1:])
    export_file(dataclasses.replace(rig, images=images), "report", tmp_path / "report.html")
    with open_page(browser, f"file://{tmp_path}/report.html") as page:
        assert page.title() == "Reconstruction"
        assert hostile in page.locator("#strip small").all_inner_texts()
