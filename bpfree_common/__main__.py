"""The command line: ``python -m bpfree_common COMMAND``; the Makefile calls it."""

import argparse
import json
import os
import sys
from pathlib import Path

from bpfree_common import __version__, paths, records
from bpfree_common.data import datasets
from bpfree_common.errors import (
    CatalogueError,
    ParameterError,
    ReportError,
    UserError,
    short,
)
from bpfree_common.papers import catalogue, parameters, scaffold
from bpfree_common.running import publish
from bpfree_common.running.gpus import jobs_at_once


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns 0 (good), 1 (a notebook failed) or 2 (wrong input)."""
    options = _parser().parse_args(arguments)
    try:
        code = options.command(options)
        sys.stdout.flush()  # a reader who has left is noticed now, not at exit
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as stop:  # or SIGTERM, which says so
        print(f"{str(stop) or 'interrupted'}; finished reports are kept", file=sys.stderr)
        return getattr(stop, "exit_code", 130)
    except BrokenPipeError:  # `| head` has read enough; Python flushes again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as the shell says of a program that SIGPIPE ends


def run(options) -> int:
    """Bring reports up to date."""
    from bpfree_common.running import plan, runner, view

    reports, slugs = _reports(options), _slugs(options)
    overrides = _overrides(options.parameter)
    if overrides and len(slugs) != 1:
        raise ParameterError("parameters given by hand need exactly one notebook")
    publish.open_staging(reports, options.profile, "probe").rmdir()  # can we write?
    found = plan.plan(
        slugs, options.profile, overrides, reports, options.force, options.figures
    )
    _say_what_is_left_out(found, options)
    code = runner.run(
        found.jobs,
        reports,
        options.jobs,
        options.timeout,
        options.threads,
        svg=options.figures,
    )
    place = plan.place(options.profile, overrides)
    if options.figures:
        count = runner.collect_figures(slugs, place, reports)
        print(f"{count} figure files in {reports / 'figures' / place}")
    if target := view.to_open(slugs, place, reports):
        print(f"open    {target}")
    return code or (2 if found.refused else 0)


def _say_what_is_left_out(found, options) -> None:
    """Print which notebooks are not run, and why. Raises CatalogueError.

    A notebook that was asked for by name must have the profile; one sentence says which
    is wrong when nothing else is left to run.
    """
    names, profile = ", ".join(found.absent), options.profile
    if found.absent and options.slugs:
        raise CatalogueError(f"no {profile!r} profile in papers.yaml for: {names}")
    if found.absent:
        print(f"no {profile} profile: {names}")
    if found.fresh:
        print(f"up to date: {', '.join(found.fresh)}")
    for slug, text in found.refused.items():
        where = "" if slug in text else f"{slug}: "
        print(f"error: {where}{text}", file=sys.stderr)


def data(options) -> int:
    """Download and verify data sets."""
    for name in options.names or datasets.catalogue():
        if not options.names and not datasets.reachable(name):
            print(f"{name}: no official address; put its files under $BPFREE_DATA")
            continue
        files = datasets.files(name)
        about = datasets.catalogue()[name]["about"]
        print(f"{name}: {about} ({len(files)} files verified)")
    return 0


def check(options) -> int:
    """Say which reports of a profile are stale or missing; 1 if there is one."""
    reports, code = _reports(options), 0
    for slug in _slugs(options):
        entry = catalogue.get(slug)
        asked = options.slugs and options.profile == "quick"  # which every notebook has
        if not (asked or entry.has(options.profile)):
            if options.slugs:
                print(f"{slug}: has no {options.profile} profile")
                code = code or 2
            continue
        word, reason = records.state(slug, options.profile, reports)
        if word == "stale":
            code = 1
        said = {"current": "up to date", "confirmed": f"up to date ({reason})"}
        print(f"{slug}: {said.get(word, reason)}")
    return code


def confirm(options) -> int:
    """Confirm reports that an older commit made; 1 if one could not be confirmed."""
    from bpfree_common.records import confirmation

    entries = [catalogue.get(s) for s in _named(options.slugs) or catalogue.load()]
    profile = options.profile
    made = [e for e in entries if e.has(profile) and not (e.reads_records or e.own)]
    slugs = [entry.slug for entry in made]
    remake = options.remake if options.remake is not None else 2 * (profile == "standard")
    found = confirmation.confirm(
        slugs, options.since, _reports(options), profile, options.jobs, remake
    )
    for slug, reason in found.items():
        print(f"{slug}: {f'not confirmed: {reason}' if reason else 'confirmed'}")
    return 1 if any(found.values()) else 0


def new(options) -> int:
    """Write the notebook, the entry and the test of a new rule."""
    slug, words = options.slug, (options.title, options.family, options.short)
    made = scaffold.new(slug, *words, own=options.mine)
    for what in ("notebook", "test", "catalogue"):
        print(f"{what:9} {os.path.relpath(getattr(made, what))}")
    print(f"run       python -m bpfree_common run {slug}")
    print(f"test      python -m pytest {os.path.relpath(made.test)}")
    return 0


def compare(options) -> int:
    """Say how two folders of reports differ; 1 if they do."""
    from bpfree_common.running.compare import differences

    found = differences(options.one, options.two, not options.records)
    print("\n".join(found) or "the reports are canonically identical")
    return 1 if found else 0


def readme(options) -> int:
    """Write what README tells of the standard records anew."""
    from bpfree_common.studies import front

    print(f"written: {front.write().relative_to(paths.PROJECT)}")
    return 0


def atlas(options) -> int:
    """Write every claim of every paper and what became of it, as JSON."""
    from bpfree_common.publishing import atlas as claims

    made = claims.make(options.profile)
    if options.output is None:
        print(json.dumps(made, indent=1, ensure_ascii=False))
        return 0
    try:
        claims.write(made, options.output)
    except OSError as error:
        raise ReportError(
            f"{options.output} cannot be written: {error.strerror}"
        ) from None
    print(f"written: {options.output} ({len(made['claims'])} claims)")
    return 0


def site(options) -> int:
    """Build the website from committed reports and records; nothing is executed."""
    from bpfree_common.publishing import site as website

    output = (options.output or paths.reports() / "site").resolve()
    first = website.build(output, options.profile, options.repository)
    print(f"open    {first}")
    return 0


def figures(options) -> int:
    """Write the figures of reports as they are to files; nothing is executed."""
    from bpfree_common.publishing import figures as pictures

    reports, slugs = _reports(options), _slugs(options)
    count = pictures.collect(slugs, options.profile, reports)
    if not count:
        raise ReportError(
            f"no {options.profile} report has figures in {reports}: run it first"
        )
    print(f"{count} figure files in {reports / 'figures' / options.profile}")
    return 0


def papers(options) -> int:
    """List the notebooks of the collection; with --json for other programs."""
    entries = catalogue.load().values()
    if options.json:
        print(json.dumps([_listed(entry) for entry in entries], indent=1))
        return 0
    told = set()
    for entry in entries:
        profiles = ", ".join(entry.runs_at) if entry.is_paper else ""
        about = f"{entry.title}{f' [{profiles}]' if profiles else ''}"
        if entry.of:
            count = len(catalogue.jobs(entry.of))
            about = f"{entry.title.rpartition(':')[0]} ({count} jobs)"
        if (name := entry.of or entry.slug) not in told:
            print(f"{name:28} {about}")
        told.add(name)
    return 0


def _listed(entry: catalogue.Entry) -> dict:
    """What --json says of a notebook: of the catalogue only, not of any report."""
    shown = {name: getattr(entry, name) for name in ("slug", "title", "short", "family")}
    return shown | {
        "profiles": entry.runs_at,
        "reads_records": bool(entry.reads_records),
        "builds_on": entry.builds_on,
        "notebook": entry.path.relative_to(paths.NOTEBOOKS).as_posix(),
    }


def parameters_of(options) -> int:
    """List what can be set in a notebook: values of a profile, ranges, meaning."""
    entry = catalogue.get(options.slug)
    values = entry.resolve(options.profile)
    for name, declared in entry.declared().items():
        given = f"{name}={values[name]}"
        print(f"{given:28} {declared.type:5} {declared.limits}  | {declared.help}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bpfree_common", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("run", help="bring reports up to date", add_help=False)
    words = "show this, and the parameters of the notebooks named before it"
    one.add_argument("-h", "--help", action=_Help, help=words)
    one.add_argument("slugs", nargs="*", metavar="NOTEBOOK")
    one.add_argument("--profile", default="quick", choices=catalogue.PROFILES)
    words = "at once; left out: one per GPU, or per processor without any"
    one.add_argument("--jobs", type=_positive, default=jobs_at_once(), help=words)
    one.add_argument("--threads", type=_positive, default=1, help="per notebook")
    words = "seconds for one whole run; 0 or left out: the profile's limit"
    one.add_argument("--timeout", type=_seconds, help=words)
    one.add_argument("--force", action="store_true", help="run even what is up to date")
    one.add_argument("--figures", action="store_true", help="collect PNG and SVG files")
    one.add_argument("--reports", type=_folder, help="folder of reports")
    one.add_argument(
        "-p", "--parameter", action="append", default=[], metavar="NAME=VALUE"
    )
    one.set_defaults(command=run)
    one = commands.add_parser("data", help="download and verify data sets")
    one.add_argument("names", nargs="*", metavar="DATASET")
    one.set_defaults(command=data)
    one = commands.add_parser("check", help="say which reports are stale")
    one.add_argument("slugs", nargs="*", metavar="NOTEBOOK")
    one.add_argument("--profile", default="quick", choices=catalogue.PROFILES)
    one.add_argument("--reports", type=_folder, help="folder of reports")
    one.set_defaults(command=check)
    one = commands.add_parser("compare", help="compare two folders of reports")
    one.add_argument("one", type=Path)
    one.add_argument("two", type=Path)
    words = "records and figures only: nbval keeps no executed notebook"
    one.add_argument("--records", action="store_true", help=words)
    one.set_defaults(command=compare)
    one = commands.add_parser("confirm", help="show that old reports hold for new code")
    one.add_argument("slugs", nargs="*", metavar="NOTEBOOK")
    one.add_argument("--since", required=True, help="the commit that made the reports")
    one.add_argument("--profile", default="standard", choices=catalogue.PROFILES[1:])
    one.add_argument("--jobs", type=_positive, default=jobs_at_once())
    words = "reports to make again as a sample; left out: 2, none at a paper's scale"
    one.add_argument("--remake", type=int, help=words)
    one.add_argument("--reports", type=Path, help="folder of reports")
    one.set_defaults(command=confirm)
    one = commands.add_parser("new", help="begin a rule: notebook, entry and test")
    one.add_argument("slug", metavar="NAME", help="small letters, digits and _")
    one.add_argument("--title", required=True, help="the paper's, or your idea's")
    one.add_argument("--family", required=True, help=", ".join(catalogue.FAMILIES))
    one.add_argument("--short", default="", help="how figures call it")
    words = "a rule of your own, in notebooks/my/, which git ignores"
    one.add_argument("--mine", action="store_true", help=words)
    one.set_defaults(command=new)
    one = commands.add_parser("readme", help="write README's findings from the records")
    one.set_defaults(command=readme)
    one = commands.add_parser("atlas", help="write all claims and verdicts as JSON")
    one.add_argument("--profile", default="standard", choices=catalogue.PROFILES)
    words = "a file; left out: the terminal"
    one.add_argument("-o", "--output", type=Path, metavar="FILE", help=words)
    one.set_defaults(command=atlas)
    one = commands.add_parser("site", help="build the website from the reports")
    one.add_argument("--profile", default="standard", choices=catalogue.PROFILES)
    one.add_argument("-o", "--output", type=_folder, help="a folder; else reports/site")
    words = "OWNER/NAME on GitHub: badges open the papers in Colab"
    one.add_argument("--repository", default="", help=words)
    one.set_defaults(command=site)
    one = commands.add_parser("figures", help="write the figures of reports to files")
    one.add_argument("slugs", nargs="*", metavar="NOTEBOOK")
    one.add_argument("--profile", default="standard", choices=catalogue.PROFILES)
    one.add_argument("--reports", type=_folder, help="folder of reports")
    one.set_defaults(command=figures)
    one = commands.add_parser("list", help="list the notebooks")
    one.add_argument("--json", action="store_true", help="for other programs")
    one.set_defaults(command=papers)
    one = commands.add_parser("parameters", help="list what a notebook lets one set")
    one.add_argument("slug", metavar="NOTEBOOK")
    one.add_argument("--profile", default="quick", choices=catalogue.PROFILES)
    one.set_defaults(command=parameters_of)
    return parser


class _Help(argparse.Action):
    """`run NOTEBOOK --help` shows the notebook's parameters too."""

    def __init__(self, option_strings, dest, help=None):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser, namespace, values, option_string=None):
        parser.print_help()
        for slug in namespace.slugs or []:
            print(f"\nparameters of {slug} (-p NAME=VALUE):")
            code = main(["parameters", slug, "--profile", namespace.profile])
            if code:
                parser.exit(code)
        parser.exit()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds, 0 or more")
    return value


def _folder(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("must name a folder")
    return Path(text)


def _overrides(assignments: list[str]) -> dict:
    """Parameters given by hand. Raises ParameterError for one that is given twice."""
    overrides: dict = {}
    for name, value in map(_assignment, assignments):
        if name in overrides:
            raise ParameterError(f"parameter {short(name)} is given twice")
        overrides[name] = value
    return overrides


def _assignment(text: str) -> tuple[str, object]:
    """NAME=VALUE, the value as a Python literal or else as a string."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ParameterError(f"{short(text)} is not NAME=VALUE")
    try:
        return name, parameters.literal(value)
    except ValueError:
        return name, value


def _slugs(options) -> list[str]:
    """The notebooks asked for; all by default. Unknown names raise CatalogueError.

    Jobs that quick leaves out run there only if they are asked for.
    """
    if options.slugs:
        return [catalogue.get(slug).slug for slug in _named(options.slugs)]
    quick = options.profile == "quick"
    return [s for s, entry in catalogue.load().items() if entry.quick or not quick]


def _named(names: list[str]) -> list[str]:
    """The slugs that some names stand for: an entry with jobs is all of them."""
    return [slug for name in names for slug in catalogue.jobs(name) or [name]]


def _reports(options) -> Path:
    return (options.reports or paths.reports()).resolve()


if __name__ == "__main__":
    sys.exit(main())
