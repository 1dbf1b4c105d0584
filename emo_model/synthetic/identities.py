"""Drawn people: everything of a person follows from its own integer seed, whatever batch it is drawn in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .dice import Dice
from .palettes import BACKDROPS, CLOTHES, DYES, HAIR_SHAPES, HAIRS, IRISES, SKINS, mixed, pick

STYLES = ("painted", "flat", "ink", "anime", "painterly")
"""`Identities.style` counts in this order: shaded 3-D look, flat cartoon, ink outlines, large-eyed cel shading, brush
strokes."""

HAIR = ("bald", "buzz", "short", "quiff", "fringe", "spiky", "bob", "long", "wavy", "curly", "bun", "crown")
"""`Identities.hair_style`; "crown" is a ring of hair around a bald top."""

HATS = ("none", "beanie", "cap", "band", "scarf")
"""`Identities.hat`; "scarf" is a head scarf that hides hair and neck."""

COLLARS = ("crew", "v", "shirt", "turtleneck", "hood")
BACKGROUNDS = ("gradient", "glow", "stripes", "bokeh", "room")


@dataclass(frozen=True, eq=False)
class Identities:
    """B people. Colours are (B, 3) in 0..1, whole numbers (B,) int64, the rest (B,) float32.

    Lengths are in head units: 1 is half the height from crown to chin of a bald head. `ids[index]` selects people.
    """

    seed: Tensor
    style: Tensor  # of STYLES
    femininity: Tensor
    age: Tensor  # 0 child .. 1 old
    # framing, in half pictures
    head_size: Tensor
    head_x: Tensor
    head_y: Tensor
    # look
    light: Tensor  # (B, 3) direction to the light
    shade_depth: Tensor  # how dark the shadow is
    shade_soft: Tensor  # width of the terminator: ~1 painted, ~0 cel
    shade_edge: Tensor
    ink_width: Tensor
    ink: Tensor  # (B, 3)
    strokes: Tensor  # brush strokes 0..1
    paper: Tensor  # how far colours fade to paper
    # face
    skin: Tensor
    skin_shadow: Tensor
    skin_light: Tensor
    blush: Tensor
    blush_amount: Tensor
    freckles: Tensor
    wrinkles: Tensor
    face_width: Tensor
    jaw_taper: Tensor
    jaw_square: Tensor
    ear_size: Tensor
    eye_x: Tensor
    eye_y: Tensor
    eye_width: Tensor
    eye_height: Tensor
    eye_tilt: Tensor
    iris: Tensor
    iris_size: Tensor
    lashes: Tensor
    brow: Tensor
    brow_y: Tensor
    brow_thickness: Tensor
    brow_arch: Tensor
    brow_tilt: Tensor
    nose_y: Tensor
    nose_width: Tensor
    nose_depth: Tensor
    mouth_y: Tensor
    mouth_width: Tensor
    lip_upper: Tensor
    lip_lower: Tensor
    lips: Tensor
    smile: Tensor
    tooth: Tensor
    beard: Tensor  # 0..1 how dense
    beard_length: Tensor
    moustache: Tensor
    whiskers: Tensor  # colour of beard and moustache, never dyed
    # hair, hat, glasses
    hair_style: Tensor  # of HAIR
    hair: Tensor
    hair_light: Tensor
    hair_top: Tensor
    hair_side: Tensor
    hair_round: Tensor
    hairline: Tensor
    hair_part: Tensor
    hair_sweep: Tensor
    hair_jag: Tensor
    hair_jags: Tensor
    hair_open: Tensor
    hair_sides: Tensor
    hair_back: Tensor
    hair_wave: Tensor
    hair_curl: Tensor
    hair_bun: Tensor
    hair_alpha: Tensor
    hat: Tensor  # of HATS
    hat_color: Tensor
    hat_trim: Tensor
    glasses: Tensor  # 0 or 1
    glasses_color: Tensor
    glasses_width: Tensor
    glasses_height: Tensor
    glasses_round: Tensor
    glasses_rim: Tensor
    # clothes and background
    collar: Tensor  # of COLLARS
    cloth: Tensor
    cloth_second: Tensor
    cloth_stripes: Tensor
    shoulders: Tensor
    neck: Tensor
    background_kind: Tensor  # of BACKGROUNDS
    background: Tensor
    background_second: Tensor
    background_turn: Tensor
    background_spots: Tensor  # (B, 6, 3) x, y, radius
    phase: Tensor  # (B, 4) of the textures

    def __len__(self) -> int:
        return len(self.seed)

    def __getitem__(self, index) -> Identities:
        return Identities(**{field.name: getattr(self, field.name)[index] for field in dataclasses.fields(self)})

    def to(self, device) -> Identities:
        return Identities(**{field.name: getattr(self, field.name).to(device) for field in dataclasses.fields(self)})


def sample_identities(seeds: Sequence[int] | Tensor, *, device: torch.device | str = "cpu") -> Identities:
    """seeds: B integers -> the B people that belong to them."""
    dice = Dice(seeds)
    count = len(dice.seeds)
    unit, between, normal, chance, choose = dice.unit, dice.between, dice.normal, dice.chance, dice.choose
    row = partial(torch.tensor, dtype=torch.float64)

    style = choose("style", row([0.44, 0.17, 0.12, 0.15, 0.12]))
    painted, flat, ink, anime, painterly = ((style == index).double() for index in range(5))
    femininity = torch.where(unit("sex") < 0.5, between("soft", 0.6, 1), between("hard", 0, 0.4))
    male = 1 - femininity
    age = torch.where(chance("child", 0.12) > 0, between("young", 0, 0.15), between("years", 0.2, 1)) * (
        1 - 0.45 * anime
    )
    child = (1 - age / 0.2).clamp(0, 1)

    # colours
    palette = mixed(dice, "skin", SKINS, spread=0.5)
    skin = (palette * between("tan", 0.95, 1.03)[:, None] + 0.02 * normal("warm")[:, None] * row([1, 0, -1.0])).clamp(
        0.1, 1
    )
    fair = ((skin.mean(-1) - 0.3) / 0.55).clamp(0, 1)
    natural = pick(HAIRS, choose("hair color", row([0.16, 0.15, 0.15, 0.13, 0.10, 0.09, 0.06, 0.06, 0.04, 0.03, 0.03])))
    dark = pick(HAIRS, choose("dark hair", row([0.55, 0.30, 0.15])))
    natural = torch.where((unit("deep hair") > fair + 0.25)[:, None], dark, natural)
    grey = ((age - 0.72) / 0.2).clamp(0, 1)[:, None] * (unit("greying") > 0.25)[:, None]
    natural = torch.lerp(natural, row([0.80, 0.80, 0.80]) * between("grey", 0.75, 1.1)[:, None], grey * 0.9)
    dyed = chance("dyed", 0.04 + 0.36 * anime + 0.06 * flat)[:, None]
    hair = torch.lerp(natural, mixed(dice, "dye", DYES, spread=0.5), dyed) * between("hair value", 0.9, 1.1)[:, None]
    hair_light = torch.lerp(hair, hair * 1.6 + row([0.14, 0.11, 0.08]), between("gloss", 0.5, 0.95)[:, None])
    lips = skin * row([0.86, 0.60, 0.58]) + row([0.03, 0.0, 0.01])
    made_up = chance("lipstick", 0.4 * femininity)[:, None]
    lips = torch.lerp(
        lips,
        row([0.74, 0.17, 0.22]) * between("lip value", 0.75, 1.15)[:, None] * (0.6 + 0.4 * fair[:, None]),
        made_up * 0.75,
    )
    lips = torch.lerp(lips, skin * row([0.90, 0.70, 0.66]), 0.45 * male[:, None])
    iris = mixed(dice, "iris", IRISES, spread=0.4)
    iris = torch.where((unit("dark iris") > fair * 1.15)[:, None], pick(IRISES, choose("brown", row([0.6, 0.4]))), iris)
    vivid = pick(DYES, choose("vivid iris", torch.ones(len(DYES))))
    iris = torch.where((chance("vivid", 0.45 * anime) > 0)[:, None], vivid * 0.85, iris)
    cloth = mixed(dice, "cloth", CLOTHES, spread=0.35)
    cloth_second = pick(CLOTHES, choose("cloth second", torch.ones(len(CLOTHES))))
    background = mixed(dice, "background", BACKDROPS, spread=0.35) * between("back value", 0.85, 1.1)[:, None]
    background_second = torch.lerp(
        background, mixed(dice, "background second", BACKDROPS, spread=0.35), between("back mix", 0.2, 0.7)[:, None]
    )
    hat_color = mixed(dice, "hat color", CLOTHES, spread=0.35)
    glasses_color = torch.where(
        (chance("light rim", 0.35) > 0)[:, None],
        pick(CLOTHES, choose("rim", torch.ones(len(CLOTHES)))) * 0.8,
        row([0.10, 0.09, 0.10]),
    )
    shadow_tint = torch.lerp(row([0.80, 0.60, 0.56]), row([0.74, 0.60, 0.70]), between("cool shadow", 0, 1)[:, None])

    # ink drawings fade to paper, some to black and white
    paper = ink * chance("on paper", 0.5) * between("paper", 0.3, 0.8)

    # hair
    weights = torch.where(
        femininity[:, None] > 0.5,
        row([0.0, 0.01, 0.05, 0.03, 0.14, 0.02, 0.18, 0.23, 0.17, 0.08, 0.11, 0.0]),
        row([0.07, 0.11, 0.24, 0.16, 0.10, 0.13, 0.0, 0.04, 0.03, 0.09, 0.01, 0.05]),
    )
    weights = weights * torch.where(child[:, None] > 0, row([0, 0.5, 1.5, 0.5, 2, 1, 1, 1, 1, 1, 1, 0]), 1.0)
    weights = weights * torch.where(anime[:, None] > 0, row([0, 0.1, 1, 1, 2, 4, 1.5, 1.5, 1, 0.3, 1, 0]), 1.0)
    hair_style = choose("hair style", weights)
    spread = {
        name: between(f"hair {name}", -1, 1)
        for name in ("top", "side", "line", "part", "sweep", "jag", "open", "sides", "back", "wave")
    }
    shapes = row(HAIR_SHAPES)[hair_style].unbind(-1)
    top, side, roundness, line, part, sweep, jag, opening, sides, back, wave, curl, bun, alpha = shapes
    hat = choose(
        "hat",
        row([0.80, 0.06, 0.05, 0.04, 0.0]).expand(count, -1) + row([0, 0, 0, 0.02, 0.06]) * (femininity > 0.5)[:, None],
    )
    part_side = torch.where(unit("part side") < 0.5, -1.0, 1.0)
    hatted = (hat == 1) | (hat == 2)
    scarf = hat == 4
    top = torch.where(hatted, top.clamp(max=0.10), top)
    bun = torch.where(hatted, 0.0, bun)

    # none, stubble, full, moustache, goatee-like
    beard_kind = choose("beard kind", row([0.52, 0.16, 0.14, 0.10, 0.08]))
    grown = (femininity < 0.5) & (age > 0.3) & (anime + (child > 0) < 1)
    beard = torch.where(grown, row([0, 0.32, 0.95, 0, 0.0])[beard_kind], 0.0)
    moustache = torch.where(grown, row([0, 0.30, 0.95, 0.95, 0.9])[beard_kind], 0.0)

    eye_height = normal("eye height", 0.112, 0.010) * (1 + 0.25 * child) + anime * 0.080 + flat * 0.022 + ink * 0.012
    eye_width = normal("eye width", 0.180, 0.010) * (1 + 0.06 * child) + anime * 0.020
    light_turn, light_height = between("light side", -1.0, 1.0), between("light height", -0.9, -0.25)
    light = torch.nn.functional.normalize(
        torch.stack((light_turn, light_height, between("light front", 0.55, 0.95)), -1), dim=-1
    )
    fields = dict(
        seed=dice.seeds,
        style=style,
        femininity=femininity,
        age=age,
        head_size=between("head size", 0.595, 0.665),
        head_x=normal("head x", 0, 0.025),
        head_y=normal("head y", -0.035, 0.02),
        light=light,
        shade_depth=between("shade depth", 0.55, 0.95) * (painted + painterly)
        + 0.18 * flat * chance("flat shade", 0.5)
        + between("ink shade", 0.25, 0.5) * ink
        + between("cel shade", 0.35, 0.6) * anime,
        shade_soft=between("shade soft", 0.55, 0.95) * (painted + painterly) + (ink + flat) * 0.05 + anime * 0.06,
        shade_edge=(painted + painterly) * between("shade edge", 0.28, 0.42)
        + (flat + ink + anime) * between("cel edge", -0.05, 0.26),
        ink_width=ink * between("ink width", 0.020, 0.034)
        + anime * between("anime line", 0.012, 0.020)
        + flat * chance("flat outline", 0.35) * 0.022,
        ink=torch.lerp(row([0.10, 0.07, 0.09]).expand(count, 3), hair * 0.3, anime[:, None] * 0.6),
        strokes=painterly * between("strokes", 0.6, 1.0),
        paper=paper,
        skin=skin,
        skin_shadow=skin * shadow_tint,
        skin_light=torch.lerp(skin, torch.ones(3, dtype=torch.float64), 0.45),
        blush=skin * row([1.0, 0.66, 0.62]),
        blush_amount=between("blush", 0.1, 0.45) * (0.6 + 0.4 * femininity) + 0.2 * child,
        freckles=chance("freckled", 0.16 * fair) * between("freckles", 0.4, 1),
        wrinkles=((age - 0.55) / 0.45).clamp(0, 1) * between("wrinkles", 0.4, 1),
        face_width=normal("face width", 0.735, 0.025) + 0.03 * child + 0.012 * male,
        jaw_taper=normal("taper", 0.20, 0.05) + 0.06 * anime + 0.05 * femininity - 0.06 * male,
        jaw_square=normal("square", 2.15, 0.12) + 0.25 * male,
        ear_size=normal("ear", 0.165, 0.018),
        eye_x=normal("eye x", 0.315, 0.014) + 0.02 * anime,
        eye_y=normal("eye y", 0.06, 0.025) + 0.08 * child + 0.06 * anime,
        eye_width=eye_width,
        eye_height=eye_height,
        eye_tilt=normal("eye tilt", 0.06, 0.07),
        iris=iris,
        iris_size=eye_height * (normal("iris size", 0.96, 0.05) - 0.10 * anime) + 0.006 * painted,
        lashes=0.25 + 0.75 * femininity + 0.3 * anime,
        brow=torch.lerp(hair * 0.62, row([0.16, 0.11, 0.09]), 0.35 * torch.ones(count, 1, dtype=torch.float64)),
        brow_y=normal("brow y", -0.195, 0.016) - anime * 0.09 - flat * 0.03 - 0.03 * child,
        brow_thickness=(normal("brow", 0.034, 0.006) + 0.014 * male) * (1 - 0.35 * anime),
        brow_arch=normal("brow arch", 0.04, 0.015),
        brow_tilt=normal("brow tilt", -0.02, 0.08),
        nose_y=normal("nose y", 0.365, 0.022) - 0.03 * child,
        nose_width=(normal("nose width", 0.125, 0.016) + 0.014 * male) * (1 - 0.25 * child) * (1 - 0.5 * anime),
        nose_depth=1 - 0.55 * anime - 0.2 * child,
        mouth_y=normal("mouth y", 0.635, 0.018),
        mouth_width=normal("mouth width", 0.295, 0.018) - 0.02 * anime,
        lip_upper=normal("upper lip", 0.060, 0.010) * (0.75 + 0.45 * femininity) * (1 - 0.35 * anime),
        lip_lower=normal("lower lip", 0.082, 0.012) * (0.75 + 0.4 * femininity) * (1 - 0.3 * anime),
        lips=lips,
        smile=normal("smile", 0.055, 0.025),
        tooth=row([0.97, 0.95, 0.90]) * between("tooth", 0.90, 1.02)[:, None],
        beard=beard,
        beard_length=between("beard length", 0.02, 0.14) * (beard > 0.5),
        moustache=moustache,
        whiskers=natural * 0.85,
        hair_style=hair_style,
        hair=hair.clamp(0, 1),
        hair_light=hair_light.clamp(0, 1),
        hair_top=top * (1 + 0.25 * spread["top"]),
        hair_side=side * (1 + 0.2 * spread["side"]),
        hair_round=roundness,
        hairline=line + 0.04 * spread["line"] - 0.05 * ((age - 0.6).clamp(min=0)) * male,
        hair_part=part * part_side * (0.8 + 0.2 * spread["part"]),
        hair_sweep=sweep * (1 + 0.3 * spread["sweep"]),
        hair_jag=jag * (1 + 0.3 * spread["jag"]),
        hair_jags=between("jags", 5.0, 9.0),
        hair_open=opening + 0.03 * spread["open"],
        hair_sides=sides + 0.08 * spread["sides"] * (1 + (sides > 0.5)),
        hair_back=back * (1 + 0.12 * spread["back"]),
        hair_wave=wave * (1 + 0.3 * spread["wave"]),
        hair_curl=curl,
        hair_bun=bun,
        hair_alpha=torch.where(scarf, 1.0, alpha),
        hat=hat,
        hat_color=hat_color,
        hat_trim=torch.lerp(hat_color, cloth_second, 0.8),
        glasses=chance("glasses", 0.20 - 0.08 * anime),
        glasses_color=glasses_color,
        glasses_width=eye_width * between("glass width", 1.25, 1.42),
        glasses_height=(eye_height * 0.6 + 0.06) * between("glass height", 1.15, 1.5),
        glasses_round=between("glass round", 0.35, 1.0),
        glasses_rim=between("glass rim", 0.014, 0.026),
        collar=choose("collar", row([0.32, 0.18, 0.24, 0.14, 0.12])),
        cloth=cloth,
        cloth_second=cloth_second,
        cloth_stripes=chance("stripes", 0.14),
        shoulders=normal("shoulders", 1.14, 0.06) + 0.16 * male - 0.2 * child,
        neck=normal("neck", 0.30, 0.015) + 0.07 * male - 0.04 * child,
        background_kind=choose("background kind", row([0.30, 0.26, 0.08, 0.20, 0.16])),
        background=background,
        background_second=background_second,
        background_turn=between("background turn", 0, 6.2832),
        background_spots=torch.stack(
            [
                torch.stack(
                    (
                        between(f"spot x {i}", -1, 1),
                        between(f"spot y {i}", -1, 0.6),
                        between(f"spot r {i}", 0.07, 0.30),
                    ),
                    -1,
                )
                for i in range(6)
            ],
            1,
        ),
        phase=torch.stack([between(f"phase {i}", 0, 6.2832) for i in range(4)], -1),
    )
    for name in (
        "skin",
        "skin_shadow",
        "skin_light",
        "blush",
        "lips",
        "hair",
        "hair_light",
        "whiskers",
        "brow",
        "cloth",
        "cloth_second",
        "background",
        "background_second",
        "hat_color",
        "hat_trim",
        "iris",
    ):
        sheet = row([0.96, 0.94, 0.89])
        tinted = torch.lerp(
            fields[name].double(),
            sheet.expand(count, 3),
            (paper * (1.0 if name.startswith(("back", "skin")) else 0.55))[:, None],
        )
        fields[name] = tinted.clamp(0, 1)
    whole = {"seed", "style", "hair_style", "hat", "collar", "background_kind"}
    return Identities(
        **{name: (value if name in whole else value.float()).to(device) for name, value in fields.items()}
    )
