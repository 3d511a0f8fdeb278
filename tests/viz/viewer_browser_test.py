"""The viewer in a browser: it draws, and the panel reaches it, without an error or another host."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from rig3r_jax.exports.export import export
from tests.browsers import headless_chromium, open_page, wait_until
from tests.exports.reconstructions import rig_of_three

pytestmark = pytest.mark.browser


@pytest.fixture
def address(tmp_path):
    pytest.importorskip("viser", reason="pip install '.[view]' brings viser")
    from rig3r_jax.viz.viewer.app import App
    from rig3r_jax.viz.viewer.content import read_content
    from rig3r_jax.viz.viewer.serve import start

    export(rig_of_three("pinhole"), tmp_path, ["cameras", "npz"])
    server, ended = start(0, public=False), threading.Event()
    app = App(server, read_content(tmp_path))

    def play():
        while not ended.wait(app.seconds):
            app.tick()

    player = threading.Thread(target=play)
    player.start()
    yield f"http://127.0.0.1:{server.get_port()}"
    ended.set()
    player.join()
    server.stop()


def _scene(page):
    pixels = Image.open(io.BytesIO(page.screenshot(clip={"x": 0, "y": 120, "width": 500, "height": 500})))
    return np.asarray(pixels.convert("RGB")).astype(int)


def _settled(page):
    """The scene when it has stopped to change: it fades in."""
    shots = [_scene(page)]

    def still():
        shots.append(_scene(page))
        return np.array_equal(*shots[-2:])

    wait_until(page, still)
    return shots[-1]


def test_it_draws_and_plays(address):
    with headless_chromium() as browser, open_page(browser, address, width=900, height=800) as page:
        page.get_by_text("12 images, 360 points").wait_for()
        page.get_by_text("front/000.jpg").wait_for()
        wait_until(page, lambda: len(np.unique(_scene(page).reshape(-1, 3), axis=0)) > 200)
        before = _settled(page)
        page.get_by_role("combobox", name="Colours of").click()
        page.get_by_role("option", name="camera", exact=True).click()
        wait_until(page, lambda: (np.abs(_scene(page) - before).max(axis=-1) > 50).sum() > 50)
        page.get_by_role("checkbox", name="Play").check()
        page.get_by_text("front/003.jpg").wait_for()
        assert page.get_by_text("share", exact=False).count() == 0  # nothing that would open a tunnel to elsewhere
