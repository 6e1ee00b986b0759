"""What a ComfyUI server can be started with: a sentence on each, and a check of its value."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from core.errors import invalid


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument.

    Attributes:
        flag: As it is written.
        help: One sentence.
        value: What follows it, in a word for people; "" when nothing does.
        choices: The words that may follow, when they are few.
        least: Smallest number that may follow, None when it is no number.
        most: Largest one.
        whole: It is a whole number.
        optional: What follows may be left out.
        group: Of one group, one at most can be given.
    """

    flag: str
    help: str
    value: str = ""
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float = 1e9
    whole: bool = False
    optional: bool = False
    group: str = ""


ARGUMENTS: tuple[Argument, ...] = (
    Argument("--lowvram", "Loads models in parts, for cards with little memory.", group="memory"),
    Argument("--novram", "As --lowvram and slower, for when that is not enough.", group="memory"),
    Argument("--highvram", "Keeps models on the card instead of moving them out.", group="memory"),
    Argument("--gpu-only", "Keeps everything on the card, text encoders too.", group="memory"),
    Argument("--normalvram", "Moves models in and out as needed, whatever fits.", group="memory"),
    Argument("--cpu", "Computes on the processor: slow, and needs no card.", group="memory"),
    Argument(
        "--reserve-vram",
        "Leaves this much of the card to the desktop and other programs.",
        "GB",
        least=0,
        most=1_000,
    ),
    Argument(
        "--disable-smart-memory",
        "Moves models out of the card after each use instead of keeping them.",
    ),
    Argument(
        "--cache-none", "Keeps no results of nodes: least memory, nothing is reused.", group="cache"
    ),
    Argument(
        "--cache-lru",
        "Keeps the results of this many nodes for later runs.",
        "nodes",
        least=0,
        most=100_000,
        whole=True,
        group="cache",
    ),
    Argument("--cache-classic", "Keeps results of the last graph only.", group="cache"),
    Argument(
        "--preview-method",
        "Sends pictures while sampling; without it there is no preview.",
        "method",
        choices=("none", "auto", "latent2rgb", "taesd"),
    ),
    Argument(
        "--preview-size",
        "Longest side of those pictures.",
        "pixels",
        least=1,
        most=4_096,
        whole=True,
    ),
    Argument(
        "--port",
        "Where it listens; it is taken from the server's address and need not be given.",
        "number",
        least=1,
        most=65_535,
        whole=True,
    ),
    Argument(
        "--listen",
        "Lets other machines in: 0.0.0.0 means the whole network. Leave it out for this one only.",
        "address",
        optional=True,
    ),
    Argument("--cuda-device", "Number of the card it may use.", "number"),
    Argument("--output-directory", "Folder that it saves to.", "folder"),
    Argument("--input-directory", "Folder that it takes pictures from.", "folder"),
    Argument("--temp-directory", "Folder for what it needs for a while.", "folder"),
    Argument("--base-directory", "Folder that holds models, input and output.", "folder"),
    Argument("--extra-model-paths-config", "File that names further model folders.", "file"),
    Argument("--force-fp16", "Computes with 16 bits everywhere."),
    Argument("--force-fp32", "Computes with 32 bits everywhere: twice the memory."),
    Argument(
        "--fp16-vae",
        "Decodes with 16 bits: less memory, black frames on some models.",
        group="vae",
    ),
    Argument("--bf16-vae", "Decodes with 16 bits of a wider range.", group="vae"),
    Argument("--fp32-vae", "Decodes with 32 bits: safe, and twice the memory.", group="vae"),
    Argument("--cpu-vae", "Decodes on the processor: slow, and cannot run out of VRAM."),
    Argument("--fp8_e4m3fn-text-enc", "Keeps text encoders in 8 bits.", group="text"),
    Argument("--fp8_e5m2-text-enc", "Keeps text encoders in 8 bits, another kind.", group="text"),
    Argument(
        "--use-split-cross-attention", "Attention in parts: less memory, slower.", group="attention"
    ),
    Argument("--use-pytorch-cross-attention", "Attention as PyTorch does it.", group="attention"),
    Argument(
        "--use-sage-attention",
        "Faster attention; its package must be installed.",
        group="attention",
    ),
    Argument(
        "--use-flash-attention",
        "Faster attention; its package must be installed.",
        group="attention",
    ),
    Argument("--disable-xformers", "Leaves xformers alone although it is installed."),
    Argument("--async-offload", "Moves weights while it computes.", optional=True),
    Argument("--fast", "Takes shortcuts that can change pictures a little.", optional=True),
    Argument("--deterministic", "Gives the same picture each time, more slowly."),
    Argument("--disable-all-custom-nodes", "Starts without node packs, to find a broken one."),
    Argument("--disable-metadata", "Saves files without their workflow."),
    Argument(
        "--verbose",
        "How much it writes into its log.",
        "level",
        choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        optional=True,
    ),
)

_OTHERS = """
    --tls-keyfile --tls-certfile --enable-cors-header --max-upload-size --auto-launch
    --disable-auto-launch --default-device --cuda-malloc --disable-cuda-malloc --fp32-unet
    --fp64-unet --bf16-unet --fp16-unet --fp8_e4m3fn-unet --fp8_e5m2-unet --fp8_e8m0fnu-unet
    --fp16-text-enc --fp32-text-enc --bf16-text-enc --force-channels-last --directml
    --oneapi-device-selector --disable-ipex-optimize --supports-fp8-compute --cache-ram
    --use-quad-cross-attention --force-upcast-attention --dont-upcast-attention --enable-manager
    --disable-async-offload --force-non-blocking --default-hashing-function --mmap-torch-files
    --disable-mmap --dont-print-server --quick-test-for-ci --windows-standalone-build
    --whitelist-custom-nodes --disable-api-nodes --multi-user --log-stdout --front-end-version
    --front-end-root --user-directory --enable-compress-response-body --comfy-api-base
    --database-url --disable-pinned-memory
"""
"""Arguments without a sentence; here so that none of them is taken for a slip of another."""


def split(text: str) -> tuple[str, ...]:
    """Return the words of a command line; quotes keep words together.

    Raises:
        ProblemError: A quote is not closed; the problem names the field "arguments".
    """
    try:
        lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
        lexer.whitespace_split = True
        lexer.commenters = ""
        if sys.platform == "win32":
            lexer.escape = ""  # A backslash parts folders there.
        return tuple(lexer)
    except ValueError:
        raise invalid("arguments", "A quote is not closed.", "Close it, or leave it out.") from None


def join(arguments: Sequence[str]) -> str:
    """Return the command line that `split` takes apart again."""
    if sys.platform == "win32":
        return " ".join(f'"{word}"' if " " in word or not word else word for word in arguments)
    return shlex.join(arguments)


def check(arguments: Sequence[str], port: int) -> None:
    """Check what is known of these arguments; others are left to the server.

    Args:
        arguments: One word each.
        port: Where the server's address says it listens.

    Raises:
        ProblemError: One cannot be used; the problem names the field "arguments".
    """
    known = {each.flag: each for each in ARGUMENTS}
    groups: dict[str, str] = {}
    words = list(arguments)
    while words:
        flag, equals, value = words.pop(0).partition("=")
        if not flag.startswith("-"):
            continue  # What follows an argument that is not in the table.
        argument = known.get(flag)
        if argument is None:
            _unknown(flag, known)
            while words and not words[0].startswith("--"):
                words.pop(0)
            continue
        before = groups.setdefault(argument.group or flag, flag)
        if argument.group and before != flag:
            raise invalid(
                "arguments", f"{before} and {flag} exclude each other.", "Leave one of them out."
            )
        if not equals and (argument.value or argument.optional):
            value = words.pop(0) if words and not words[0].startswith("--") else ""
        elif not equals and words and not words[0].startswith("-"):
            raise invalid("arguments", f"{flag} takes no value.", f"Leave {words[0]!r} out.")
        _value(argument, value, given=bool(value) or bool(equals), port=port)


def _unknown(flag: str, known: dict[str, Argument]) -> None:
    """Refuse what is surely mistyped; servers have many more arguments than the table."""
    near = [] if flag in _OTHERS.split() else get_close_matches(flag, known, 1, 0.86)
    if near and abs(len(near[0]) - len(flag)) <= 1:
        raise invalid(
            "arguments", f"The servers know no argument {flag}.", f"Did you mean {near[0]}?"
        )


def _value(argument: Argument, value: str, *, given: bool, port: int) -> None:
    flag = argument.flag
    if not given:
        if argument.value and not argument.optional:
            raise invalid(
                "arguments", f"{flag} needs a value.", f"Write it like {example(argument)}."
            )
        return
    if not argument.value and not argument.optional:
        raise invalid("arguments", f"{flag} takes no value.", f"Write {flag} alone.")
    if argument.choices and value not in argument.choices:
        words = ", ".join(argument.choices)
        raise invalid("arguments", f"{flag} cannot be {value!r}.", f"Choose one of: {words}.")
    if argument.least is None:
        return
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not argument.least <= number <= argument.most or (argument.whole and number % 1):
        kind = "a whole number" if argument.whole else "a number"
        raise invalid(
            "arguments",
            f"{flag} cannot be {value!r}.",
            f"Give {kind} from {argument.least:g} to {argument.most:g}.",
        )
    if flag == "--port" and int(number) != port:
        raise invalid(
            "arguments",
            f"The address says port {port} and the arguments say {int(number)}.",
            "Leave --port out, or change the address.",
        )


def example(argument: Argument) -> str:
    """Return how an argument is written."""
    if argument.choices:
        return f"{argument.flag} {argument.choices[-1]}"
    if argument.least is not None:
        return f"{argument.flag} {max(argument.least, 1):g}"
    return f"{argument.flag} {argument.value}" if argument.value else argument.flag
