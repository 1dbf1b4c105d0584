"""Drawn people: everything of a person follows from its own integer seed, whatever batch it is drawn in."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

STYLES = ("painted", "flat", "ink", "anime", "painterly")
"""`Identities.style` counts in this order: shaded 3-D look, flat cartoon, ink outlines, large-eyed cel shading, brush strokes."""

HAIR = ("bald", "buzz", "short", "quiff", "fringe", "spiky", "bob", "long", "wavy", "curly", "bun", "crown")
"""`Identities.hair_style`; "crown" is a ring of hair around a bald top."""

HATS = ("none", "beanie", "cap", "band", "scarf")
"""`Identities.hat`; "scarf" is a head scarf that hides hair and neck."""

COLLARS = ("crew", "v", "shirt", "turtleneck", "hood")
BACKGROUNDS = ("gradient", "glow", "stripes", "bokeh", "room")

_SKINS = ((1.0, .88, .79), (.99, .84, .73), (.97, .80, .67), (.94, .76, .60), (.90, .71, .54), (.84, .64, .47), (.76, .55, .39),
          (.67, .46, .31), (.56, .37, .25), (.46, .30, .20), (.37, .24, .17))
_HAIRS = ((.09, .08, .09), (.15, .10, .08), (.25, .15, .09), (.38, .23, .13), (.55, .36, .19), (.80, .62, .33), (.93, .81, .54),
          (.62, .26, .11), (.45, .14, .09), (.62, .62, .63), (.90, .89, .87))
_DYES = ((.93, .45, .62), (.30, .50, .88), (.55, .38, .80), (.25, .68, .58), (.96, .60, .25), (.75, .85, .95), (.85, .20, .28))
_IRISES = ((.30, .18, .09), (.42, .26, .12), (.50, .36, .16), (.36, .46, .24), (.22, .50, .40), (.28, .50, .72), (.45, .62, .75),
           (.48, .52, .56))
_CLOTHES = ((.16, .22, .36), (.70, .20, .22), (.20, .42, .36), (.90, .88, .84), (.20, .20, .23), (.86, .62, .20), (.44, .30, .56),
            (.38, .56, .76), (.88, .56, .52), (.52, .40, .30), (.36, .46, .26), (.62, .66, .70))
_BACKDROPS = ((.62, .74, .84), (.86, .80, .70), (.70, .80, .70), (.80, .70, .78), (.90, .88, .84), (.45, .52, .62), (.36, .42, .44),
              (.93, .76, .62), (.55, .66, .66), (.74, .62, .58), (.30, .30, .42), (.80, .86, .90))


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

    @property
    def style_names(self) -> list[str]:
        return [STYLES[index] for index in self.style.tolist()]


class Dice:
    """Numbers of a seed and a name: adding a throw changes no other. Each throw is (B,) float64."""

    def __init__(self, seeds: Sequence[int] | Tensor):
        self.seeds = torch.as_tensor(seeds, dtype=torch.int64).cpu().reshape(-1)

    def unit(self, name: str) -> Tensor:
        """Even in 0..1 (open): splitmix64 of seed and name."""
        with np.errstate(over="ignore"):
            z = self.seeds.numpy().astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            z = z + np.uint64(zlib.crc32(name.encode())) * np.uint64(0xD1B54A32D192ED03)
            for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 0x9E3779B97F4A7C15), (29, 0xBF58476D1CE4E5B9)):
                z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
            z = z ^ (z >> np.uint64(32))
        return torch.from_numpy(((z >> np.uint64(12)).astype(np.float64) + 0.5) / 2.0 ** 52)

    def between(self, name: str, low, high) -> Tensor:
        return low + (high - low) * self.unit(name)

    def normal(self, name: str, mean=0.0, sd=1.0) -> Tensor:
        """Cut at 2.2 sd."""
        return mean + sd * (torch.erfinv(2 * self.unit(name) - 1) * 2 ** 0.5).clamp(-2.2, 2.2)

    def chance(self, name: str, share) -> Tensor:
        return (self.unit(name) < share).double()

    def choose(self, name: str, weights: Tensor) -> Tensor:
        """weights: (n,) or (B, n) -> (B,) int64."""
        steps = (weights / weights.sum(-1, keepdim=True)).cumsum(-1).expand(len(self.seeds), -1)
        return (self.unit(name)[:, None] > steps).sum(-1).clamp(max=weights.shape[-1] - 1)


def sample_identities(seeds: Sequence[int] | Tensor, *, device: torch.device | str = "cpu") -> Identities:
    """seeds: B integers -> the B people that belong to them."""
    dice = Dice(seeds)
    count = len(dice.seeds)
    unit, between, normal, chance, choose = dice.unit, dice.between, dice.normal, dice.chance, dice.choose
    row = torch.tensor

    style = choose("style", row([.44, .17, .12, .15, .12], dtype=torch.float64))
    painted, flat, ink, anime, painterly = ((style == index).double() for index in range(5))
    femininity = (unit("sex") < .5).double() * between("soft", .55, 1) + 0.0
    femininity = torch.where(unit("sex") < .5, between("soft", .6, 1), between("hard", 0, .4))
    male = 1 - femininity
    age = torch.where(chance("child", .12) > 0, between("young", 0, .15), between("years", .2, 1)) * (1 - .45 * anime)
    child = (1 - age / .2).clamp(0, 1)

    # colours
    palette = _palette(dice, "skin", _SKINS, spread=.5)
    skin = (palette * between("tan", .95, 1.03)[:, None] + .02 * normal("warm")[:, None] * row([1, 0, -1.])).clamp(.1, 1)
    fair = ((skin.mean(-1) - .3) / .55).clamp(0, 1)
    natural = _pick(_HAIRS, choose("hair color", row([.16, .15, .15, .13, .10, .09, .06, .06, .04, .03, .03], dtype=torch.float64)))
    dark = _pick(_HAIRS, choose("dark hair", row([.55, .30, .15], dtype=torch.float64)))
    natural = torch.where((unit("deep hair") > fair + .25)[:, None], dark, natural)
    grey = ((age - .72) / .2).clamp(0, 1)[:, None] * (unit("greying") > .25)[:, None]
    natural = torch.lerp(natural, row([.80, .80, .80], dtype=torch.float64) * between("grey", .75, 1.1)[:, None], grey * .9)
    dyed = chance("dyed", .04 + .36 * anime + .06 * flat)[:, None]
    hair = torch.lerp(natural, _palette(dice, "dye", _DYES, spread=.5), dyed) * between("hair value", .9, 1.1)[:, None]
    hair_light = torch.lerp(hair, hair * 1.6 + row([.14, .11, .08]), between("gloss", .5, .95)[:, None])
    lips = skin * row([.86, .60, .58]) + row([.03, .0, .01])
    made_up = chance("lipstick", .4 * femininity)[:, None]
    lips = torch.lerp(lips, row([.74, .17, .22]) * between("lip value", .75, 1.15)[:, None] * (.6 + .4 * fair[:, None]), made_up * .75)
    lips = torch.lerp(lips, skin * row([.90, .70, .66]), .45 * male[:, None])
    iris = _palette(dice, "iris", _IRISES, spread=.4)
    iris = torch.where((unit("dark iris") > fair * 1.15)[:, None], _pick(_IRISES, choose("brown", row([.6, .4], dtype=torch.float64))), iris)
    vivid = _pick(_DYES, choose("vivid iris", torch.ones(len(_DYES), dtype=torch.float64)))
    iris = torch.where((chance("vivid", .45 * anime) > 0)[:, None], vivid * .85, iris)
    cloth = _palette(dice, "cloth", _CLOTHES, spread=.35)
    cloth_second = _pick(_CLOTHES, choose("cloth second", torch.ones(len(_CLOTHES), dtype=torch.float64)))
    background = _palette(dice, "background", _BACKDROPS, spread=.35) * between("back value", .85, 1.1)[:, None]
    background_second = torch.lerp(background, _palette(dice, "background second", _BACKDROPS, spread=.35), between("back mix", .2, .7)[:, None])
    hat_color = _palette(dice, "hat color", _CLOTHES, spread=.35)
    glasses_color = torch.where((chance("light rim", .35) > 0)[:, None],
                                _pick(_CLOTHES, choose("rim", torch.ones(len(_CLOTHES), dtype=torch.float64))) * .8,
                                row([.10, .09, .10], dtype=torch.float64))
    shadow_tint = torch.lerp(row([.80, .60, .56], dtype=torch.float64), row([.74, .60, .70], dtype=torch.float64), between("cool shadow", 0, 1)[:, None])

    # ink drawings fade to paper, some to black and white
    paper = ink * chance("on paper", .5) * between("paper", .3, .8)

    # hair
    weights = torch.where(femininity[:, None] > .5,
                          row([.0, .01, .05, .03, .14, .02, .18, .23, .17, .08, .11, .0], dtype=torch.float64),
                          row([.07, .11, .24, .16, .10, .13, .0, .04, .03, .09, .01, .05], dtype=torch.float64))
    weights = weights * torch.where(child[:, None] > 0, row([0, .5, 1.5, .5, 2, 1, 1, 1, 1, 1, 1, 0], dtype=torch.float64), 1.0)
    weights = weights * torch.where(anime[:, None] > 0, row([0, .1, 1, 1, 2, 4, 1.5, 1.5, 1, .3, 1, 0], dtype=torch.float64), 1.0)
    hair_style = choose("hair style", weights)
    spread = {name: between(f"hair {name}", -1, 1) for name in ("top", "side", "line", "part", "sweep", "jag", "open", "sides", "back", "wave")}
    shapes = row(_HAIR_SHAPES, dtype=torch.float64)[hair_style].unbind(-1)
    top, side, roundness, line, part, sweep, jag, opening, sides, back, wave, curl, bun, alpha = shapes
    hat = choose("hat", row([.80, .06, .05, .04, .0], dtype=torch.float64).expand(count, -1) + row([0, 0, 0, .02, .06]) * (femininity > .5)[:, None])
    part_side = torch.where(unit("part side") < .5, -1.0, 1.0)
    hatted = (hat == 1) | (hat == 2)
    scarf = hat == 4
    top = torch.where(hatted, top.clamp(max=.10), top)
    bun = torch.where(hatted, 0.0, bun)

    beard_kind = choose("beard kind", row([.52, .16, .14, .10, .08], dtype=torch.float64))  # none, stubble, full, moustache, goatee-like
    grown = (femininity < .5) & (age > .3) & (anime + (child > 0) < 1)
    beard = torch.where(grown, row([0, .32, .95, 0, .0], dtype=torch.float64)[beard_kind], 0.0)
    moustache = torch.where(grown, row([0, .30, .95, .95, .9], dtype=torch.float64)[beard_kind], 0.0)

    eye_height = normal("eye height", .112, .010) * (1 + .25 * child) + anime * .080 + flat * .022 + ink * .012
    eye_width = normal("eye width", .180, .010) * (1 + .06 * child) + anime * .020
    light_turn, light_height = between("light side", -1.0, 1.0), between("light height", -.9, -.25)
    light = torch.nn.functional.normalize(torch.stack((light_turn, light_height, between("light front", .55, .95)), -1), dim=-1)
    fields = dict(
        seed=dice.seeds, style=style, femininity=femininity, age=age,
        head_size=between("head size", .595, .665), head_x=normal("head x", 0, .025), head_y=normal("head y", -.035, .02),
        light=light,
        shade_depth=between("shade depth", .55, .95) * (painted + painterly) + .18 * flat * chance("flat shade", .5) + between("ink shade", .25, .5) * ink + between("cel shade", .45, .75) * anime,
        shade_soft=between("shade soft", .55, .95) * (painted + painterly) + (ink + flat) * .05 + anime * .06,
        shade_edge=(painted + painterly) * between("shade edge", .28, .42) + (flat + ink + anime) * between("cel edge", .12, .38),
        ink_width=ink * between("ink width", .020, .034) + anime * between("anime line", .012, .020) + flat * chance("flat outline", .35) * .022,
        ink=torch.lerp(row([.10, .07, .09], dtype=torch.float64).expand(count, 3), hair * .3, anime[:, None] * .6),
        strokes=painterly * between("strokes", .6, 1.0), paper=paper,
        skin=skin, skin_shadow=skin * shadow_tint, skin_light=torch.lerp(skin, torch.ones(3, dtype=torch.float64), .45),
        blush=skin * row([1.0, .66, .62]), blush_amount=between("blush", .1, .45) * (.6 + .4 * femininity) + .2 * child,
        freckles=chance("freckled", .16 * fair) * between("freckles", .4, 1),
        wrinkles=((age - .55) / .45).clamp(0, 1) * between("wrinkles", .4, 1),
        face_width=normal("face width", .735, .025) + .03 * child + .012 * male,
        jaw_taper=normal("taper", .20, .05) + .06 * anime + .05 * femininity - .06 * male, jaw_square=normal("square", 2.15, .12) + .25 * male,
        ear_size=normal("ear", .165, .018),
        eye_x=normal("eye x", .315, .014) + .02 * anime, eye_y=normal("eye y", .06, .025) + .08 * child + .06 * anime,
        eye_width=eye_width, eye_height=eye_height, eye_tilt=normal("eye tilt", .06, .07),
        iris=iris, iris_size=eye_height * (normal("iris size", .96, .05) - .10 * anime) + .006 * painted,
        lashes=.25 + .75 * femininity + .3 * anime,
        brow=torch.lerp(hair * .62, row([.16, .11, .09], dtype=torch.float64), .35 * torch.ones(count, 1, dtype=torch.float64)),
        brow_y=normal("brow y", -.195, .016) - anime * .09 - flat * .03 - .03 * child, brow_thickness=(normal("brow", .034, .006) + .014 * male) * (1 - .35 * anime),
        brow_arch=normal("brow arch", .04, .015), brow_tilt=normal("brow tilt", -.02, .08),
        nose_y=normal("nose y", .365, .022) - .03 * child, nose_width=(normal("nose width", .125, .016) + .014 * male) * (1 - .25 * child) * (1 - .5 * anime),
        nose_depth=1 - .55 * anime - .2 * child,
        mouth_y=normal("mouth y", .635, .018), mouth_width=normal("mouth width", .295, .018) - .02 * anime,
        lip_upper=normal("upper lip", .060, .010) * (.75 + .45 * femininity) * (1 - .35 * anime), lip_lower=normal("lower lip", .082, .012) * (.75 + .4 * femininity) * (1 - .3 * anime),
        lips=lips, smile=normal("smile", .055, .025), tooth=row([.97, .95, .90], dtype=torch.float64) * between("tooth", .90, 1.02)[:, None],
        beard=beard, beard_length=between("beard length", .02, .14) * (beard > .5), moustache=moustache,
        hair_style=hair_style, hair=hair.clamp(0, 1), hair_light=hair_light.clamp(0, 1), hair_top=top * (1 + .25 * spread["top"]),
        hair_side=side * (1 + .2 * spread["side"]), hair_round=roundness, hairline=line + .04 * spread["line"] - .05 * ((age - .6).clamp(min=0)) * male,
        hair_part=part * part_side * (.8 + .2 * spread["part"]), hair_sweep=sweep * (1 + .3 * spread["sweep"]), hair_jag=jag * (1 + .3 * spread["jag"]),
        hair_jags=between("jags", 5.0, 9.0), hair_open=opening + .03 * spread["open"], hair_sides=sides + .08 * spread["sides"] * (1 + (sides > .5)),
        hair_back=back * (1 + .12 * spread["back"]), hair_wave=wave * (1 + .3 * spread["wave"]), hair_curl=curl, hair_bun=bun,
        hair_alpha=torch.where(scarf, 1.0, alpha),
        hat=hat, hat_color=hat_color, hat_trim=torch.lerp(hat_color, cloth_second, .8),
        glasses=chance("glasses", .20 - .08 * anime), glasses_color=glasses_color, glasses_width=eye_width * between("glass width", 1.25, 1.42),
        glasses_height=(eye_height * .6 + .06) * between("glass height", 1.15, 1.5), glasses_round=between("glass round", .35, 1.0), glasses_rim=between("glass rim", .014, .026),
        collar=choose("collar", row([.32, .18, .24, .14, .12], dtype=torch.float64)), cloth=cloth, cloth_second=cloth_second,
        cloth_stripes=chance("stripes", .14), shoulders=normal("shoulders", 1.14, .06) + .16 * male - .2 * child, neck=normal("neck", .30, .015) + .07 * male - .04 * child,
        background_kind=choose("background kind", row([.30, .26, .08, .20, .16], dtype=torch.float64)), background=background, background_second=background_second,
        background_turn=between("background turn", 0, 6.2832),
        background_spots=torch.stack([torch.stack((between(f"spot x {i}", -1, 1), between(f"spot y {i}", -1, .6), between(f"spot r {i}", .07, .30)), -1) for i in range(6)], 1),
        phase=torch.stack([between(f"phase {i}", 0, 6.2832) for i in range(4)], -1),
    )
    for name in ("skin", "skin_shadow", "skin_light", "blush", "lips", "hair", "hair_light", "brow", "cloth", "cloth_second",
                 "background", "background_second", "hat_color", "hat_trim", "iris"):
        sheet = row([.96, .94, .89], dtype=torch.float64)
        tinted = torch.lerp(fields[name].double(), sheet.expand(count, 3), (paper * (1.0 if name.startswith(("back", "skin")) else .55))[:, None])
        fields[name] = tinted.clamp(0, 1)
    whole = {"seed", "style", "hair_style", "hat", "collar", "background_kind"}
    return Identities(**{name: (value if name in whole else value.float()).to(device) for name, value in fields.items()})


#  top   side  round line  part  sweep jag  open sides back  wave curl bun alpha; rows as HAIR
_HAIR_SHAPES = (
    (.00, .00, 1.1, -2.0, .00, .00, .00, 2.0, -2., .00, .00, .0, .00, 0.0),
    (.035, .02, 1.1, -.60, .00, .16, .00, .66, .04, .00, .00, .6, .00, .85),
    (.13, .055, 1.1, -.64, .40, .22, .02, .65, .08, .00, .01, .1, .00, 1.0),
    (.22, .05, 1.1, -.62, .25, .10, .02, .66, .06, .00, .01, .1, .00, 1.0),
    (.15, .08, 1.3, -.34, .55, .10, .05, .65, .22, .00, .01, .1, .00, 1.0),
    (.18, .10, 1.3, -.46, .20, .12, .11, .66, .16, .00, .06, .0, .00, 1.0),
    (.15, .15, 2.6, -.40, .45, .16, .03, .61, .78, .80, .01, .0, .00, 1.0),
    (.14, .12, 3.0, -.66, .10, .42, .00, .61, 1.50, 1.7, .008, .0, .00, 1.0),
    (.17, .17, 3.0, -.62, .30, .40, .01, .61, 1.40, 1.6, .04, .3, .00, 1.0),
    (.30, .27, .95, -.56, .00, .12, .03, .66, .42, .55, .04, 1., .00, 1.0),
    (.11, .05, 1.1, -.66, .10, .24, .00, .65, .10, .00, .00, .0, .25, 1.0),
    (.00, .07, 1.1, -1.9, .00, .00, .00, .64, .22, .00, .02, .4, .00, 1.0),
)


def _pick(table, index: Tensor) -> Tensor:
    return torch.tensor(table, dtype=torch.float64)[index]


def _palette(dice: Dice, name: str, table, *, spread: float) -> Tensor:
    """A colour of the table, moved towards a second one."""
    even = torch.ones(len(table), dtype=torch.float64)
    first = dice.choose(name, even)
    neighbour = (first + 1).clamp(max=len(table) - 1)
    return torch.lerp(_pick(table, first), _pick(table, neighbour), dice.between(f"{name} mix", 0, spread)[:, None])
