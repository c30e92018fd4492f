"""The site of `onnxcam web` in real headless Chromium, behind Python's static server."""

from __future__ import annotations

import base64
import io
import time

import numpy as np
import pytest
from PIL import Image

import onnxcam_models
from helpers_browser import chromium, packed_onnxruntime_web, served, why_no_browser
from helpers_explaining import HandMade
from helpers_javascript import wasm
from onnxcam import Engine
from onnxcam.web.runtime import runtime_files
from onnxcam.web.site import site_files, write_site
from onnxcam_export import from_onnx
from onnxcam_models import scenes

pytest.importorskip("selenium", reason="selenium drives the browser: pip install selenium")
pytestmark = pytest.mark.skipif(bool(why_no_browser()), reason=str(why_no_browser()))

_SECONDS = 120.0  # until a step counts as stuck; each takes far less


class Page:
    """The site as a visitor sees it."""

    def __init__(self, driver, address):
        self.driver, self.address = driver, address

    def open(self, width=1280, height=900, scheme="light"):
        emulate = self.driver.execute_cdp_cmd
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        emulate("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        emulate("Emulation.setEmulatedMedia", {"features": [feature]})
        self.driver.get(self.address)
        return self

    def ready(self):
        self.until("document.getElementById('progress').hidden")
        return self

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def until(self, condition):
        """Wait for a JavaScript expression to be true; its value."""
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            value = self.run(f"return {condition}")
            if value:
                return value
            time.sleep(0.02)
        text = self.run("return document.body.innerText")
        raise AssertionError(f"{condition} never came true.\n{text}\n{self.log()}")

    def log(self):
        return [each["message"] for each in self.driver.get_log("browser")]

    def id(self, name):
        return self.driver.find_element("id", name)

    def give(self, path):
        """Choose a picture file, and wait for its explanation."""
        self.mark()
        self.id("file").send_keys(str(path))
        self.painted()

    def mark(self):
        """From here on `painted` waits for something new."""
        self.run(
            "window.before = performance.now(); window.drawn = 0;"
            "const text = document.getElementById('timing');"
            "window.watcher?.disconnect();"
            "window.watcher = new MutationObserver(() => { window.drawn++; });"
            "watcher.observe(text, {childList: true, characterData: true, subtree: true});"
        )

    def painted(self):
        self.until("window.drawn > 0")

    def pixels(self):
        """The canvas, uint8 [H, W, 4]."""
        data = self.run(
            "const c = document.getElementById('view'), {width, height} = c;"
            "const {data} = c.getContext('2d').getImageData(0, 0, width, height);"
            "let text = ''; for (let i = 0; i < data.length; i += 8192)"
            "  text += String.fromCharCode(...data.subarray(i, i + 8192));"
            "return [width, height, btoa(text)];"
        )
        width, height, text = data
        return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)

    def classes(self):
        """Index, text and mark of the rows in the list."""
        return self.run(
            "return [...document.querySelectorAll('#classes button')].map("
            "b => [Number(b.dataset.index), b.innerText, b.getAttribute('aria-pressed')])"
        )

    def set(self, name, value, event="change"):
        """Choose in a list, or move a slider, as a visitor's hand would tell the page."""
        self.mark()
        self.run(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event(arguments[2], {bubbles: true}))",
            name, value, event,
        )  # fmt: skip
        self.painted()


def same(pixels, expected):
    """Whether the canvas shows an overlay, to the rounding of another machine's floats."""
    assert pixels.shape[:2] == expected.shape[:2]
    assert (pixels[..., 3] == 255).all()
    assert np.abs(pixels[..., :3].astype(int) - expected).max() <= 2


@pytest.fixture(scope="module")
def explaining():
    shipped = onnxcam_models.network("digits-in-clutter")
    model = from_onnx(
        shipped.path,
        layer=shipped.layer,
        preprocess=shipped.preprocess,
        labels=[f"the digit {label}" for label in shipped.labels],
        activation=shipped.activation,
    )
    return model.SerializeToString()


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    return runtime_files(packed_onnxruntime_web(tmp_path_factory.mktemp("npm")))


@pytest.fixture(scope="module")
def scene():
    """Four digits among clutter, 480x480 pixels: shown on the page as they are."""
    made = scenes.compose(np.random.default_rng(48), *scenes.unseen_handwriting())
    return np.kron(made.picture, np.ones((5, 5), np.uint8))[..., None].repeat(3, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, scene):
    """Pictures to give."""
    folder = tmp_path_factory.mktemp("pictures")
    Image.fromarray(scene).save(folder / "scene.png")
    return folder


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    downloads = tmp_path_factory.mktemp("downloads")
    with chromium(downloads) as driver:
        driver.downloads = downloads
        yield driver


@pytest.fixture(scope="module")
def page(driver, explaining, runtime, scene, tmp_path_factory):
    site = tmp_path_factory.mktemp("site") / "site"
    sample = io.BytesIO()
    Image.fromarray(scene).save(sample, "PNG")
    example = (".png", sample.getvalue())
    write_site(site, site_files(explaining, "digits in clutter", runtime, example, wasm()))
    with served(site) as address:
        yield Page(driver, address)


@pytest.fixture(scope="module")
def engine(explaining):
    return Engine(explaining)


@pytest.fixture
def shown(page, folder):
    """The page with the scene on it."""
    page.open().ready().give(folder / "scene.png")
    return page


def test_a_picture_in_and_its_overlay_out(shown, engine, scene):
    result = engine.explain(scene)
    same(shown.pixels(), result.overlay())
    rows = shown.classes()
    top = result.top(10)
    assert [index for index, _, _ in rows] == [each.index for each in top]
    assert [mark for _, _, mark in rows] == ["true"] + ["false"] * 9
    for (_, text, _), each in zip(rows, top, strict=True):
        name, percent = text.split("\n")
        assert name == each.label
        assert abs(float(percent.strip("<> %")) - 100 * each.probability) < 0.11
    label = shown.id("view").get_attribute("aria-label")
    assert "scene.png" in label and result.label in label
    assert "thread" in shown.id("timing").text
    assert shown.run("return document.title") == "digits in clutter · onnxcam"
    assert not shown.log()


def test_a_click_on_a_class_explains_it(shown, engine, scene):
    chosen = engine.explain(scene).top(3)[2]
    shown.mark()
    shown.driver.find_element("css selector", f'[data-index="{chosen.index}"]').click()
    shown.painted()
    same(shown.pixels(), engine.explain(scene, chosen.index).overlay())
    assert [index for index, _, mark in shown.classes() if mark == "true"] == [chosen.index]
    shown.mark()
    shown.driver.find_element("css selector", '[data-action="follow"]').click()
    shown.painted()
    same(shown.pixels(), engine.explain(scene).overlay())


def test_a_class_without_a_map_says_why(shown, engine, scene):
    results = [engine.explain(scene, index) for index in range(10)]
    silent = next(each for each in results if each.diagnosis.reason)
    shown.mark()
    shown.driver.find_element("css selector", f'[data-index="{silent.target}"]').click()
    shown.painted()
    assert silent.diagnosis.reason == "all_negative"
    assert "Nothing at this layer speaks for this class" in shown.id("diagnosis").text
    same(shown.pixels(), silent.overlay())
    shown.set("blend", "diverging")  # what speaks against it
    same(shown.pixels(), silent.overlay(preset="diverging"))
    shown.set("blend", "alpha")
    same(shown.pixels(), silent.overlay())


def test_strength_colours_style_and_method(shown, engine, scene):
    shown.set("alpha", "75", "input")
    same(shown.pixels(), engine.explain(scene).overlay(alpha=0.75))
    shown.set("colormap", "viridis")
    same(shown.pixels(), engine.explain(scene).overlay(alpha=0.75, colormap="viridis"))
    shown.set("method", "layercam")
    result = engine.explain(scene, method="layercam")
    same(shown.pixels(), result.overlay(alpha=0.75, colormap="viridis"))
    shown.set("blend", "contours")
    same(shown.pixels(), result.overlay(colormap="viridis", blend="contours"))
    shown.set("blend", "heat")
    same(shown.pixels(), result.overlay(colormap="viridis", blend="heat"))


def test_the_picture_without_its_heatmap(shown, scene):
    from selenium.webdriver import ActionChains, Keys

    view = shown.id("view")
    with_heat = shown.pixels()
    ActionChains(shown.driver).click_and_hold(view).perform()
    np.testing.assert_array_equal(shown.pixels()[..., :3], scene)
    ActionChains(shown.driver).release().perform()
    np.testing.assert_array_equal(shown.pixels(), with_heat)
    shown.id("heat").send_keys(Keys.SPACE)  # with the keyboard
    np.testing.assert_array_equal(shown.pixels()[..., :3], scene)


def test_save_writes_the_overlay_in_the_pictures_own_size(page, engine, folder):
    small = np.asarray(Image.open(folder / "scene.png").resize((97, 60)))
    Image.fromarray(small).save(folder / "small.png")
    page.open().ready().give(folder / "small.png")
    assert page.pixels().shape[1] > 97  # on the screen it is larger
    page.driver.find_element("css selector", '.toolbar [data-action="save"]').click()
    path = page.driver.downloads / "small.cam.png"
    end = time.monotonic() + _SECONDS
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.05)
    saved = np.asarray(Image.open(path).convert("RGBA"))
    same(saved, engine.explain(small).overlay())


def test_an_upright_picture_of_one_that_lies(page, engine, folder):
    """The EXIF orientation is applied, as `open_picture` does."""
    left = np.zeros((400, 500, 3), np.uint8)
    left[:, :90] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(left).save(folder / "lying.jpg", quality=100, exif=exif)
    page.open().ready().give(folder / "lying.jpg")
    page.id("heat").send_keys(" ")
    found = page.pixels()[..., :3].astype(int)
    assert found.shape == (500, 400, 3)
    assert found[:80].mean() > 250 and found[100:].mean() < 5
    assert engine.explain(folder / "lying.jpg").picture.shape == found.shape


@pytest.mark.parametrize(
    ("name", "content"),
    [("notes.txt", b"no picture"), ("cut.png", None), ("empty.png", b"")],
)
def test_a_bad_file_is_named_and_the_page_goes_on(shown, folder, name, content):
    before = shown.pixels()
    whole = (folder / "scene.png").read_bytes()
    (folder / name).write_bytes(whole[:40] if content is None else content)
    shown.id("file").send_keys(str(folder / name))
    shown.until("!document.getElementById('alert').hidden")
    assert shown.id("alert").get_attribute("role") == "alert"
    assert name in shown.id("alert-text").text.lower()
    assert shown.run(
        "const r = document.getElementById('alert').getBoundingClientRect();"
        "return r.top >= 0 && r.bottom <= innerHeight"
    )
    np.testing.assert_array_equal(shown.pixels(), before)
    shown.give(folder / "scene.png")
    assert shown.run("return document.getElementById('alert').hidden")


def test_the_example_and_dropping_and_pasting(page, engine, scene):
    page.open().ready().mark()
    page.driver.find_element("css selector", '.invitation [data-action="sample"]').click()
    page.painted()
    expected = engine.explain(scene).overlay()
    same(page.pixels(), expected)
    for event in ("drop", "paste"):
        page.mark()
        page.run(
            "const done = async () => {"
            "const blob = await (await fetch('sample.png')).blob();"
            "const data = new DataTransfer();"
            "data.items.add(new File([blob], 'given.png', {type: 'image/png'}));"
            "const kind = arguments[0] === 'drop' ? DragEvent : ClipboardEvent;"
            "const name = arguments[0] === 'drop' ? 'dataTransfer' : 'clipboardData';"
            "document.body.dispatchEvent(new kind(arguments[0], {bubbles: true, [name]: data}));"
            "}; done();",
            event,
        )
        page.painted()
        same(page.pixels(), expected)
        assert "given.png" in page.id("status").text


def test_the_camera_is_explained_live_and_stops(page):
    page.open().ready().mark()
    page.driver.find_element("css selector", '.invitation [data-action="camera"]').click()
    page.until("window.drawn > 2")
    assert page.id("badge").is_displayed()
    first = page.pixels()
    page.mark()
    page.until("window.drawn > 2")
    assert (page.pixels() != first).any()  # Chromium's stand-in for a camera moves
    page.driver.find_element("css selector", '[data-action="stop"]').click()
    page.until("document.getElementById('badge').hidden")
    page.mark()
    page.set("colormap", "gray")  # the last frame stays, and can be looked at
    assert page.pixels().shape == first.shape
    assert page.run("return document.getElementById('alert').hidden")
    assert not page.log()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 375, 820])
def test_a_narrow_screen(page, folder, width, scheme):
    """Nothing sticks out sideways, and nothing to touch is tiny."""
    page.open(width, 800, scheme).ready().give(folder / "scene.png")
    assert page.run("return document.documentElement.scrollWidth") <= width
    boxes = page.run(
        "return [...document.querySelectorAll('button, select, input')].filter("
        "e => e.checkVisibility() && e.id !== 'file').map(e => { const r = "
        "(e.closest('label.switch') ?? e).getBoundingClientRect();"
        "return [e.id || e.innerText, r.left, r.right, r.height] })"
    )
    assert len(boxes) > 10
    for name, left, right, height in boxes:
        assert left >= 0 and right <= width, name
        assert height >= 16, name


def test_everything_has_a_name_and_text_stands_out(shown):
    """What a screen reader says, and the contrast that WCAG asks for (4.5 to 1)."""
    nameless = shown.run(
        "return [...document.querySelectorAll('button, select, input, canvas')].filter(e =>"
        "e.checkVisibility() && !e.ariaHidden && !(e.innerText || e.getAttribute('aria-label')"
        "|| e.labels?.length)).map(e => e.outerHTML)"
    )
    assert nameless == []
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        shown.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        colors = shown.run(
            "const s = getComputedStyle(document.documentElement);"
            "const rgb = n => { const e = document.createElement('i'); e.style.color ="
            "s.getPropertyValue(n); document.body.append(e); const c = getComputedStyle(e).color;"
            "e.remove(); return c.match(/\\d+/g).map(Number); };"
            "return [['--ink','--page'], ['--soft','--page'], ['--soft','--card'],"
            "['--ink','--bar'], ['--ink','--bar-chosen'],"
            "['--accent','--card'], ['--accent-ink','--accent'],"
            "['--warn','--warn-fill'], ['--bad','--bad-fill']]"
            ".map(pair => [pair, ...pair.map(rgb)]);"
        )
        for pair, ink, paper in colors:
            assert contrast(ink, paper) >= 4.5, (scheme, pair)


def contrast(one, other):
    """WCAG 2.2's contrast ratio of two sRGB colours."""
    values = []
    for color in (one, other):
        x = np.array(color[:3]) / 255
        linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
        values.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(values) + 0.05) / (min(values) + 0.05)


def test_search_among_many_classes(driver, runtime, folder, tmp_path):
    from helpers_onnx import small_network

    labels = [f"n{10000000 + i} thing {i}, stuff_{i}" for i in range(40)]
    model = from_onnx(
        small_network(classes=40), preprocess="unit", labels=labels, activation="softmax"
    )
    write_site(tmp_path / "site", site_files(model.SerializeToString(), "m", runtime, None, wasm()))
    with served(tmp_path / "site") as address:
        page = Page(driver, address).open().ready()
        page.give(folder / "scene.png")
        assert len(page.classes()) == 8
        page.id("search").send_keys("STUFF 37")
        page.until("document.querySelectorAll('#classes button').length === 1")
        assert page.classes()[0][0] == 37
        page.mark()
        page.id("search").send_keys("\n")
        page.painted()
        assert page.classes()[0][2] == "true"
        page.id("search").clear()
        page.id("search").send_keys("nothing like this")
        page.until("document.querySelector('#classes .none')")


def test_a_model_that_does_not_suit_is_said_so(driver, runtime, tmp_path):
    """As when somebody puts another file in the place of the site's model."""
    good = HandMade()
    for i, (content, word) in enumerate(
        [
            (good.but(with_contract=False).bytes(), "no contract"),
            (b"<html>404</html>", "not an ONNX file"),
            (good.bytes()[:500], "not an ONNX file"),
            (None, "can't be fetched (404)"),
        ]
    ):
        site = tmp_path / f"site{i}"
        write_site(site, site_files(content or b"", "m", runtime, None, wasm()))
        if content is None:
            (site / "model.onnx").unlink()
        with served(site) as address:
            page = Page(driver, address).open()
            page.until("!document.getElementById('alert').hidden")
            assert word in page.id("alert-text").text
            assert page.run("return document.getElementById('progress').hidden")


def test_a_server_that_unpacks_and_allows_threads(driver, runtime, folder, tmp_path):
    site = tmp_path / "site"
    files = site_files(HandMade().bytes(), "m", runtime, None, wasm())
    # As on a processor of six cores.
    files["worker.js"] = files["worker.js"].replace(b"navigator.hardwareConcurrency", b"6")
    write_site(site, files)
    with served(site, elaborate=True) as address:
        page = Page(driver, address).open().ready()
        page.give(folder / "scene.png")
        assert page.run("return crossOriginIsolated")
        assert "3 threads" in page.id("timing").text
        same(page.pixels(), Engine(HandMade().bytes()).explain(folder / "scene.png").overlay())
        assert not page.log()


def test_nothing_is_asked_of_another_host(driver, page, folder):
    """What the page fetches, from start to overlay, comes from its own server."""
    driver.execute_cdp_cmd("Network.enable", {})
    page.open().ready().give(folder / "scene.png")
    names = page.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert len(names) > 5
    assert all(name.startswith((page.address, "blob:")) for name in names)
