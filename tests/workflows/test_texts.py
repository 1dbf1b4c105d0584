"""The words of the nodes in English and Chinese: complete, and served where ComfyUI's page looks for them."""

from __future__ import annotations

import json
import re
import sys

import pytest
from comfyui_server import ROOT

sys.path.insert(0, str(ROOT / "locales"))
from from_schemas import texts  # noqa: E402

CHINESE = re.compile("[一-鿿]")


@pytest.fixture(scope="module")
def schemas(server) -> dict:
    return server.get("/object_info")


def read(language: str) -> dict:
    return json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


def test_the_english_texts_are_those_of_the_schemas(schemas):
    assert read("en") == texts(schemas), "run `python locales/from_schemas.py http://127.0.0.1:8188`"


def test_the_chinese_texts_are_complete_and_chinese(schemas):
    """Names of files and of codecs stay as they are."""
    english, chinese = dict(leaves(texts(schemas))), dict(leaves(read("zh")))
    assert english.keys() == chinese.keys()
    assert [path for path, text in chinese.items() if not CHINESE.search(text) and text != "VAE"] == []
    assert [path for path, text in chinese.items() if path[-1] == "tooltip" and not text.endswith("。")] == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_text_has_a_sign_that_the_page_would_replace(language):
    """vue-i18n reads {name}, @:key and a | b."""
    assert [path for path, text in leaves(read(language)) if re.search(r"[{}@|]", text)] == []


def test_the_page_is_given_both(server):
    served = server.get("/api/i18n")
    for language in ("en", "zh"):
        assert {**served[language]["nodeDefs"], **read(language)} == served[language]["nodeDefs"]


def test_each_node_has_its_help_in_both_languages(server, schemas):
    for name in texts(schemas):
        inputs = [key for part in ("required", "optional") for key in schemas[name]["input"].get(part, {})]
        for page in (f"{name}.md", f"{name}/zh.md"):
            help_page = server.get(f"/extensions/ComfyUI-EMO/docs/{page}").decode()
            assert [key for key in inputs if f"`{key}`" not in help_page] == []
        assert help_page.startswith(f"# {read('zh')[name]['display_name']}\n")


def test_each_help_page_shows_a_picture_that_is_served(server, schemas):
    """The page looks for it from docs/, whatever the language."""
    shown = 0
    for name in texts(schemas):
        for page in (f"{name}.md", f"{name}/zh.md"):
            help_page = server.get(f"/extensions/ComfyUI-EMO/docs/{page}").decode()
            (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", help_page)
            data = server.get(f"/extensions/ComfyUI-EMO/docs/{picture}")
            assert data[:4] == b"RIFF" and data[8:12] == b"WEBP"
        shown += len(data)
    assert shown < 1_500_000  # bytes that everybody installs
