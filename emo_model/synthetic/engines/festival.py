"""festival, as a program: voices of several languages, made from recordings of people."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from .sound import ENGLISH, RATE, clean, labels, read_wav, run, spans

LANGUAGES = {
    "kal_diphone": "en",
    "ked_diphone": "en",
    "cmu_us_slt_arctic_hts": "en",
    "lp_diphone": "it",
    "pc_diphone": "it",
    "czech_dita": "cs",
    "czech_machac": "cs",
    "czech_ph": "cs",
    "czech_krb": "cs",
    "upc_ca_ona_hts": "ca",
    "suo_fi_lj_diphone": "fi",
    "hy_fi_mv_diphone": "fi",
    "msu_ru_nsh_clunits": "ru",
    "hindi_NSK_diphone": "hi",
}

_OTHERS = labels(
    "tS=tʃ dZ=dʒ S=ʃ Z=ʒ L=ʎ J=ɲ E=ɛ O=ɔ ax=ə rr=r B=β D=ð G=ɣ g=ɡ ng=ŋ N=ŋ z~=ʒ s~=ʃ c~=tʃ r~=rʒ t~=c d~=ɟ "
    "n~=ɲ ch=x @=æ 7=ø #= ##= pau="
)  # Italian, Catalan, Czech, Finnish; letters not named here are their own IPA
_RUSSIAN = labels(
    "a=ɐ aa=a ae=ɪ ay=ə e=ɪ ee=ɛ ii=i y=ɨ yy=ɨ oo=o uu=u ur=u c=ts ch=tɕ sch=ɕ sh=ʃ zh=ʒ h=x hh=x g=ɡ gg=ɡ pau="
)  # doubled vowels are stressed, doubled consonants soft
_HINDI = labels(
    "a=ə aa=a ih=ɪ iy=i uh=ʊ uw=u eh=e ay=ɛ oh=o aw=ɔ kh=k g=ɡ gh=ɡ ch=tʃ chh=tʃ j=dʒ jh=dʒ T=ʈ Th=ʈ D=ɖ Dh=ɖ "
    "th=t dh=d ddh=d ph=f bh=b y=j v=ʋ sh=ʃ N=ɳ pau="
)
_ENCODINGS = {"cs": "iso8859-2", "ru": "utf-8", "hi": "utf-8"}  # of texts for festival


def is_installed() -> bool:
    return shutil.which("festival") is not None


def voices(named: set[str]) -> set[str]:
    """Of the voices named, those that are installed."""
    return named & set(run(["festival", "-b", "(print (voice.list))"]).strip("() \n").split())


def speak(text: str, name: str, rate: float, pitch: float):
    """See the room's docstring; the pitch is the voice's own."""
    language = LANGUAGES.get(name, "en")
    with tempfile.TemporaryDirectory() as folder:
        sound, marks, script = (Path(folder) / file for file in ("speech.wav", "speech.lab", "speech.scm"))
        quoted = text.replace("\\", " ").replace('"', " ").replace("!", ".")  # its Russian rules do not know '!'
        orders = (
            f"(voice_{name})\n(Parameter.set 'Duration_Stretch {1 / rate:.3f})\n"
            f'(set! spoken (utt.synth (Utterance Text "{quoted}")))\n'
            f'(utt.save.wave spoken "{sound}" \'riff)\n(utt.save.segs spoken "{marks}")\n'
        )
        script.write_bytes(orders.encode(_ENCODINGS.get(language, "iso8859-1"), "ignore"))
        run(["festival", "-b", str(script)])
        if not sound.exists():
            raise ValueError(f"festival could not speak as '{name}'; is its festvox package installed?")
        waveform = read_wav(sound)
        rows = [line.split() for line in marks.read_text(errors="ignore").splitlines()]
    ends = [(to_ipa(row[2], language), float(row[0])) for row in rows if len(row) == 3]
    return waveform, clean(spans(ends), len(waveform) / RATE)


def to_ipa(label: str, language: str) -> str:
    """What festival calls a sound of a language -> IPA, or '' for silence."""
    if language == "en":
        return ENGLISH.get(label, "")
    if language == "hi":
        return _HINDI.get(label, label)
    if language == "ru":
        return _RUSSIAN.get(label, label[:1])
    plain = label.rstrip("0123456789:") or label  # stress and length
    return _OTHERS.get(label, _OTHERS.get(plain, plain))
