"""The page, in a real browser and before a real preview: Debian's Chromium, driven by Playwright."""

import os
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import cv2
import httpx
import numpy as np
import pytest
from conformance.server import preview
from PIL import Image

from keras_googlenet import GoogLeNet, export_saved_model
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.network.architecture import Architecture
from keras_googlenet.serving import page as page_files

pytestmark = pytest.mark.ci
PATHS = ("chromium", "chromium-browser", "google-chrome")
HOSTILE = "<img src=x onerror=alert(1)>"
NAMES = (HOSTILE, "T-shirt/top", "größe", "a,b", '"quoted" & co', "last")
MODELS = ("plain", "maps & <b>more, yes", "crops")
MILLISECONDS = 30_000


@pytest.fixture(scope="module")
def browser():
    path = next((found for name in PATHS if (found := shutil.which(name))), None)
    if path is None and not os.environ.get("CI"):
        pytest.skip("no Chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def directory(tmp_path_factory, tiny_variant):
    """Models of classes with troublesome names: one has class activation maps and two versions, one crops."""
    directory = tmp_path_factory.mktemp("of_page")
    network = GoogLeNet(
        variant=Architecture.from_json(tiny_variant.read_text()), input_shape=(28, 28, 3), classes=len(NAMES)
    )
    options = {"class_names": NAMES, "preprocessing": Preprocessing(28, 28, 3), "warmup_batch_sizes": ()}
    export_saved_model(network, directory / MODELS[0], **options)
    version = export_saved_model(network, directory / MODELS[1], cam=True, **options)
    shutil.copytree(version, version.with_name("2"))
    options["preprocessing"] = Preprocessing(28, 28, 3, crop_fraction=0.5, keep_aspect=True)
    export_saved_model(network, directory / MODELS[2], cam=True, **options)
    return directory


@pytest.fixture(scope="module")
def config(directory, tmp_path_factory):
    """All versions are served."""
    names = [name.replace('"', '\\"') for name in MODELS]
    path = tmp_path_factory.mktemp("config") / "models.config"
    served = "".join(
        f'config {{ name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow" '
        "model_version_policy { all {} } }\n"
        for name in names
    )
    path.write_text(f"model_config_list {{ {served} }}")
    return path


@pytest.fixture(scope="module")
def server(directory, config):
    with preview(directory, "--model-config-file", str(config), "--rest-api-enable-cors-support") as server:
        yield server


@pytest.fixture
def opened(browser):
    """A function that opens an address in a new window, whose errors fail the test."""
    contexts, errors = [], []

    def opened(url, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(MILLISECONDS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.on("dialog", lambda dialog: errors.append(f"dialog: {dialog.message}"))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A JPEG of 120 x 80 pixels."""
    path = tmp_path_factory.mktemp("images") / f"{HOSTILE.replace('/', '')}.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)
    path.write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())
    return path


def ready(page):
    page.wait_for_selector("#scope:not(:empty)")
    return page


def answered(page):
    """The classes and percentages that it shows, once they are there."""
    page.wait_for_selector("#classes li")
    return [tuple(row.split("\n")) for row in page.locator("#classes button").all_inner_texts()]


def with_map(page):
    page.select_option("#models", MODELS[1])
    page.wait_for_function(
        "name => document.getElementById('request').textContent.includes(name)", arg="%3Cb%3E"
    )
    return page


def test_the_answer_is_the_server_s(opened, server, image):
    page = ready(opened(server.rest))
    assert page.locator("#models option").all_inner_texts() == list(MODELS)
    for name in NAMES:
        assert name in page.inner_text("#scope")
    page.set_input_files("#file", image)
    rows = answered(page)
    from keras_googlenet.serving import Client

    with Client(server.rest, MODELS[0]) as client:
        (expected,) = client.predict([image])
    assert rows == [(name, f"{100 * share:.1f}%") for name, share in expected.top]
    assert page.inner_text("#answer") == f"{expected.label}, {100 * expected.probability:.1f}%"
    assert "ms" in page.inner_text("#latency")
    assert page.is_visible("#doubt")  # of an untrained network
    assert page.is_hidden("#overlay")  # the first model has no maps
    assert page.locator("#classes img, #scope img, #scope b").count() == 0
    assert image.name in page.inner_text("#about")
    assert "120 x 80" in page.inner_text("#about")


def test_maps_of_all_classes(opened, server, image):
    page = with_map(ready(opened(server.rest)))
    page.set_input_files("#file", image)
    page.wait_for_selector("#overlay:not([hidden])")
    rows = answered(page)
    drawn = "() => document.getElementById('map').toDataURL()"
    pictures = {page.evaluate(drawn)}
    assert page.inner_text("#mapped") == rows[0][0]
    for place in range(1, 5):
        page.locator("#classes button").nth(place).focus()
        page.keyboard.press("Enter")
        assert page.inner_text("#mapped") == rows[place][0]
        assert page.locator("#classes button").nth(place).get_attribute("aria-pressed") == "true"
        pictures.add(page.evaluate(drawn))
    assert len(pictures) == 5
    page.locator("#strength").focus()
    page.keyboard.press("Home")
    assert page.evaluate("() => document.getElementById('map').style.opacity") == "0"
    box, image_box = page.locator("#map").bounding_box(), page.locator("#image").bounding_box()
    assert box == image_box


def test_a_map_lies_on_what_the_network_saw(opened, server, tmp_path):
    """A phone's picture: 120 x 80 as it is stored, 80 x 120 upright, of which it sees the center."""
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    pixels = np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "phone.jpg", exif=exif)
    page = ready(opened(server.rest))
    page.select_option("#models", MODELS[2])
    page.wait_for_function("() => document.getElementById('request').textContent.includes('/crops:')")
    page.set_input_files("#file", tmp_path / "phone.jpg")
    page.wait_for_selector("#overlay:not([hidden])")
    assert "80 x 120" in page.inner_text("#about")
    box = page.evaluate("""() => {
        const canvas = document.getElementById("map");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const places = [...Array(data.length / 4).keys()].filter((place) => data[4 * place + 3]);
        const rows = places.map((place) => Math.floor(place / canvas.width) / canvas.height);
        const columns = places.map((place) => place % canvas.width / canvas.width);
        const least = (values) => values.reduce((a, b) => Math.min(a, b));
        const most = (values) => values.reduce((a, b) => Math.max(a, b));
        return [least(rows), least(columns), most(rows), most(columns)];
    }""")
    np.testing.assert_allclose(box, [1 / 3, 1 / 4, 2 / 3, 3 / 4], atol=0.01)  # of 84 x 56, the central 28


def test_versions(opened, server, image):
    page = with_map(ready(opened(server.rest)))
    assert page.locator("#versions option").all_inner_texts() == ["2", "1"]
    page.select_option("#versions", "1")
    page.wait_for_function("() => document.getElementById('request').textContent.includes('/versions/1:')")
    page.set_input_files("#file", image)
    answered(page)
    assert "version 1" in page.inner_text("#latency")


def test_history(opened, server, image, tmp_path):
    page = ready(opened(server.rest))
    other = tmp_path / "other.png"
    other.write_bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    page.set_input_files("#file", image)
    answered(page)
    first = page.inner_text("#answer")
    page.set_input_files("#file", other)
    page.wait_for_function("() => document.querySelectorAll('#history li').length === 2")
    assert "other.png" in page.inner_text("#about")
    page.locator("#history button").nth(1).click()
    assert image.name in page.inner_text("#about")
    assert page.inner_text("#answer") == first


@pytest.mark.parametrize("event", ["drop", "paste"])
@pytest.mark.parametrize("kind", ["image/png", "image/webp"])
def test_drop_and_paste(opened, server, event, kind):
    page = ready(opened(server.rest))
    page.evaluate(
        """async ([event, kind]) => {
            const canvas = new OffscreenCanvas(20, 10);
            canvas.getContext("2d").fillRect(0, 0, 9, 9);
            const moved = new DataTransfer();
            moved.items.add(new File([await canvas.convertToBlob({ type: kind })], "made", { type: kind }));
            const init = { bubbles: true, cancelable: true, dataTransfer: moved, clipboardData: moved };
            const Event = event === "drop" ? DragEvent : ClipboardEvent;
            document.body.dispatchEvent(new Event(event, init));
        }""",
        [event, kind],
    )
    assert len(answered(page)) == 5
    assert ("sent as PNG" in page.inner_text("#about")) == (kind == "image/webp")


def test_large_image_is_sent_smaller(opened, server, tmp_path):
    page = ready(opened(server.rest))
    path = tmp_path / "large.png"
    path.write_bytes(cv2.imencode(".png", np.zeros((4100, 4100), np.uint8))[1].tobytes())
    page.set_input_files("#file", path)
    assert len(answered(page)) == 5
    assert "sent as JPEG of 4000 x 4000" in page.inner_text("#about")


def test_mistakes_are_told(opened, server, tmp_path, image):
    page = ready(opened(server.rest))
    text = tmp_path / "notes.png"
    text.write_text("no image")
    page.set_input_files("#file", text)
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error") == "notes.png is not an image that this browser can read"
    page.set_input_files("#file", image)
    answered(page)
    assert page.is_hidden("#error")


def test_models_of_the_address(browser, server):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{server.rest}/?models=absent,plain")
    page.wait_for_selector("#error:not([hidden])")
    assert "absent" in page.inner_text("#error")
    page.select_option("#models", "plain")
    page.wait_for_selector("#scope:not(:empty)")
    assert page.is_hidden("#error")
    context.close()


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_the_requests_run(opened, server, image, tmp_path, language):
    program = {"curl": "curl", "Python": sys.executable, "JavaScript": "node"}[language]
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here")
    page = with_map(ready(opened(server.rest)))
    page.get_by_role("button", name=language, exact=True).click()
    text = page.inner_text("#request")
    (tmp_path / "image.jpg").write_bytes(image.read_bytes())
    words = {
        "curl": ["bash", "-c", text],
        "Python": [program, "-c", text],
        "JavaScript": [program, "--input-type=module", "-e", text],
    }[language]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    page.set_input_files("#file", image)
    best = answered(page)[0][0]
    assert best in ran.stdout.replace('\\"', '"')


def test_from_another_server(opened, server, image):
    """The same files on any web server, with CORS; without names of models, a field asks for one."""
    folder = page_files.FOLDER.parent
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        threading.Thread(target=files.serve_forever, daemon=True).start()
        page = opened(f"http://127.0.0.1:{files.server_port}/?server={server.rest}")
        page.wait_for_selector("#error:not([hidden])")
        assert "name of a model" in page.inner_text("#error")
        page.fill("#model", "plain")
        page.keyboard.press("Enter")
        ready(page).set_input_files("#file", image)
        assert len(answered(page)) == 5
        files.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    """The page at `/`, its files at `/page/`, as serving/nginx.conf has them."""

    def log_message(self, *_):
        pass

    def translate_path(self, path):
        return super().translate_path("/page/index.html" if path.split("?")[0] == "/" else path)


@pytest.mark.parametrize("width", [320, 390, 768])
def test_phone(opened, server, image, width):
    page = with_map(ready(opened(server.rest, viewport={"width": width, "height": 800}, has_touch=True)))
    page.set_input_files("#file", image)
    page.wait_for_selector("#overlay:not([hidden])")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_a_server_that_is_gone(browser, directory, image):
    context = browser.new_context()
    page = context.new_page()
    with preview(directory / MODELS[0]) as server:
        page.goto(server.rest)
        ready(page)
    page.set_input_files("#file", image)
    page.wait_for_selector("#error:not([hidden])")
    assert "is the server running?" in page.inner_text("#error")
    context.close()


def test_a_publish_while_the_page_is_open(opened, directory, image, tmp_path):
    """It follows the server to the new version, and the later of two images is answered."""
    model = tmp_path / "shoes"
    shutil.copytree(directory / MODELS[0], model)
    with preview(model) as server:
        page = ready(opened(server.rest))
        page.set_input_files("#file", image)
        page.wait_for_function("() => document.getElementById('latency').textContent.endsWith('version 1')")
        shutil.copytree(model / "1", model / "copy")
        (model / "copy").rename(model / "2")
        status = f"{server.rest}/v1/models/shoes/versions/1"
        while httpx.get(status).json()["model_version_status"][0]["state"] != "END":
            time.sleep(0.1)
        later = tmp_path / "later.jpg"
        shutil.copyfile(image, later)
        page.set_input_files("#file", image)
        page.set_input_files("#file", later)
        page.wait_for_function("() => document.getElementById('latency').textContent.endsWith('version 2')")
        page.wait_for_function("() => document.getElementById('about').textContent.includes('later.jpg')")
        assert page.is_hidden("#error")


def test_network_of_the_package(browser, image):
    """`serve` with no folder; the page that it names answers."""
    command = [sys.executable, "-m", "keras_googlenet", "serve", "--rest-port", "0", "--grpc-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = next(line for line in process.stdout if "page at" in line)
        url = line.split("page at ")[1].strip()
        assert '<input id="file" type="file"' in httpx.get(url).text
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        ready(page).set_input_files("#file", image)
        page.wait_for_selector("#overlay:not([hidden])")
        assert "airplane" in page.inner_text("#scope")
        context.close()
        process.terminate()
        assert process.wait(60) == 0
