"""The model libraries' chatter, turned off."""

from __future__ import annotations


def hush() -> None:
    """Keep hints and bars of diffusers and transformers out of the log.

    What a person needs to know is told by events. Called before the
    libraries' own parts are first used, since some speak while imported.
    """
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
