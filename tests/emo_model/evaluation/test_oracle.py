"""Hallo's networks, guidance and sampler: our tensors against those recorded from its own code (float32, CPU)."""

from __future__ import annotations

import copy
import json
from math import inf

import pytest
import torch
from safetensors.torch import load_file, save_file

from emo_model.evaluation import oracle
from emo_model.evaluation.__main__ import main
from emo_model.evaluation.oracle import Difference, compare, seeded_weight


@pytest.fixture(scope="module")
def recorded(data):
    tensors = load_file(data / "hallo_tiny_oracle_io.safetensors")
    return tensors, json.loads((data / "hallo_tiny_oracle.json").read_text())


@pytest.fixture(scope="module")
def differences(recorded) -> dict[str, Difference]:
    return {difference.name: difference for difference in compare(*recorded)}


def test_every_recorded_tensor_is_compared(recorded, differences):
    assert set(differences) == {name for name in recorded[0] if name.startswith("out.")}
    assert len(differences) == 49
    assert all(difference.max_abs < inf for difference in differences.values())


@pytest.mark.parametrize(
    "name, count",
    [
        ("out.noise_pred", 1),
        ("out.ref_bank.", 16),
        ("out.face_tokens", 2),
        ("out.audio_tokens", 1),
        ("out.face_locator_out", 1),
        ("out.act.", 18),
        ("out.cfg.", 2),
        ("out.ddim4.step", 4),
    ],
)
def test_ours_is_hallos_to_1e_4(differences, name, count):
    found = [
        difference for key, difference in differences.items() if key.startswith(name) and not difference.must_differ
    ]
    assert len(found) == count
    assert max(difference.max_abs for difference in found) <= 1e-4


def test_timesteps_are_equal_and_the_noise_schedule_is_to_1e_6(differences):
    assert differences["out.ddim4.timesteps"].max_abs == differences["out.ddim40.timesteps"].max_abs == 0
    assert differences["out.ddim.alphas_cumprod"].max_abs <= 1e-6


def test_the_branch_that_hallo_does_not_run_fails_the_same_check(differences):
    control = differences["out.noise_pred_evalmode"]
    assert control.max_abs > 1 and control.must_differ and control.is_right
    assert not Difference("x", control.max_abs, control.tolerance).is_right


def test_without_the_mixed_tokens_guidance_is_hallos_no_more(recorded, monkeypatch):
    """Each half with its own tokens is offered; it is not what Hallo's code gives."""
    tensors, description = recorded
    monkeypatch.setattr(oracle, "mix_identity", lambda context: context)
    few = {
        name: value for name, value in tensors.items() if name.startswith("in.") or name == "out.cfg.noise_pred_pair"
    }
    (difference,) = compare(few, description)
    assert difference.max_abs > 0.1 and not difference.is_right


def other_heads(description: dict) -> dict:
    """The same nets with four heads in the UNet; the motion modules keep their eight."""
    changed = copy.deepcopy(description)
    changed["unet"]["attention_head_dim"] = 4
    assert changed["unet_additional_kwargs"]["motion_module_kwargs"]["num_attention_heads"] == 8
    return changed


def plain_attention(weights: dict[str, torch.Tensor], tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """Self-attention (N, F, C) as diffusers' of Hallo's motion modules computes it, head by head."""
    q, k, v = (tokens @ weights[f"to_{part}.weight"].T for part in "qkv")
    width = tokens.shape[-1] // heads
    parts = [slice(head * width, (head + 1) * width) for head in range(heads)]
    scores = [q[..., part] @ k[..., part].transpose(1, 2) / width**0.5 for part in parts]
    heard = torch.cat([score.softmax(-1) @ v[..., part] for score, part in zip(scores, parts, strict=True)], -1)
    return heard @ weights["to_out.0.weight"].T + weights["to_out.0.bias"]


def test_motion_modules_have_their_own_number_of_heads(recorded):
    """Four in the UNet, eight in the motion modules: each attention is compared with plain code of its number."""
    tensors, description = recorded
    emo = oracle.seeded_emo(oracle.config_of(other_heads(description)))
    seen: list[float] = []

    def hook(module, given, output) -> None:
        tokens = given[1] if isinstance(given[1], torch.Tensor) else given[0]  # motion frames and frames
        off = plain_attention(module.state_dict(), tokens, 8)[:, -output.shape[1] :] - output
        seen.append(off.abs().max().item())

    for name, module in emo.backbone.named_modules():
        if name.endswith(("attn1", "attn2")):
            is_temporal = ".motion_modules." in name
            assert module.heads == (8 if is_temporal else 4), name
            if is_temporal:
                module.register_forward_hook(hook)
    assert oracle._Ours(emo, tensors, other_heads(description)).made("out.noise_pred").isfinite().all()
    assert len(seen) == 2 * sum(
        ".motion_modules." in name and name.endswith("attn1") for name, _ in emo.named_modules()
    )
    assert max(seen) <= 1e-5


def test_the_number_of_heads_in_the_unet_alone_changes_what_it_should(recorded):
    """With the recording's weights, everything before the first attention stays, everything behind it does not."""
    tensors, description = recorded
    changed = {difference.name: difference.max_abs for difference in compare(tensors, other_heads(description))}
    same = {name for name, off in changed.items() if off <= 1e-4}
    assert {"out.act.conv_in", "out.act.time_embedding", "out.audio_tokens", "out.face_tokens"} <= same
    assert changed["out.noise_pred"] > 1e-3 and changed["out.act.down_block0"] > 1e-3


def test_other_weights_fail(recorded):
    tensors, description = recorded
    few = {name: value for name, value in tensors.items() if name.startswith("in.") or name == "out.face_tokens"}
    (difference,) = compare(few, description, salt="salt ")
    assert difference.max_abs > 0.1 and not difference.is_right


def test_a_tensor_without_counterpart_counts_as_wrong(recorded):
    tensors, description = recorded
    few = {name: value for name, value in tensors.items() if name.startswith("in.")} | {
        "out.unheard_of": torch.zeros(1)
    }
    assert [difference.max_abs for difference in compare(few, description)] == [inf]


def test_weights_are_a_function_of_salt_and_key():
    assert torch.equal(seeded_weight("a.weight", (2, 3)), seeded_weight("a.weight", (2, 3)))
    assert torch.equal(seeded_weight("b", (2, 3), salt="a"), seeded_weight("ab", (2, 3)))
    assert seeded_weight("x.norm1.weight", (10_000,)).mean() == pytest.approx(1, abs=0.01)
    assert seeded_weight("x.bias", (10_000,)).std() == pytest.approx(0.05, rel=0.03)
    assert seeded_weight("x.weight", (100, 25, 2, 2)).std() == pytest.approx(0.1, rel=0.03)


def test_the_command_prints_a_line_per_tensor_and_its_exit_status_is_1_if_one_differs(data, tmp_path, capsys):
    tensors = load_file(data / "hallo_tiny_oracle_io.safetensors")
    kept = ("timesteps", "alphas_cumprod")
    few = {name: value for name, value in tensors.items() if name.startswith("in.") or name.endswith(kept)}
    save_file(few, tmp_path / "io.safetensors")
    config = str(data / "hallo_tiny_oracle.json")
    assert main(["oracle", str(tmp_path / "io.safetensors"), config]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(line.startswith("out.ddim") and line.endswith("ok") for line in lines)
    save_file(few | {"out.ddim4.timesteps": few["out.ddim4.timesteps"] + 1}, tmp_path / "io.safetensors")
    assert main(["oracle", str(tmp_path / "io.safetensors"), config]) == 1
    assert "WRONG" in capsys.readouterr().out
