"""The model libraries' chatter, turned off."""

from __future__ import annotations

import warnings


def hush() -> None:
    """Keep hints and bars of diffusers and transformers out of the log.

    What a person needs to know is told by events. Called before the
    libraries' own parts are first used, since some speak while imported.
    """
    # Samplers of diffusers hand tensors to NumPy 2 in its old way; it works.
    warnings.filterwarnings(
        "ignore",
        message="__array__ implementation doesn't accept a copy keyword",
        category=DeprecationWarning,
    )
    import diffusers
    import transformers
    from tqdm import tqdm  # type: ignore[import-untyped]

    # No thread is needed to watch over bars that are never drawn.
    tqdm.monitor_interval = 0
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
