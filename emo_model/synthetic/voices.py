"""The voices that training data are spoken with, and those that training never hears."""

from __future__ import annotations

from itertools import combinations

from .engines import festival, pico, rhvoice

_VARIANTS = (
    "m1",
    "m2",
    "m3",
    "m4",
    "m5",
    "m6",
    "m7",
    "m8",
    "f1",
    "f2",
    "f3",
    "f4",
    "adam",
    "Alex",
    "Alicia",
    "Andrea",
    "Andy",
    "Annie",
    "antonio",
    "aunty",
    "belinda",
    "benjamin",
    "boris",
    "caleb",
    "david",
    "Denis",
    "Diogo",
    "ed",
    "edward",
    "edward2",
    "Gene",
    "Gene2",
    "grandma",
    "grandpa",
    "Henrique",
    "Hugo",
    "iven",
    "iven2",
    "iven3",
    "Jacky",
    "john",
    "klatt",
    "klatt2",
    "klatt3",
    "klatt4",
    "kaukovalta",
    "Lee",
    "linda",
    "marcelo",
    "Marco",
    "Mario",
    "max",
    "Michael",
    "michel",
    "miguel",
    "mike",
    "norbert",
    "pablo",
    "paul",
    "pedro",
    "quincy",
    "rob",
    "robert",
    "sandro",
    "shelby",
    "steph",
    "steph2",
    "travis",
    "victor",
    "zac",
    "croak",
    "Nguyen",
    "Reed",
    "Storm",
    "anika",
    "announcer",
    "gustave",
    "ian",
    "iven4",
    "mike2",
    "steph3",
    "whisper",
    "whisperf",
)
_LANGUAGES = {  # of espeak, and what `sentences` calls them
    "en-us": "en",
    "en-gb-x-rp": "en",
    "de": "de",
    "fr": "fr",
    "es": "es",
    "it": "it",
    "pt": "pt",
    "nl": "nl",
    "pl": "pl",
    "sv": "sv",
    "cs": "cs",
    "ca": "ca",
    "fi": "fi",
    "hu": "hu",
    "tr": "tr",
    "ru": "ru",
    "hi": "hi",
    "et": "et",
    "lv": "lv",
    "ro": "ro",
    "hr": "hr",
    "el": "el",
    "id": "id",
    "sw": "sw",
    "eo": "eo",
}

HELD_OUT = (
    "espeak:fi",
    "espeak:*+f5",
    "espeak:*+klatt6",
    "flite:slt",
    "festival:cmu_us_slt_arctic_hts",
    "festival:suo_fi_lj_diphone",
    "festival:hy_fi_mv_diphone",
    "kokoro:*+af_bella",
    "kokoro:*+bm_george",
    "kokoro:*+ff_siwis",
    "kokoro:*+am_puck",
    "rhvoice:slt",
    "piper",
)
"""Voices that training never hears: a language (Finnish) in three engines, two espeak variants in all languages, one
English speaker (slt) in three engines, four of Kokoro's voices, and every voice of piper (only measured)."""

_KOKORO = (
    "af_alloy af_aoede af_heart af_jessica af_kore af_nicole af_nova af_river af_sarah af_sky am_adam am_echo am_eric "
    "am_fenrir am_liam am_michael am_onyx am_santa bf_alice bf_emma bf_isabella bf_lily bm_daniel bm_fable bm_lewis "
    "ef_dora em_alex em_santa hf_alpha hf_beta hm_omega hm_psi if_sara im_nicola jf_alpha jf_gongitsune jf_nezumi "
    "jf_tebukuro jm_kumo pf_dora pm_alex pm_santa zf_xiaobei zf_xiaoni zf_xiaoxiao zf_xiaoyi zm_yunjian zm_yunxi "
    "zm_yunxia zm_yunyang"
).split()
_BLENDS = [*_KOKORO, *(f"{one}~{two}" for one, two in combinations(_KOKORO, 2))]  # half way between two voices

TRAINING_VOICES = (
    (0.40, tuple(f"kokoro:{language}+{voice}" for language in _LANGUAGES if language != "fi" for voice in _BLENDS)),
    (
        0.20,
        tuple(f"espeak:{language}+{variant}" for language in _LANGUAGES if language != "fi" for variant in _VARIANTS),
    ),
    (0.13, ("flite:rms", "flite:awb", "flite:kal16")),
    (0.30, tuple(f"rhvoice:{name}" for name in rhvoice.LANGUAGES)),
    (0.25, tuple(f"pico:{language}" for language in pico.PHONEMES)),
    (
        0.27,
        (
            "festival:ked_diphone",
            "festival:kal_diphone",
            "festival:lp_diphone",
            "festival:pc_diphone",
            "festival:czech_dita",
            "festival:czech_machac",
            "festival:czech_ph",
            "festival:czech_krb",
            "festival:upc_ca_ona_hts",
            "festival:msu_ru_nsh_clunits",
            "festival:hindi_NSK_diphone",
        ),
    ),
)
HELD_OUT_VOICES = (
    (
        0.35,
        (
            "espeak:fi+f2",
            "espeak:fi+m3",
            "espeak:fi+Andrea",
            "espeak:en-us+f5",
            "espeak:de+f5",
            "espeak:en-gb-x-rp+klatt6",
        ),
    ),
    (0.25, ("flite:slt",)),
    (0.40, ("festival:cmu_us_slt_arctic_hts", "festival:suo_fi_lj_diphone", "festival:hy_fi_mv_diphone")),
)
"""Shares of the engines, and the voices of each."""


def is_held_out(voice: str) -> bool:
    """Whether training must never hear `voice`; see `HELD_OUT`."""
    engine, _, name = voice.partition(":")
    language, _, variant = name.partition("+")
    return (
        engine == "piper"
        or voice in HELD_OUT
        or f"{engine}:{language}" in HELD_OUT
        or f"{engine}:*+{variant}" in HELD_OUT
    )


def language_of(voice: str) -> str:
    """The language's code, e.g. 'en'."""
    engine, _, name = voice.partition(":")
    if engine in ("espeak", "kokoro", "pico"):
        return name.partition("+")[0].partition("-")[0]
    return rhvoice.LANGUAGES.get(name, "en") if engine == "rhvoice" else festival.LANGUAGES.get(name, "en")
