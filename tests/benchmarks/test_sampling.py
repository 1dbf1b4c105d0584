"""The benchmark of sampling runs on the CPU with one command."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("sampling_benchmark", ROOT / "benchmarks" / "sampling.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_one_command_measures_every_saving_against_a_named_baseline(benchmark, tmp_path, capsys):
    file = tmp_path / "table.json"
    command = "--preset test --repeat 1 --clips 1 --steps 2 --seconds 2 --device cpu --sections savings length"
    benchmark.main([*command.split(), "--json", str(file)])
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    lengths = ["2 times 1 s", "2 s", "first clip of 1 s", "first clip of 2 s"]
    assert [row["name"] for row in rows] == [*benchmark.SAVINGS, "+ own group norm", *lengths]
    assert all(row["seconds_per_frame"] > 0 for row in rows)
    savings = rows[: len(benchmark.SAVINGS) + 1]
    assert savings[0]["ratio"] == 1 and all(row["difference"] <= 1e-5 and row["tflop_per_frame"] > 0 for row in savings)
    assert savings[-1]["tflop_per_frame"] < savings[0]["tflop_per_frame"]  # conditions are projected once per clip
    told = capsys.readouterr().out
    assert all(row["name"] in told for row in rows)


def test_one_command_tells_the_bars_and_a_steps_share_of_the_machine(benchmark, tmp_path, capsys):
    file = tmp_path / "table.json"
    command = "--preset test --repeat 1 --clips 1 --steps 5 --device cpu --sections bars"
    benchmark.main([*command.split(), "--json", str(file)])
    rows = {row["name"]: row for row in json.loads(file.read_text(encoding="utf-8"))["rows"]}
    assert list(rows)[:2] == ["own settings, eager", "4 steps, no guidance, eager"]
    assert rows["own settings, eager"]["tflop_per_frame"] > rows["4 steps, no guidance, eager"]["tflop_per_frame"] > 0
    assert rows["a step, eager"]["share"] > 0
    assert "share" in capsys.readouterr().out


def test_a_model_without_a_decoder_is_timed_with_one_of_stable_diffusions_size(benchmark, monkeypatch):
    pytest.importorskip("diffusers")
    import torch

    decoder = benchmark.sd_decoder(benchmark.PRESETS["hallo"], torch.device("meta"), torch.float32)
    assert decoder.decode(torch.zeros(5, 4, 8, 8, device="meta")).shape == (5, 3, 64, 64)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert benchmark.sd_decoder(benchmark.PRESETS["hallo"], torch.device("meta"), torch.float32) is None


def test_the_figure_is_drawn_from_the_published_table(benchmark, tmp_path):
    pytest.importorskip("matplotlib")
    benchmark.main(["--json", str(ROOT / "docs" / "images" / "sampling.json"), "--draw", str(tmp_path / "figure.png")])
    assert (tmp_path / "figure.png").stat().st_size > 10_000
