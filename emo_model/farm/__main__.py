"""`python -m emo_model.farm jobs.csv --servers URL URL --out videos`: a video per row, on several ComfyUI servers.

The table has the columns portrait and voice, and if wanted out (name of the video), seed, model, and NODE.input for any
other input of the workflow. Run the same command again to go on after a stop, a crash or a failure: videos that are
done are not made again.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from ..inputs.files import check_readable, sentence_of
from .farm import Farm, Limits
from .graph import read_workflow, resolve
from .host import Away, Host, NotComfyUI
from .journal import Journal
from .show import Show, failures, serve_page
from .table import make_jobs, read_table

WORKFLOW = Path(__file__).parents[2] / "workflows" / "api" / "first_video.json"


def main(arguments: list[str] | None = None) -> int:
    """0: all videos are there. 1: some are not. 2: nothing was sent. 130: stopped."""
    chosen = _parser().parse_args(arguments)
    show = Show(sys.stderr)
    journal = None
    try:
        headers = dict(_header(text) for text in chosen.header)
        hosts = {
            host.url: host for host in (Host(url, headers=headers, timeout=chosen.timeout) for url in chosen.servers)
        }
        columns, rows = read_table(chosen.jobs)
        workflow = read_workflow(check_readable(chosen.workflow, "the workflow"))
        workflow, slots = resolve(workflow, columns, chosen.set)
        if chosen.output is not None and chosen.output not in workflow:
            raise ValueError(f"--output {chosen.output}: the workflow has the nodes {', '.join(workflow)}")
        jobs = make_jobs(chosen.jobs, columns, rows, workflow, slots)
        _check(list(hosts.values()), show)
        if chosen.dry_run:
            show.tell(f"{len(jobs)} jobs and {len(hosts)} servers can be used; nothing was sent")
            return 0
        if chosen.out.exists() and not chosen.out.is_dir():
            raise ValueError(f"--out {chosen.out} is a file; name a folder")
        journal = Journal(chosen.journal or chosen.out / "farm.jsonl")
        farm = Farm(
            jobs,
            list(hosts.values()),
            chosen.out,
            journal,
            limits=replace(
                Limits(), tries=chosen.tries, ahead=chosen.ahead, patience=chosen.patience, give_up=chosen.give_up
            ),
            output=chosen.output,
            again=chosen.again,
            tell=show.tell,
        )
        if chosen.page is not None:
            try:
                page = serve_page(farm, chosen.page)
            except (OSError, OverflowError) as error:
                raise ValueError(f"--page {chosen.page} cannot be used ({error}); name another port") from None
            show.tell(f"progress: http://127.0.0.1:{page.server_port}")
    except (OSError, ValueError, Away) as error:
        if journal is not None:
            journal.close()
        sys.stderr.write(sentence_of(error) + "\n")
        return 2
    return _run(farm, journal, show)


def _run(farm: Farm, journal: Journal, show: Show) -> int:
    old = sum(work.state == "done" for work in farm.works)
    on = sum(work.state == "on a server" for work in farm.works)
    if old or on:
        show.tell(f"{old} of {len(farm.works)} videos are there from earlier runs, {on} were sent and are asked for")
    show.farm = farm
    stopped = []

    def stop(number, _frame):
        if stopped:
            raise KeyboardInterrupt
        stopped.append(number)
        farm.stop("stopped by the user")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        is_done = farm.run(show=show.paint)
        show.paint(last=True)
    except KeyboardInterrupt:
        show.paint(last=True)
        sys.stderr.write("left at once; run the same command again to go on\n")
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        journal.close()
    states = [work.state for work in farm.works]
    for line in failures(farm):
        sys.stdout.write(line + "\n")
    left = states.count("waiting") + states.count("on a server")
    report = {"done": states.count("done"), "failed": states.count("failed"), "left": left, "out": str(farm.out)}
    sys.stdout.write(json.dumps(report) + "\n")
    if farm.stopping:
        running = sum(work.state == "on a server" for work in farm.works)
        sys.stderr.write(
            f"{farm.stopping}: {left} videos are not done, {running} of them are still on the servers, which go on. "
            "Run the same command again to fetch those and send the rest\n"
        )
        return 130 if stopped else 1
    if not is_done:
        sys.stderr.write(
            "Some videos failed. What a server caused is tried again by the same command, all with --again\n"
        )
    return 0 if is_done else 1


def _check(hosts: list[Host], show: Show) -> None:
    """Every address is a ComfyUI or silent, and one answers. Raises NotComfyUI or Away."""

    def ask(host: Host) -> Away | None:
        try:
            return host.check()
        except Away as reason:
            return reason

    with ThreadPoolExecutor(len(hosts)) as pool:
        answers = list(zip(hosts, pool.map(ask, hosts), strict=True))
    wrong = [f"{host.url}: {reason}" for host, reason in answers if isinstance(reason, NotComfyUI)]
    if wrong:
        raise NotComfyUI("\n".join(["nothing was sent. These addresses cannot be used:", *wrong]))
    silent = [f"{host.url}: {reason}" for host, reason in answers if reason is not None]
    if len(silent) == len(hosts):
        raise Away("\n".join(["nothing was sent. No server answers; start ComfyUI there (with --listen):", *silent]))
    for line in silent:
        show.tell(f"{line}; goes on without it until it answers")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or any(letter in text for letter in "\r\n"):
        raise ValueError(f'--header "{text}" must be "NAME: VALUE"')
    return name.strip(), value.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emo_model.farm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = Limits()
    parser.add_argument("jobs", type=Path, help="table of jobs (CSV with a header; paths from its folder)")
    parser.add_argument("--servers", nargs="+", required=True, metavar="URL", help="such as http://127.0.0.1:8188")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="folder of the videos and the journal"
    )
    parser.add_argument("--workflow", type=Path, default=WORKFLOW, help="workflow in API form (first_video.json)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.input=VALUE",
        help="an input for all jobs; {portrait}, {voice} and {other columns} stand for the row's values: "
        '--set "12.image={portrait}"',
    )
    parser.add_argument("--output", metavar="NODE", help="node whose video is meant, if the workflow makes several")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="(farm.jsonl in --out)")
    parser.add_argument("--again", action="store_true", help="try also what failed by its own fault in an earlier run")
    parser.add_argument("--dry-run", action="store_true", help="check table, workflow and servers, and send nothing")
    parser.add_argument("--page", type=int, metavar="PORT", help="progress at http://127.0.0.1:PORT")
    parser.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="of every request: a login"
    )
    for name, kind, low, text in (
        ("tries", int, 1, "how often one job may be hit by faults of servers"),
        ("ahead", int, 0, "jobs that wait on a server behind the running one"),
        ("patience", float, 0, "seconds that a server may be away before its jobs go to others"),
        ("give-up", float, 0, "seconds without any server after which to stop"),
    ):
        value = getattr(usual, name.replace("-", "_"))
        parser.add_argument(
            f"--{name}", type=_at_least(kind, low), default=value, metavar="N", help=f"{text} (%(default)g)"
        )
    parser.add_argument(
        "--timeout", type=_at_least(float, 0.1), default=30, metavar="N", help="seconds without an answer (30)"
    )
    return parser


def _at_least(kind: type, low: float):
    def read(text: str):
        value = kind(text)
        if not low <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be {low} or more, got {text}")
        return value

    read.__name__ = kind.__name__
    return read


if __name__ == "__main__":
    sys.exit(main())
