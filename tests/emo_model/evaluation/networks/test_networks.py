import pytest
import torch
from safetensors.torch import save_file

from emo_model.evaluation.networks.lpips import Lpips, load_lpips
from emo_model.evaluation.networks.scripted import Scripted
from emo_model.evaluation.networks.syncnet import SyncNet, load_syncnet, mfcc, square


def test_syncnet_reads_its_published_layout_and_refuses_another(tmp_path):
    torch.manual_seed(0)
    network = SyncNet().eval()
    save_file(network.state_dict(), tmp_path / "syncnet.safetensors")
    torch.save(network.state_dict(), tmp_path / "syncnet_v2.model")
    sound = torch.randn(1, 1, 13, 20)
    for name in ("syncnet.safetensors", "syncnet_v2.model"):
        assert torch.equal(load_syncnet(tmp_path / name).voice(sound), network.voice(sound))
    save_file({"other": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"is not SyncNet's syncnet_v2.model"):
        load_syncnet(tmp_path / "other.safetensors")


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"netcnnaud.0.weight": Trap()}, tmp_path / "trap.model")
    with pytest.raises(ValueError, match="could run code"):
        load_syncnet(tmp_path / "trap.model")
    with pytest.raises(ValueError, match="not a TorchScript archive"):
        Scripted(tmp_path / "trap.model")
    assert not (tmp_path / "ran").exists()


def test_mfcc_of_a_tone_are_those_of_python_speech_features():
    """Recorded from python_speech_features 0.6: 0.05 s of 440 Hz at half of full scale, 16 bit, the second step."""
    tone = (0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(800) / 16000)).mul(32768).round() / 32768
    known = [
        20.4996,
        27.0914,
        10.2254,
        -7.1749,
        -21.7497,
        -29.1514,
        -25.8372,
        -15.1159,
        -0.1128,
        12.5666,
        20.0112,
        19.1051,
        12.212,
    ]
    found = mfcc(tone)
    assert found.shape == (13, 4)
    torch.testing.assert_close(found[:, 1], torch.tensor(known), rtol=1e-4, atol=1e-3)


def test_the_square_of_syncnet_has_the_pipelines_margins():
    mesh = torch.tensor([[100.0, 200, 0], [200, 300, 0]])
    assert square(mesh) == pytest.approx((150 - 70, 200, 140))


def test_lpips_of_identical_pictures_is_0_and_grows_with_the_difference(tmp_path):
    torch.manual_seed(0)
    network = Lpips()
    weights = {
        f"features.{k}.{part}": getattr(conv, part).data
        for k, conv in network.convs.items()
        for part in ("weight", "bias")
    }
    heads = {f"lin{k}.model.1.weight": torch.rand(head.shape) for k, head in enumerate(network.heads)}
    save_file(weights, tmp_path / "alexnet.safetensors")
    save_file(heads, tmp_path / "alex.safetensors")
    network = load_lpips(tmp_path / "alexnet.safetensors", tmp_path / "alex.safetensors")
    picture, noise = torch.rand(1, 3, 64, 64) * 2 - 1, torch.randn(1, 3, 64, 64)
    near, far = (network(picture, (picture + share * noise).clamp(-1, 1)).item() for share in (0.05, 0.5))
    assert network(picture, picture).item() == 0 and 0 < near < far
    with pytest.raises(ValueError, match="has no features.0.weight"):
        load_lpips(tmp_path / "alex.safetensors", tmp_path / "alex.safetensors")


class _Mean(torch.nn.Module):
    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return x.float().mean((2, 3)) if return_features else x.float().mean((1, 2, 3))


def test_a_scripted_network_gets_the_options_that_it_has(tmp_path):
    torch.jit.script(_Mean()).save(str(tmp_path / "mean.pt"))
    network = Scripted(tmp_path / "mean.pt", return_features=True, rescale=True)
    assert network(torch.ones(2, 3, 4, 4)).tolist() == [[1.0] * 3] * 2
    with pytest.raises(ValueError, match=r"must give \(B, D\)"):
        Scripted(tmp_path / "mean.pt")(torch.ones(2, 3, 4, 4))
