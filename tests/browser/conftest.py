"""ComfyUI's page in headless Chromium, on a server of its own."""

from __future__ import annotations

import json

import pytest
from comfyui_page import CHROMIUM, FLAGS, PROBLEMS, READY, STATE
from comfyui_server import ROOT, ComfyServer, comfyui_or_skip
from videos import shorten, shorten_sound

INPUTS = ROOT / "workflows" / "inputs"
HALLOS = (
    "emo/net.pth",
    "vae/vae-ft-mse-840000-ema-pruned.safetensors",
    "audio_encoders/wav2vec2-base-960h.safetensors",
)
"""Files of Hallo's template, in ComfyUI's folder of models."""


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A tiny model in models/emo. In the input folder, under the names of the pack's own files: small pictures, and the
    beginning of the voices and of the video."""
    comfyui = comfyui_or_skip()
    if CHROMIUM is None:
        pytest.skip("no Chromium: install it, or name its program in CHROMIUM")
    import torch
    from PIL import Image

    from emo_model.checkpoints import native
    from emo_model.config import PRESETS

    base = tmp_path_factory.mktemp("page")
    torch.manual_seed(0)
    native.save(base / "models" / "emo" / "tiny.safetensors", native.build(PRESETS["test"]))
    for name in HALLOS:  # empty: that they are there is all that the page asks
        (base / "models" / name).parent.mkdir(parents=True, exist_ok=True)
        (base / "models" / name).touch()
    (base / "input").mkdir()
    for path in INPUTS.iterdir():
        small = base / "input" / path.name
        if path.suffix in (".jpg", ".png"):
            with Image.open(path) as picture:
                picture.thumbnail((480, 236))
                picture.save(small)
        elif path.suffix == ".wav":
            shorten_sound(path, small, seconds=1.2 if path.stem == "emo_voice" else 0.6)
        elif path.suffix == ".mp4":
            shorten(path, small, seconds=0.6)
    with ComfyServer(comfyui, base, with_api_nodes=True) as running:
        running.post("/api/settings/Comfy.TutorialCompleted", True)
        yield running


@pytest.fixture(scope="session")
def browser(server):
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: `pip install playwright`")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def open_page(server, browser):
    """open_page(): the page, loaded anew; nothing leaves this machine."""

    def open_it(*, is_2_0: bool = False):
        server.post("/api/settings/Comfy.VueNodes.Enabled", is_2_0)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(300_000)
        page.route(lambda url: not url.startswith((server.url, "data:", "blob:")), lambda route: route.abort())
        page.goto(server.url, wait_until="domcontentloaded")
        page.wait_for_function(READY)
        page.wait_for_timeout(1000)
        page.is_2_0 = is_2_0
        return page

    return open_it


@pytest.fixture(scope="module", params=["classic", "Nodes 2.0"])
def page(request, open_page):
    """The classic page, then Nodes 2.0."""
    is_2_0 = request.param == "Nodes 2.0"
    opened = open_page(is_2_0=is_2_0)
    version = opened.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__")
    if is_2_0 and [int(part) for part in version.split(".")[:2]] < [1, 33]:
        opened.close()
        pytest.skip(f"Nodes 2.0 were an experiment in frontend {version}")
    yield opened
    opened.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test tells what the page showed and knew, and the end of the server's log."""
    report = yield
    page = item.funcargs.get("page")
    if report.when == "call" and report.failed and page and not page.is_closed():
        running = item._request.getfixturevalue("server")
        shown = running.base / f"failed_{item.name.replace('/', '_')}.png"
        page.screenshot(path=str(shown))
        report.sections.append(("what the page showed", f"{shown}\n{page.evaluate(PROBLEMS)}"))
        report.sections.append(("what the page knew", json.dumps(page.evaluate(STATE), indent=1)))
        report.sections.append(("end of the server's log", running.log[-4000:]))
    return report
