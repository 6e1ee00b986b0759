"""Everything Framedeck knows and does without a window. No Qt in here."""

import os as _os

if "FRAMEDECK_BYTECODE" in _os.environ:
    from core import bytecode as _bytecode

    _bytecode.use_as_told()
