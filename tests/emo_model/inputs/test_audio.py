from __future__ import annotations

import math
import struct
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition

from emo_model.auxiliary.audio_encoder import AudioEncoder
from emo_model.config import AudioEncoderConfig
from emo_model.inputs.audio import (
    LayersInTime,
    SoundFile,
    as_waveform,
    encode_lazily,
    encode_long,
    features_per_frame,
    read_audio,
    resample,
)


def tone(rate: int, seconds: float, hertz: float = 440) -> torch.Tensor:
    return torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)[None]


def loudness(sound: torch.Tensor) -> torch.Tensor:
    """An encoder of one feature, the mean size of 320 samples."""
    return sound[:, : sound.shape[1] // 320 * 320].unflatten(1, (-1, 320)).abs().mean(-1)[:, :, None, None]


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000, 96000])
def test_a_tone_stays_the_same_tone_at_16_khz(rate):
    heard = resample(tone(rate, 2.0), rate)
    assert heard.shape == (32000,)
    torch.testing.assert_close(heard[400:-400], tone(16000, 2.0)[0, 400:-400], rtol=0, atol=3e-3)


def test_what_16_khz_cannot_hold_is_removed():
    assert resample(tone(48000, 1.0, hertz=12000), 48000)[400:-400].abs().max() < 0.01


def test_channels_are_averaged():
    left = tone(44100, 0.5)
    four = torch.cat([left, -left, left, left])
    torch.testing.assert_close(resample(four, 44100), 0.5 * resample(left, 44100), rtol=0, atol=1e-5)


def test_no_sound_gives_no_samples():
    assert resample(torch.zeros(2, 0), 44100).shape == (0,)


def test_a_wav_file_is_read_with_its_channels_and_rate(tmp_path):
    sound = (np.stack([tone(22050, 0.3)[0], 0.5 * tone(22050, 0.3)[0]]) * 20000).astype(np.int16)
    with wave.open(str(tmp_path / "two.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(22050)
        file.writeframes(sound.T.tobytes())
    waveform, rate = read_audio(tmp_path / "two.wav")
    assert rate == 22050
    torch.testing.assert_close(waveform, torch.from_numpy(sound) / 32768)


def write_flac(path: Path) -> None:
    """A second of a tone."""
    with av.open(str(path.absolute()), "w") as container:
        stream = container.add_stream("flac", rate=16000, layout="mono", format="s16")
        for block in (tone(16000, 1.0) * 20000).short().split(4096, dim=1):
            frame = av.AudioFrame.from_ndarray(block.numpy(), format="s16", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("size", [4, 30, 100])
def test_a_file_that_was_cut_short_is_named(tmp_path, size):
    write_flac(tmp_path / "a.flac")
    (tmp_path / "a.flac").write_bytes((tmp_path / "a.flac").read_bytes()[:size])
    with pytest.raises(ValueError, match="a.flac is not a sound file that PyAV can read, or is damaged"):
        SoundFile(tmp_path / "a.flac")


def test_a_file_whose_tags_are_in_an_encoding_of_old_is_read(tmp_path):
    with wave.open(str(tmp_path / "old.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(2000))
    artist = "Ärzte\0".encode("latin-1")
    tags = b"LIST" + struct.pack("<I", 12 + len(artist)) + b"INFOIART" + struct.pack("<I", len(artist)) + artist
    whole = (tmp_path / "old.wav").read_bytes() + tags
    (tmp_path / "old.wav").write_bytes(whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:])
    assert SoundFile(tmp_path / "old.wav").samples == 1000


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_file_with_samples_that_are_no_numbers_is_refused(tmp_path, value):
    sound = np.zeros(16_000, np.float32)
    sound[12_000] = value
    form = struct.pack("<HHIIHH", 3, 1, 16_000, 64_000, 4, 32)  # floats, mono
    body = (
        b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", sound.nbytes) + sound.tobytes()
    )
    (tmp_path / "broken.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    with pytest.raises(
        ValueError, match=r"broken.wav has NaN or infinite samples after 0\.\d\d s; export the file again"
    ):
        SoundFile(tmp_path / "broken.wav")


def test_a_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_flac(Path("take:2.flac"))
    assert SoundFile("take:2.flac").samples == 16000


def test_a_file_that_is_no_sound_is_named(tmp_path):
    (tmp_path / "notes.wav").write_text("nothing to hear")
    with pytest.raises(ValueError, match="notes.wav"):
        read_audio(tmp_path / "notes.wav")


def test_encoding_in_pieces_equals_encoding_the_whole():
    torch.manual_seed(0)
    encoder = AudioEncoder(AudioEncoderConfig(width=16, features=8, blocks=3)).eval()
    generator = torch.Generator().manual_seed(1)
    swell = torch.rand(61, generator=generator).repeat_interleave(16000)[:960123]
    swell[200_000:560_000] *= 0.01  # a pause as long as any that the level bridges, with the noise of a room
    sound = 0.1 * torch.randn(960123, generator=generator) * swell
    context = encoder.context_seconds
    with torch.no_grad():
        whole = encoder(sound[None])[0]
    pieces = encode_long(encoder, sound, chunk_seconds=3.0, context_seconds=context)
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-3)


def test_the_default_context_reaches_as_far_as_the_built_in_encoder():
    lengths = []

    def note(sound: torch.Tensor) -> torch.Tensor:
        lengths.append(sound.shape[1] / 16000)
        return loudness(sound)

    encode_long(note, torch.zeros(16000 * 150))
    context = (lengths[1] - 20.0) / 2
    assert context >= AudioEncoder(AudioEncoderConfig()).context_seconds


def test_an_hour_never_reaches_the_encoder_at_once():
    longest = []

    def short_only(sound: torch.Tensor) -> torch.Tensor:
        longest.append(sound.shape[1])
        return loudness(sound)

    assert encode_long(short_only, torch.zeros(1).expand(16000 * 3600)).shape == (180000, 1, 1)
    assert max(longest) <= 48 * 16000


@pytest.fixture
def recording(tmp_path) -> SoundFile:
    """Ninety seconds of noise that swells, stereo at 8 kHz."""
    draw = np.random.default_rng(2)
    swell = np.repeat(draw.random(90), 8000)[:, None]
    with wave.open(str(tmp_path / "swell.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((3000 * swell * draw.standard_normal((720_000, 2))).astype("<i2").tobytes())
    return SoundFile(tmp_path / "swell.wav")


@pytest.mark.parametrize("fps", [24.0, 25.0, 59.94])
def test_a_sound_that_is_heard_in_time_is_the_sound_that_was_heard_before(recording, fps):
    before = features_per_frame(encode_long(loudness, resample(recording)), fps=fps, seconds=90.0)
    in_time = encode_lazily(loudness, recording, fps=fps)
    assert len(in_time.frames) == len(before.frames) and in_time.frames.shape == before.frames.shape
    assert (in_time.seconds, in_time.fps) == (before.seconds, before.fps)
    last = len(before.frames)
    for numbers in (torch.tensor([[0, 0, 1], [0, 1, 2]]), torch.arange(20, 700), torch.arange(last - 30, last)):
        torch.testing.assert_close(in_time.frames[numbers], before.frames[numbers], rtol=0, atol=1e-6)
    assert before.frames.std() > 0.01


def test_the_first_clip_waits_for_no_more_than_the_first_piece(recording):
    lengths = []

    def note(sound: torch.Tensor) -> torch.Tensor:
        lengths.append(sound.shape[1] / 16000)
        return loudness(sound)

    frames = encode_lazily(note, recording, fps=25.0).frames
    assert lengths == [] and len(frames) == 2250  # frames are counted without hearing them
    frames[torch.arange(12)]
    assert lengths == [34.0]
    frames[torch.arange(500, 512)]
    assert len(lengths) == 2 and frames.layers.sound.shape[0] <= 49 * 16000  # what lies behind is forgotten


def test_a_sound_that_ends_before_it_should_is_silent_to_its_end():
    layers = LayersInTime(loudness, iter([torch.ones(8000)]), 16000)
    assert layers.until(50)[:, 0, 0].tolist() == [1.0] * 25 + [0.0] * 25


def test_even_the_shortest_sound_has_a_feature():
    assert encode_long(loudness, torch.ones(5)).shape == (1, 1, 1)


def test_a_tone_at_second_3_shows_in_frame_75():
    sound = torch.zeros(16000 * 5)
    sound[48000:48640] = 1  # 40 ms, one frame
    features = features_per_frame(encode_long(loudness, sound), fps=25, seconds=5.0)
    assert features.frames[:, 0, 0].nonzero().flatten().tolist() == [75]


@pytest.mark.parametrize(
    ("fps", "seconds", "frames"), [(25, 4.0, 100), (24, 1.0, 24), (29.97, 10.0, 300), (30, 0.01, 1), (60, 2.51, 151)]
)
def test_as_many_frames_as_the_seconds_hold(fps, seconds, frames):
    layers = torch.randn(max(1, int(seconds * 50)), 2, 3)
    assert features_per_frame(layers, fps=fps, seconds=seconds).frames.shape == (frames, 2, 3)


def test_frames_lie_on_the_straight_lines_between_features():
    layers = ((torch.arange(100) + 0.5) / 50)[:, None, None]  # each feature tells the time of its centre
    frames = features_per_frame(layers, fps=30, seconds=2.0).frames[:, 0, 0]
    torch.testing.assert_close(frames[1:-1], ((torch.arange(60) + 0.5) / 30)[1:-1])


def test_one_feature_serves_all_frames():
    assert (features_per_frame(torch.ones(1, 1, 2), fps=25, seconds=0.2).frames == 1).all()


# ---- as players play it ----------------------------------------------------------------------------------------------


def encoded(path: Path, *parts: torch.Tensor, codec: str, rate: int = 16000, begins: float = 0.0, **options) -> Path:
    """Parts (C, T) of one track, each followed by a second without time stamps, as a recorder's pause."""
    with av.open(str(path), "w", **options) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono" if len(parts[0]) == 1 else "stereo")
        place = round(begins * rate)
        for part in parts:
            for block in part.split(1024, dim=1):
                frame = av.AudioFrame.from_ndarray(
                    block.T.contiguous().view(1, -1).numpy(), format="flt", layout=stream.layout.name
                )
                frame.sample_rate, frame.pts, frame.time_base = rate, place, Fraction(1, rate)
                container.mux(stream.encode(frame))
                place += block.shape[1]
            place += rate
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("codec", "name"), [("libmp3lame", "a.mp3"), ("flac", "a.flac"), ("libvorbis", "a.ogg")])
def test_a_bad_packet_costs_its_own_time_and_a_word(tmp_path, caplog, codec, name):
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV was built without {codec}")
    path = encoded(tmp_path / name, 0.3 * tone(16000, 3.0), codec=codec)
    whole = SoundFile(path).samples
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = b"\xff" * 40 + bytes(260)
    path.write_bytes(data)
    caplog.clear()
    heard = SoundFile(path)
    sound = resample(heard)
    assert abs(heard.samples - whole) <= 0.15 * 16000 and ("damaged" in caplog.text or "silent" in caplog.text)
    quiet = (loudness(sound[None])[0, 5:-5, 0, 0] < 0.05).float().mean()
    assert quiet < 0.2, "more than a fifth is lost"


def test_the_pause_of_a_recorder_is_silence(tmp_path, caplog):
    path = encoded(tmp_path / "a.mkv", tone(16000, 1.0), tone(16000, 1.0), codec="flac")
    heard = loudness(resample(SoundFile(path))[None])[0, :, 0, 0]
    assert len(heard) == 150 and heard[:48].min() > 0.5 and heard[52:98].max() < 0.01 and heard[102:].min() > 0.5
    assert "1.00 s where the file has no sound are silent" in caplog.text


def test_a_late_beginning_is_silence(tmp_path):
    path = encoded(tmp_path / "a.mkv", tone(16000, 1.0), codec="flac", begins=0.5)
    heard = loudness(resample(SoundFile(path))[None])[0, :, 0, 0]
    assert len(heard) == 75 and heard[:23].max() < 0.01 and heard[27:].min() > 0.5


@pytest.mark.parametrize("samples", [16000, 16001, 17000, 1023])
def test_what_an_mp4_appends_does_not_count(tmp_path, samples):
    from emo_model.outputs.video import VideoWriter

    sound = tone(16000, 2.0)[:, :samples]
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32, audio=(sound, 16000)) as video:
        video.write(np.zeros((math.ceil(samples / 640), 32, 32, 3), np.uint8))
    assert SoundFile(tmp_path / "a.mp4").samples == samples


def test_the_track_that_is_marked_default_is_taken(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        for number in range(2):
            stream = container.add_stream("flac", rate=16000, layout="mono")
            stream.disposition = Disposition.default if number else Disposition(0)
        for number, hertz in enumerate((440, 880)):
            stream = container.streams.audio[number]
            frame = av.AudioFrame.from_ndarray(tone(16000, 1.0, hertz).numpy(), format="flt", layout="mono")
            frame.sample_rate, frame.pts = 16000, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    spectrum = torch.fft.rfft(resample(SoundFile(tmp_path / "a.mkv"))).abs()
    assert abs(spectrum.argmax().item() - 880) <= 2


def test_opposite_channels_are_heard():
    left = tone(48000, 1.0) * 0.5
    for right in (-left, -0.8 * left, -left + 0.01 * tone(48000, 1.0, 200)):
        heard = resample(torch.cat([left, right]), 48000)
        assert heard[400:-400].abs().max() > 0.4
    other = tone(48000, 1.0, 300)
    torch.testing.assert_close(
        resample(torch.cat([left, other]), 48000), resample((left + other) / 2, 48000), rtol=0, atol=1e-6
    )


def test_silence_stays_silent_where_the_voice_is_lopsided():
    """Synthetic voices are: their pauses are zeros, and would become a constant tone of -0.01."""
    voice = 0.1 * torch.randn(1, 32000, generator=torch.Generator().manual_seed(0)) + 0.02
    voice[:, 12000:24000] = 0
    for offset in (0.0, 0.05):
        assert resample(voice + offset, 16000)[13000:23000].abs().max() < 1e-6


def test_a_constant_offset_is_not_heard():
    voice = tone(16000, 1.0) * 0.3
    for offset in (1e-5, -3e-4, 8e-4, 0.05, -0.4):
        torch.testing.assert_close(resample(voice + offset, 16000), resample(voice, 16000), rtol=0, atol=2e-7)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.uint8, torch.int64, torch.float64])
def test_samples_of_any_type_are_scaled(dtype):
    voice = tone(16000, 0.5) * 0.5
    factor, middle = {
        torch.int16: (2**15, 0),
        torch.int32: (2**31, 0),
        torch.uint8: (2**7, 128),
        torch.int64: (2**15, 0),
        torch.float64: (2**15, 0),  # of 16-bit size
    }[dtype]
    given = (voice.double() * factor + middle).to(dtype)
    torch.testing.assert_close(as_waveform(given), voice, rtol=0, atol=1.01 / 2**7 if dtype == torch.uint8 else 1e-4)
    torch.testing.assert_close(resample(given, 16000), resample(as_waveform(given), 16000))


def test_float_files_of_sixteen_bit_size_are_scaled(tmp_path, caplog):
    path = encoded(tmp_path / "a.wav", tone(16000, 0.5) * 20000, codec="pcm_f32le")
    assert abs(resample(SoundFile(path)).abs().max() - 20000 / 2**15) < 1e-3 and "16-bit size are scaled" in caplog.text
    loud = encoded(tmp_path / "b.wav", tone(16000, 0.5) * 3, codec="pcm_f32le")  # louder than full scale: kept
    assert abs(resample(SoundFile(loud)).abs().max() - 3) < 1e-3
