"""The command `orl`. Only what a command needs is imported, so that `orl --help` answers at once."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.prepare_environment import prepare_environment
from stages.store.manifest import StoreError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> None:
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser, commands = _parser()
    if words and words[0] in commands:
        # Intermixed: a word that may be left out, such as the step of `orl explain`, may also follow an option.
        options = commands[words[0]].parse_intermixed_args(words[1:])
    else:  # --help, or a mistake
        options = parser.parse_args(words)
    try:
        status = options.command(options)
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except (ValueError, OSError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        status = EXIT_USAGE
    sys.exit(status)


def _parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser of the whole, and of each command by name."""
    parser = argparse.ArgumentParser(
        prog="orl",
        description="Object-level self-supervised pretraining from scene photographs.",
        epilog="First steps: `orl run demo`, then `orl run demo --images DIR` with a folder of your own photos.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the pipeline in the foreground; what is up to date is not made again")
    _add_config(run)
    run.add_argument("--images", metavar="DIR", type=Path, help="pretrain on this folder of photos, nested or not")
    run.add_argument("--until", metavar="STAGE", help="make this stage or step, what it needs, and nothing after it")
    run.add_argument("--force", metavar="STAGE", action="append",
                     help="make a stage or step again although it is up to date")  # fmt: skip
    run.set_defaults(command=_run)

    sweep = commands.add_parser("sweep", help="run several variants of a config, each with several seeds: one table")
    sweep.add_argument("file", help="a sweep file, or the name of one in configs/ablations/")
    _add_changes(sweep)
    sweep.add_argument("--seeds", metavar="N", type=int, nargs="+", help="instead of those of the file")
    sweep.add_argument("--only", metavar="MEMBER", nargs="+", help="these members of the file alone")
    sweep.set_defaults(command=_sweep)

    evaluate = commands.add_parser("evaluate", help="measure encoders side by side on labelled data")
    evaluate.add_argument("encoders", metavar="ENCODER", nargs="+",
                          help="[LABEL=]WHAT: CONFIG/STEP such as demo/object_pretraining, a directory, a file of "
                               "weights, random:resnet50, timm:NAME or torchvision:NAME")  # fmt: skip
    evaluate.add_argument("--on", metavar="SUITE", required=True,
                          help="a file, or the name of one in configs/evaluation/")  # fmt: skip
    evaluate.add_argument("--protocol", metavar="NAME", dest="protocols", action="append",
                          help="this protocol of the suite; may be repeated; default: all")  # fmt: skip
    evaluate.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the report")
    evaluate.add_argument("--force", metavar="STEP", action="append",
                          help="make a protocol or step again although it is up to date")  # fmt: skip
    _add_changes(evaluate)
    evaluate.set_defaults(command=_evaluate)

    step = commands.add_parser("step", help="make one step in this process; under torchrun, as one of many")
    _add_config(step)
    step.add_argument("step", help="such as image_pretraining; what it needs must be there")
    step.set_defaults(command=_step)

    explain = commands.add_parser("explain", help="which steps are up to date, and what differs where they are not")
    _add_config(explain)
    explain.add_argument("step", nargs="?", help="only this stage or step")
    explain.add_argument("--images", metavar="DIR", type=Path, help="as in `orl run`")
    explain.set_defaults(command=_explain)

    config = commands.add_parser("config", help="print a configuration, or a suite (evaluation/voc), with all defaults")
    _add_config(config)
    config.set_defaults(command=_config)

    export = commands.add_parser("export", help="write a backbone, or neighbours, boxes and pairs, for another program")
    export.add_argument("what", metavar="ENCODER|CONFIG",
                        help="an encoder as in `orl evaluate`; for orl_json a config")  # fmt: skip
    _add_changes(export)
    libraries = ["timm", "torchvision", "detectron2", "safetensors", "orl_json"]
    export.add_argument("--to", choices=libraries, required=True,
                        help="the library that reads the backbone; orl_json: for ORL's official code")  # fmt: skip
    export.add_argument("--out", metavar="PATH", type=Path, required=True, help="the file; for orl_json a folder")
    export.set_defaults(command=_export)

    listing = commands.add_parser("ls", help="what is in artifacts/")
    listing.set_defaults(command=_ls)

    verify = commands.add_parser("verify", help="hash every file again and compare it with its manifest")
    verify.set_defaults(command=_verify)

    collect = commands.add_parser("gc", help="delete what neither the last run of a config nor a pin reaches")
    collect.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    collect.set_defaults(command=_gc)

    for word, help in (("pin", "keep a version for ever: STEP/VERSION"), ("unpin", "undo `orl pin`")):
        pin = commands.add_parser(word, help=help)
        pin.add_argument("artifact", metavar="STEP/VERSION")
        pin.set_defaults(command=_pin, word=word)
    return parser, commands.choices


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="a file, or the name of one in configs/")
    _add_changes(parser)


def _add_changes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", metavar="FIELD=VALUE", dest="overrides", action="append", default=[],
                        help="override one field, such as retrieval.neighbors=20")  # fmt: skip
    parser.add_argument("--tiny", action="store_true", help="a rehearsal on generated scenes with a small network")


def _overrides(options: argparse.Namespace) -> list[str]:
    images = getattr(options, "images", None)
    if images is None:
        return options.overrides
    if options.tiny:
        raise ValueError("--images and --tiny exclude each other: a rehearsal runs on generated scenes")
    return ["dataset.format=folder", f"dataset.root={json.dumps(str(images.absolute()))}", *options.overrides]


def _run(options: argparse.Namespace) -> int:
    prepare_environment()
    from flows.foreground import run_in_foreground

    return run_in_foreground(options.config, _overrides(options), options.until, options.force, options.tiny)


def _sweep(options: argparse.Namespace) -> int:
    prepare_environment()
    from flows.sweep import run_sweep

    return run_sweep(options.file, options.overrides, options.seeds, options.only, options.tiny)


def _evaluate(options: argparse.Namespace) -> int:
    prepare_environment()
    from flows.evaluate import run_evaluation

    return run_evaluation(
        options.encoders, options.on, options.protocols, options.overrides, options.force, options.tiny, options.out
    )


def _step(options: argparse.Namespace) -> int:
    from flows.step import run_step_here

    run_step_here(options.config, options.overrides, options.tiny, options.step)
    return 0


def _explain(options: argparse.Namespace) -> int:
    from flows import inventory_pages
    from flows.prepare import prepare

    _, _, plan = prepare(options.config, _overrides(options), options.tiny, options.step)
    inventory_pages.explain(plan, options.step)
    return 0


def _config(options: argparse.Namespace) -> int:
    import yaml

    from stages.config.files import load_config
    from stages.config.suite import load_suite

    suite = options.config.removeprefix("evaluation/")
    load = load_config if suite == options.config else load_suite
    tree = load(suite, options.overrides, tiny=options.tiny).model_dump(mode="json")
    print(yaml.safe_dump(tree, sort_keys=False), end="")
    return 0


def _export(options: argparse.Namespace) -> int:
    from flows.exchange import export_encoder, export_orl_json

    if options.to == "orl_json":
        export_orl_json(options.what, options.overrides, options.tiny, options.out)
    elif options.overrides or options.tiny:
        raise ValueError(f"--set and --tiny change a config, and --to {options.to} takes an encoder: leave them out")
    else:
        export_encoder(options.what, options.to, options.out)
    return 0


def _ls(options: argparse.Namespace) -> int:
    from flows import inventory_pages

    inventory_pages.listing()
    return 0


def _verify(options: argparse.Namespace) -> int:
    from flows import inventory_pages

    return EXIT_FAILED if inventory_pages.verify() else 0


def _gc(options: argparse.Namespace) -> int:
    from flows import inventory_pages

    inventory_pages.collect(dry_run=options.dry_run)
    return 0


def _pin(options: argparse.Namespace) -> int:
    from flows import inventory_pages

    inventory_pages.pin(options.artifact, keep=options.word == "pin")
    return 0
