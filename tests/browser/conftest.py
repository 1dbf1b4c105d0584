"""ComfyUI's page in headless Chromium, on a server of its own."""

from __future__ import annotations

import wave

import pytest
from comfyui_page import CHROMIUM, FLAGS, READY
from comfyui_server import ROOT, ComfyServer, comfyui_or_skip

INPUTS = ROOT / "workflows" / "inputs"
HALLOS = (
    "emo/net.pth",
    "vae/vae-ft-mse-840000-ema-pruned.safetensors",
    "audio_encoders/wav2vec2-base-960h.safetensors",
)
"""Files of Hallo's template, in ComfyUI's folder of models."""


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A tiny model in models/emo. In the input folder, under the names of the pack's own files: a small portrait and
    one second of the voice."""
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
    with Image.open(INPUTS / "emo_portrait.jpg") as picture:
        picture.resize((236, 236)).save(base / "input" / "emo_portrait.jpg")
    voice = base / "input" / "emo_voice.wav"
    with wave.open(str(INPUTS / "emo_voice.wav")) as source, wave.open(str(voice), "wb") as target:
        target.setparams(source.getparams())
        target.writeframes(source.readframes(int(1.2 * source.getframerate())))
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
        return page

    return open_it
