"""`python tests/fuzz.py --minutes 10`: looks for inputs that are neither read nor refused in a sentence.

Runs the properties of properties.py in turn with new seeds. What fails is written to tests/data/fuzz, where
test_properties.py finds it; the exit status is 1 then.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import random
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from hypothesis import HealthCheck, given, seed, settings  # noqa: E402
from properties import CORPUS, PROPERTIES, Property  # noqa: E402

log = logging.getLogger("fuzz")


def look(one: Property, number: int, examples: int) -> bytes | None:
    """An input for which the property fails, as small as hypothesis can make it; None if none is found."""
    failed: list[bytes] = []

    @seed(number)
    @settings(max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(one.inputs)
    def holds(data: bytes) -> None:
        try:
            one.check(data)
        except BaseException:
            failed.append(data)
            raise

    try:
        holds()
    except Exception:
        log.error("%s, seed %d: %s", one.name, number, traceback.format_exc(limit=-4))
    return failed[-1] if failed else None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--only", nargs="*", choices=[one.name for one in PROPERTIES], help="these properties alone")
    parser.add_argument("--seed", type=int, help="the first seed (a random one)")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    logging.getLogger("emo").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    first = random.SystemRandom().randrange(2**31) if chosen.seed is None else chosen.seed
    tried, failures, end, number = Counter(), set(), time.monotonic() + 60 * chosen.minutes, first
    while time.monotonic() < end:
        for one in PROPERTIES:
            if time.monotonic() >= end:
                break
            if (chosen.only and one.name not in chosen.only) or one.name in failures:
                continue
            data = look(one, number, 40)
            tried[one.name] += 40
            if data is not None:
                failures.add(one.name)
                CORPUS.mkdir(exist_ok=True)
                (CORPUS / f"{one.name}-{hashlib.sha256(data).hexdigest()[:8]}").write_bytes(data)
        number += 1
    for name, count in tried.items():
        sys.stdout.write(f"{name}: {count} tried, {'FAILED' if name in failures else 'held'}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
