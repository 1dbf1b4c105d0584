"""Hallo's networks, guidance and sampler: our tensors against those recorded from its own code (float32, CPU)."""

from __future__ import annotations

import copy
import json
from math import inf

import plain_hallo
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


def test_the_written_out_nets_are_hallos(recorded):
    """So that they can be the reference where nothing was recorded."""
    tensors, description = recorded
    made = plain_hallo.outputs(description, tensors)
    assert len(made) == 19 and "out.noise_pred" in made
    for name, value in made.items():
        torch.testing.assert_close(value, tensors[name], rtol=0, atol=1e-4, msg=name)


@pytest.fixture(scope="module")
def unequal(recorded, data) -> tuple[dict, dict]:
    """The oracle with four heads in the UNet and eight in the motion modules, with the inputs of the recorded one."""
    made = load_file(data / "hallo_heads_oracle_io.safetensors")
    description = json.loads((data / "hallo_heads_oracle.json").read_text())
    assert description["unet"] == other_heads(recorded[1])["unet"] and len(made) == 7
    return {name: value for name, value in recorded[0].items() if name.startswith("in.")} | made, description


def test_the_oracle_with_unequal_heads_is_what_the_written_out_nets_make(unequal):
    tensors, description = unequal
    made = plain_hallo.outputs(description, tensors)
    for name, value in tensors.items():
        if name.startswith("out."):
            torch.testing.assert_close(value, made[name], rtol=0, atol=1e-5, msg=name)


def test_motion_modules_have_their_own_number_of_heads(unequal):
    """Four in the UNet, eight in the motion modules."""
    differences = list(compare(*unequal))
    assert len(differences) == 7 and all(difference.is_right for difference in differences), differences


def test_as_many_heads_in_the_motion_modules_as_in_the_unet_fail_the_same_check(unequal):
    tensors, description = unequal
    few = {name: value for name, value in tensors.items() if name.startswith("in.") or name == "out.noise_pred"}
    (difference,) = compare(few, plain_hallo.with_heads(description, unet=4, motion=4))
    assert difference.max_abs > 1e-2 and not difference.is_right


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
