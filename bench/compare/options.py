"""The flags of `bessemer bench`, by command."""

import argparse
from collections.abc import Callable, Sequence
from typing import NoReturn

from bessemer.bench.compare.contest import Unavailable
from bessemer.bench.compare.machine import cores
from bessemer.bench.models.synthetic import DTYPES

ABOUT = {
    "decode": "tokens a second of one stream, after prompts of given lengths",
    "prefill": "prompt tokens a second",
    "batch": "tokens a second over several streams, each with a prompt and cache of its own",
    "serve": "the same through HTTP, with latencies; servers are started, URLs are asked",
    "load": "seconds until ready and until a first token, and the most memory held",
    "memory": "memory of a loaded model, with and without its KV pool",
    "quality": "structured output, reasoning apart from content, coherence",
}
ROUNDS = {"load": 5, "memory": 3}
CONTEXTS = {"decode": [32], "batch": [32], "serve": [64], "memory": [64]}
CONTEXT_HELP = {
    "decode": "tokens before, a list",
    "batch": "tokens of each prompt",
    "serve": "words of each prompt",
    "memory": "words of the prompt",
}
AMOUNTS = {
    "decode": ("tokens", "context", "chunk"),
    "prefill": ("lengths", "chunk"),
    "batch": ("tokens", "context", "streams", "chunk"),
    "serve": ("tokens", "context", "streams"),
    "load": (),
    "memory": ("tokens", "context"),
}
STREAMS = {"batch": [1, 2, 4, 8], "serve": [1, 2, 4, 8, 16]}


class Parser(argparse.ArgumentParser):
    """Mistakes are one sentence, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise Unavailable(message)


def numbers(text: str) -> list[int]:
    found = [int(part) for part in text.split(",")]
    if not found or min(found) < 0:
        raise ValueError
    return found


def names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def positive(text: str) -> int:
    if (found := int(text)) < 1:
        raise ValueError
    return found


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Raises Unavailable for a mistake."""
    parser = Parser(prog="bessemer bench", description="Measure Bessemer, alone or beside others.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command, about in ABOUT.items():
        added = commands.add_parser(command, help=about, description=about)
        if command == "quality":
            _quality(added)
        else:
            _model(added)
            _rounds(added, command)
            _amounts(added, command)
            _peers(added)
        _outputs(added)
    _others(commands)
    return parser.parse_args(list(arguments))


def _others(commands: "argparse._SubParsersAction[Parser]") -> None:
    log = commands.add_parser("log", help="write a saved result into bench/LOG.md")
    log.add_argument("files", nargs="+", metavar="FILE.json")
    log.add_argument("--into", metavar="FILE", help="another log (default: bench/LOG.md)")
    log.add_argument("--print", action="store_true", help="print the entries instead")
    draw = commands.add_parser("html", help="draw a saved result")
    draw.add_argument("file", metavar="FILE.json")
    draw.add_argument("page", metavar="FILE.html")
    commands.add_parser("shapes", help="list the shapes that --shape knows")


def _model(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", help="a directory or Hugging Face id (the built-in model)")
    which.add_argument("--shape", help="random weights of this shape; see bessemer bench shapes")
    parser.add_argument("--layers", type=positive, help="of the shape; marked in all output")
    parser.add_argument("--bits", type=int, help="of the shape's weights (4)")
    parser.add_argument("--group", type=int, default=64, help="weights that share a scale (64)")
    parser.add_argument(
        "--dtype", choices=list(DTYPES), help="dense weights; with --bits, that of scales"
    )
    parser.add_argument("--seed", type=int, default=1, help="of random weights and prompts (1)")
    parser.add_argument("--gguf", metavar="FILE", help="what llama.cpp runs, if not the shape")
    parser.add_argument(
        "--head", choices=("q6_k",), help="llama.cpp's head in 6 bits, as its quantizer makes it"
    )


def _rounds(parser: argparse.ArgumentParser, command: str) -> None:
    parser.add_argument(
        "--against",
        type=names,
        default=[],
        metavar="A,B",
        help="mlx_lm, mlx_lm:dense, mlx_lm:stored (each with +openblas), llama.cpp, URLs",
    )
    parser.add_argument("--rounds", type=positive, default=ROUNDS.get(command, 10))
    parser.add_argument(
        "--budget",
        type=float,
        default=60,
        metavar="SECONDS",
        help="for one measurement: fewer tokens for who is slower, said so; 0 is none (60)",
    )
    parser.add_argument("--without-ours", action="store_true", help="measure only the others")


def _amounts(parser: argparse.ArgumentParser, command: str) -> None:
    """A command takes the amounts that mean something to it, and has the others' defaults."""
    known: dict[str, tuple[Callable[[str], object], object, str]] = {
        "tokens": (positive, 64, "to generate"),
        "context": (numbers, CONTEXTS.get(command, [0]), CONTEXT_HELP.get(command, "")),
        "lengths": (numbers, [512], "of prompts"),
        "streams": (numbers, STREAMS.get(command, [1]), "at once"),
        "chunk": (positive, 256, "tokens of a prompt that we compute in one step"),
    }
    for name, (kind, default, about) in known.items():
        if name in AMOUNTS[command]:
            shown = ",".join(map(str, default)) if isinstance(default, list) else default
            parser.add_argument(f"--{name}", type=kind, default=default, help=f"{about} ({shown})")
        else:
            parser.set_defaults(**{name: default})
    parser.add_argument("--threads", type=positive, default=cores(), help="(the cores)")
    parser.add_argument("--precision", choices=("fast", "exact"), default="fast", help="of ours")


def _peers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mlx-lm-python", default="", metavar="PATH", help="that has mlx_lm")
    parser.add_argument("--llama-cpp", default="", metavar="DIR", help="with llama-bench")


def _quality(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", action="append", default=[], help="may be given again")
    parser.add_argument("--model", default="", help="served by us if there is no --url")
    parser.set_defaults(threads=cores(), precision="fast")
    parser.add_argument("--ask-for", default="", metavar="NAME", help="one of the URL's models")


def _outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--html", metavar="FILE", help="write a page with plots")
    parser.add_argument("--save", action="store_true", help="keep the JSON among your results")
    parser.add_argument("--save-to", metavar="DIR", help="keep it there")
    parser.add_argument("--log", action="store_true", help="write an entry into bench/LOG.md")
