"""The worker: `python -m core.engines.local`, job lines in, event lines out.

Standard output carries events only: it is moved aside first, so that whatever
libraries print goes to standard error, which the parent directs to the log.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    """Serve jobs until standard input ends."""
    lines_in, lines_out = os.dup(0), os.dup(1)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a device
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    faulthandler.enable()

    parser = argparse.ArgumentParser(prog="core.engines.local", description=__doc__)
    parser.add_argument("--ring", required=True, help="where frames go, as the parent says")
    parser.add_argument("--lifeline", type=int, help="descriptor that ends this process")
    parser.add_argument("--extra-family", action="append", default=[], type=Path, help="a file")
    parser.add_argument("--latents", type=Path, help="folder that keeps latents between tries")
    parser.add_argument("--speeds", type=Path, help="file of what was measured fastest here")
    parser.add_argument("--trace", type=Path, help="file for the stacks when this crashes")
    options = parser.parse_args()

    from core.crashes import trace
    from core.engines.local import lifeline

    if options.lifeline is not None:
        lifeline.obey(options.lifeline)
    lifeline.be_polite()
    stacks = trace.catch(options.trace) if options.trace is not None else None
    # Ctrl-C reaches the whole terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    from core.engines.local.worker import Worker
    from core.frames import Ring

    ring = Ring.attach(["--ring", options.ring])
    kept = options.latents, options.speeds
    Worker(lines_in, lines_out, ring, options.extra_family, *kept).serve()
    del stacks  # Held until here: a file that is closed takes nothing.


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
