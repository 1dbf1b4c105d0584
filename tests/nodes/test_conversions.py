"""ComfyUI's values to the library's and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def conversions(pack):
    return pack["nodes.conversions"]


@pytest.fixture(scope="module")
def types(pack):
    return pack["emo_model.types"]


@pytest.fixture
def tall(types):
    """A picture of 100x200 pixels of which the square at (0, 50) was taken, at 32x32."""
    return types.Fit(width=100, height=200, left=0, top=50, side=100, size=32)


def picture(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_a_picture_comes_back_as_it_was(conversions):
    image = picture(1, 5, 7, 3)
    pixels = conversions.one_picture(image)
    assert pixels.shape == (1, 3, 5, 7) and pixels.min() < 0
    torch.testing.assert_close(conversions.images(pixels), image)


def test_transparency_becomes_white_and_grey_becomes_colour(conversions):
    image = picture(1, 4, 4, 4)
    image[..., 3] = 1
    assert torch.equal(conversions.one_picture(image), conversions.one_picture(image[..., :3]))
    assert torch.equal(conversions.one_picture(image[..., :1])[:, 2], conversions.one_picture(image)[:, 0])
    image[:, :, 2:, 3] = 0
    assert (conversions.one_picture(image)[..., 2:] == 1).all()


def test_recordings_of_other_packs_are_understood(conversions):
    import numpy as np

    wave = torch.rand(2, 400)
    for given in (wave[None], wave, wave.numpy(), (wave * 2**15).to(torch.int16)):
        heard, rate = conversions.one_sound({"waveform": given, "sample_rate": 8000})
        torch.testing.assert_close(heard, wave, rtol=0, atol=1e-4)
        assert rate == 8000 and heard.dtype == torch.float32
    assert conversions.one_sound({"waveform": np.zeros(5), "sample_rate": 8000})[0].shape == (1, 5)
    for bad, said in (
        ({"samples": wave}, "carries dict without 'waveform'"),
        (wave, "carries Tensor without"),
        ({"waveform": wave.T[None].repeat(1, 3, 1), "sample_rate": 8000}, "its axes are exchanged"),
        ({"waveform": wave[None, None], "sample_rate": 8000}, "has 4 axes"),
    ):
        with pytest.raises(ValueError, match=said):
            conversions.one_sound(bad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_are_refused_by_the_name_of_their_input(conversions, types, bad):
    image, latent = picture(1, 4, 4, 3), picture(2, 4, 4, 4)
    image[0, 1, 2, 0] = latent[1, 0, 0, 0] = bad
    with pytest.raises(ValueError, match="1 values of 'image' are NaN or infinite"):
        conversions.one_picture(image)
    with pytest.raises(ValueError, match="1 values of 'images' are NaN or infinite"):
        conversions.frame_bytes(image)
    with pytest.raises(ValueError, match="'lips' has NaN or infinite values"):
        conversions.fitted_mask(image[..., 0], types.Fit(4, 4, 0, 0, 4, 4), name="lips")
    with pytest.raises(ValueError, match="1 values of 'latent' are NaN or infinite"):
        conversions.frames_to_write(None, {"samples": latent}, object(), None, block=16)


def test_pictures_in_whole_numbers_are_scaled_and_those_up_to_255_refused(conversions):
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    assert (conversions.frame_bytes(levels) == levels.numpy()).all()
    with pytest.raises(ValueError, match="'image' has values from 0 to 255, but ComfyUI's pictures go from 0 to 1"):
        conversions.one_picture(levels.float())


def test_two_portraits_are_refused(conversions):
    with pytest.raises(ValueError, match="contains 2 pictures.*'ImageFromBatch'"):
        conversions.one_picture(picture(2, 4, 4, 3))


def test_frames_become_bytes_without_losing_a_level(conversions):
    levels = torch.arange(256).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    assert (conversions.frame_bytes(levels / 255) == levels.numpy()).all()


def test_latents_come_back_as_they_were_and_lie_unscaled_in_between(conversions, pack):
    config = pack["emo_model.config"].ModelConfig(latent_scale=0.25)
    clips = list(picture(1, 4, 7, 3, 2).split([4, 3], dim=2))
    latent = conversions.latent_of(clips, config)["samples"]
    assert latent.shape == (7, 4, 3, 2)
    torch.testing.assert_close(latent[5] * 0.25, clips[1][0, :, 1])
    torch.testing.assert_close(
        pack["emo_model.inputs.vae"].to_scaled(latent, config), torch.cat(clips, 2)[0].transpose(0, 1)
    )


def test_a_mask_of_the_original_picture_is_cut_as_the_portrait_was(conversions, tall):
    mask = torch.zeros(1, 200, 100)
    mask[:, 50:100] = 1  # the upper half of the square
    fitted = conversions.fitted_mask(mask, tall).mask
    assert fitted.shape == (1, 1, 32, 32)
    assert fitted[..., :15, :].min() > 0.95 and fitted[..., 17:, :].max() < 0.05


def test_frames_of_a_whole_picture_are_cut_where_its_portrait_was(conversions, pack, tall):
    config = pack["emo_model.config"].ModelConfig(image_size=32)
    frames = torch.zeros(3, 202, 102, 3)  # of a file, which may have a row and a column more
    frames[1:, 50:100, :100] = 1  # the upper half of the square
    cut = conversions.fitted_frames(frames[1:], config, 2, tall)
    assert cut.shape == (2, 32, 32, 3) and cut[:, :15].min() > 0.95 and cut[:, 17:].max() < 0.05
    assert not torch.allclose(conversions.fitted_frames(frames[1:], config, 2), cut, atol=0.1)


def test_a_mask_at_another_scale_means_the_same(conversions, tall):
    small = torch.zeros(100, 50)
    small[25:50] = 1
    large = small.repeat_interleave(2, 0).repeat_interleave(2, 1)
    fitted = [conversions.fitted_mask(mask, tall).mask for mask in (small, large)]
    torch.testing.assert_close(*fitted, atol=0.3, rtol=0)  # their edges differ by half a pixel of the small one


def test_a_mask_of_the_fitted_picture_stays_as_it_is(conversions, tall):
    mask = (picture(1, 32, 32) > 0.5).float()
    assert torch.equal(conversions.fitted_mask(mask, tall).mask[0], mask)


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (None, "needs a mask"),
        (torch.zeros(1, 64, 64), "'Load Image' outputs this mask"),
        (torch.zeros(1, 200, 100), "100x200.* is empty.*MaskEditor"),
        (torch.ones(1, 100, 200), "200x100, but the portrait is 100x200"),
        (torch.ones(3, 200, 100), "3 masks"),
    ],
)
def test_a_mask_that_cannot_be_meant_is_refused(conversions, tall, mask, says):
    with pytest.raises(ValueError, match=says):
        conversions.fitted_mask(mask, tall)


def test_a_mask_outside_of_the_cut_is_refused(conversions, tall):
    mask = torch.zeros(1, 200, 100)
    mask[:, 170:] = 1
    with pytest.raises(ValueError, match="pad"):
        conversions.fitted_mask(mask, tall)


@pytest.mark.parametrize(
    "wrap",
    [lambda box: box, lambda box: [[box]], lambda box: [[{**box, "width": 3}, box], []]],
    ids=["one", "of a picture", "several"],
)
def test_a_box_of_the_original_becomes_fractions_of_the_cut(conversions, tall, wrap):
    box = {"x": 25.0, "y": 75, "width": 50, "height": 100, "label": "face"}  # from 25 to 125 of 100 rows of the cut
    assert conversions.box_of_original(wrap(box), tall) == (0.25, 0.25, 0.75, 1.0)


@pytest.mark.parametrize(
    ("box", "says"),
    [([[]], "the detector found no face"), ({"x": 0, "y": 0, "width": 9, "height": 9}, "is outside.*'pad'")],
)
def test_a_box_that_cannot_be_meant_is_refused(conversions, tall, box, says):
    with pytest.raises(ValueError, match=says):
        conversions.box_of_original(box, tall)


def test_a_sound_keeps_its_channels_and_rate(conversions):
    waveform, rate = conversions.one_sound({"waveform": picture(1, 2, 50), "sample_rate": 44100})
    assert waveform.shape == (2, 50) and rate == 44100


@pytest.mark.parametrize(
    ("shape", "says"), [((2, 1, 50), "'mix' contains 2 recordings"), ((1, 1, 0), "'mix' is empty")]
)
def test_a_sound_that_cannot_be_meant_is_refused(conversions, shape, says):
    with pytest.raises(ValueError, match=says):
        conversions.one_sound({"waveform": torch.zeros(shape), "sample_rate": 16000}, name="mix")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_sound_with_samples_that_are_no_numbers_is_refused(conversions, value):
    waveform = torch.zeros(1, 2, 50)
    waveform[0, 1, 7:10] = value
    with pytest.raises(ValueError, match="3 samples of 'audio' are NaN or infinite"):
        conversions.one_sound({"waveform": waveform, "sample_rate": 16000})


def test_a_loud_sound_is_no_broken_one(conversions):
    conversions.one_sound({"waveform": torch.full((1, 2, 50), 3e38), "sample_rate": 16000})  # their sum is infinite


@pytest.mark.parametrize("fps", [0.0, -25.0, 0.5, 1e9, float("nan")])
def test_a_frame_rate_past_the_widgets_limits_is_refused(pack, conversions, fps):
    """ComfyUI checks limits of widgets only, not of what comes over a wire, and NaN passes both."""
    with pytest.raises(ValueError, match="'fps' is .*1 to 120 frames per second"):
        pack.run("EmoAudioEncoder", audio_encoder=None, fps=fps)
    with pytest.raises(ValueError, match="'fps' is .*1 to 120 frames per second"):
        pack.run("EmoVideoCombine", fps=fps, quality=17, filename_prefix="x", images=torch.zeros(1, 8, 8, 3))


def test_a_speed_curve_is_read_from_knots_in_any_order(conversions):
    speed = conversions.speed_curve("2.5: 30\n0: 5,", level=1.0)
    assert (speed.seconds, speed.degrees_per_second) == ((0.0, 2.5), (5.0, 30.0))


@pytest.mark.parametrize("level", [-3.0, float("nan"), float("inf")])
def test_a_level_that_is_no_speed_is_refused(conversions, level):
    with pytest.raises(ValueError, match="'speed' is .*0 or more degrees per second"):
        conversions.speed_curve("", level=level)


def test_without_a_curve_the_level_holds(conversions):
    assert conversions.speed_curve(" \n", level=7.0).degrees_per_second == (7.0,)


@pytest.mark.parametrize("text", ["5", "0: fast", "1:2:3"])
def test_a_curve_that_cannot_be_read_is_refused(conversions, text):
    with pytest.raises(ValueError, match=f"Write 'seconds: degrees per second'.*'{text}' cannot be parsed"):
        conversions.speed_curve(text, level=1.0)


@pytest.mark.parametrize("text", ["0: -1", "1: 2, 1: 3", "0: inf"])
def test_a_curve_of_impossible_speeds_or_times_is_refused(conversions, text):
    with pytest.raises(ValueError, match=f"Write speeds of 0 or more at times that differ.*'{text}' has a negative"):
        conversions.speed_curve(text, level=1.0)


@pytest.mark.parametrize(
    ("prefix", "playable"),
    [
        ("video/EMO", "video/EMO"),
        ("png/photo.png", "png/photo"),
        ("my_png_talk", "my_p_ng_talk"),
        ("a.webp", "a"),
        (".png", "EMO"),
    ],
)
def test_a_file_name_that_old_pages_take_for_a_still_is_changed(conversions, prefix, playable):
    assert conversions.playable_prefix(prefix) == playable


def test_exactly_one_source_of_frames_is_asked_for(conversions):
    latent, vae, pictures = {"samples": torch.zeros(2, 4, 8, 8)}, object(), torch.zeros(2, 8, 8, 3)
    count, blocks = conversions.frames_to_write(None, latent, vae, None, block=1)
    assert count == 2 and [len(block) for block in blocks] == [1, 1]
    assert conversions.frames_to_write(None, None, None, pictures, block=16)[0] == 2
    video_model = {"samples": torch.zeros(1, 4, 2, 8, 8)}
    for wrong, says in [
        ((None, None, None, None), "Nothing to write: connect one of 'clips', 'latent', 'images'"),
        ((None, latent, vae, pictures), "'latent' and 'images' are connected, but only one"),
        ((None, latent, None, None), "'latent' must be decoded: connect 'reference'"),
        ((object(), None, None, None), "'clips' must be decoded"),
        ((None, video_model, vae, None), "5 axes"),
        ((None, None, None, pictures[:0]), "no frames"),
    ]:
        with pytest.raises(ValueError, match=says):
            conversions.frames_to_write(*wrong, block=16)


def test_frames_of_a_portrait_are_brought_to_its_picture_from_any_size_and_from_the_head_alone(conversions, types):
    fit = types.Fit(width=60, height=40, left=10, top=5, side=30, size=16)
    whole = picture(1, 40, 60, 3)
    pixels = whole.movedim(-1, 1) * 2 - 1

    def brought(frames):
        return conversions.whole_frames(frames, 1, pixels, fit)

    assert torch.equal(brought(whole), whole)
    smooth = torch.linspace(0, 1, 60).view(1, 1, 60, 1).expand(1, 40, 60, 3)
    large = torch.nn.functional.interpolate(smooth.movedim(-1, 1), scale_factor=2, mode="bilinear").movedim(1, -1)
    torch.testing.assert_close(brought(large), smooth, atol=0.02, rtol=0)
    head = torch.ones(1, 30, 30, 3)
    pasted = brought(head)
    assert pasted[0, 20, 25].min() == 1 and (pasted - whole)[0, :4].abs().max() < 0.01
    with pytest.raises(ValueError, match="90x20 pixels, the portrait's picture 60x40"):
        brought(torch.zeros(1, 20, 90, 3))
    with pytest.raises(ValueError, match="has 1 frames, and 2 are needed"):
        conversions.whole_frames(whole, 2, pixels, fit)


def test_the_head_alone_has_even_sides_and_goes_on_as_the_mirror_image_of_the_picture(conversions, types):
    fit = types.Fit(width=6, height=4, left=-2, top=1, side=5, size=16)
    frames = np.arange(24, dtype=np.uint8).reshape(1, 4, 6, 1).repeat(3, 3)
    head = conversions.head_only(frames, fit)[0, :, :, 0]
    assert (
        head.shape == (6, 6)
        and head[0].tolist() == [7, 6, 6, 7, 8, 9]
        and head[:, 0].tolist() == [7, 13, 19, 19, 13, 7]
    )


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (16_000, None),
        (16_000 + 640, None),
        (24_000, "1.50 s and the frames 1.00 s: the sound is trimmed"),
        (8_000, "0.50 s and the frames 1.00 s: the rest is silent"),
    ],
)
def test_sound_and_frames_of_another_length_are_told(conversions, samples, says):
    said = conversions.length_mismatch((torch.zeros(1, samples), 16_000), 25, 25.0)
    assert said is None if says is None else says in said
    assert conversions.length_mismatch(None, 25, 25.0) is None


@pytest.mark.parametrize("size", [32, 48])
def test_frames_become_the_models_square_and_too_few_are_refused(conversions, pack, size):
    config = pack["emo_model.config"].PRESETS["test"]
    assert conversions.fitted_frames(torch.rand(2, size, size + 8, 4), config, 2).shape == (2, 64, 64, 3)
    with pytest.raises(ValueError, match="has 2 frames, and 3 are needed"):
        conversions.fitted_frames(torch.rand(2, size, size, 3), config, 3)
