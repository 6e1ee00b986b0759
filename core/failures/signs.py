"""By what a cause is known: names of types, numbers of the system, words in texts.

The words are those of ComfyUI, torch, diffusers, huggingface_hub, requests,
urllib3, aiohttp, ffmpeg, SQLite, Linux and Windows.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from types import MappingProxyType

from core.failures.causes import Cause

MODEL_FILE = r"\.(?:safetensors|ckpt|pt|pth|sft|gguf|onnx|bin)\b"

TYPES: Mapping[str, Cause] = MappingProxyType(
    {
        name: cause
        for cause, names in {
            Cause.GPU_MEMORY: "OutOfMemoryError OOM_EXCEPTION",
            Cause.HOST_MEMORY: "MemoryError _ArrayMemoryError",
            Cause.MODEL_DAMAGED: "SafetensorError UnpicklingError",
            Cause.MODEL_MISSING: (
                "RepositoryNotFoundError EntryNotFoundError LocalEntryNotFoundError "
                "RemoteEntryNotFoundError RevisionNotFoundError HFValidationError"
            ),
            Cause.MODEL_LOCKED: "GatedRepoError",
            Cause.TIMED_OUT: (
                "TimeoutError Timeout ReadTimeout ConnectTimeout ReadTimeoutError "
                "ConnectTimeoutError ServerTimeoutError ConnectionTimeoutError "
                "SocketTimeoutError WebSocketTimeoutException TimeoutExpired"
            ),
            Cause.REFUSED: "ConnectionRefusedError NewConnectionError",
            Cause.BROKEN_OFF: (
                "ConnectionResetError ConnectionAbortedError BrokenPipeError RemoteDisconnected "
                "ProtocolError ServerDisconnectedError WebSocketConnectionClosedException "
                "IncompleteRead ChunkedEncodingError"
            ),
            Cause.UNREACHABLE: "gaierror NameResolutionError ClientConnectorDNSError",
            Cause.CERTIFICATE: (
                "SSLError SSLCertVerificationError ClientConnectorCertificateError"
            ),
            Cause.NETWORK: (
                "RequestException MaxRetryError ProxyError HTTPException ClientError "
                "WebSocketException"
            ),
            Cause.PACKAGE: "ImportError ModuleNotFoundError",
            Cause.DIED: "BrokenProcessPool BrokenExecutor",
            Cause.VALUE: "MissingSchema InvalidSchema InvalidURL LocationParseError",
            Cause.INPUT: "UnidentifiedImageError DecompressionBombError",
            Cause.PERMISSION: "PermissionError",
            Cause.FILE_MISSING: "FileNotFoundError",
            Cause.STORAGE: "DatabaseError OperationalError",
            # Its words are a name that somebody chose.
            Cause.UNKNOWN: "KeyError",
            Cause.INTERRUPTED: "InterruptProcessingException KeyboardInterrupt",
        }.items()
        for name in names.split()
    }
)
"""Causes by the name of an exception's class, whichever library it is of."""

CERTAIN = frozenset(
    {Cause.GPU_MEMORY, Cause.MODEL_LOCKED, Cause.INTERRUPTED, Cause.INPUT, Cause.UNKNOWN}
)
"""A type that says one of these is believed whatever its words are."""

NUMBERS: Mapping[int, Cause] = MappingProxyType(
    {
        errno.ENOMEM: Cause.HOST_MEMORY,
        errno.ENOSPC: Cause.DISK_FULL,
        errno.EDQUOT: Cause.DISK_FULL,
        errno.EFBIG: Cause.DISK_FULL,
        errno.EACCES: Cause.PERMISSION,
        errno.EPERM: Cause.PERMISSION,
        errno.EROFS: Cause.PERMISSION,
        errno.EADDRINUSE: Cause.PORT_TAKEN,
        errno.ECONNREFUSED: Cause.REFUSED,
        errno.ECONNRESET: Cause.BROKEN_OFF,
        errno.ECONNABORTED: Cause.BROKEN_OFF,
        errno.EPIPE: Cause.BROKEN_OFF,
        errno.ENETUNREACH: Cause.UNREACHABLE,
        errno.EHOSTUNREACH: Cause.UNREACHABLE,
        errno.ENETDOWN: Cause.UNREACHABLE,
        errno.ETIMEDOUT: Cause.TIMED_OUT,
    }
)
"""Causes by `OSError.errno`. Windows maps its own numbers to these but for those below."""

WINDOWS: Mapping[int, Cause] = MappingProxyType(
    {
        2: Cause.FILE_MISSING,
        3: Cause.FILE_MISSING,
        5: Cause.PERMISSION,
        8: Cause.HOST_MEMORY,
        14: Cause.HOST_MEMORY,
        32: Cause.PERMISSION,
        39: Cause.DISK_FULL,
        112: Cause.DISK_FULL,
        1455: Cause.HOST_MEMORY,
        10048: Cause.PORT_TAKEN,
        10054: Cause.BROKEN_OFF,
        10060: Cause.TIMED_OUT,
        10061: Cause.REFUSED,
        10065: Cause.UNREACHABLE,
        11001: Cause.UNREACHABLE,
    }
)
"""Causes by `OSError.winerror`, and by the numbers that Rust's libraries name "os error"."""

STATUSES: Mapping[int, Cause] = MappingProxyType(
    {
        400: Cause.VALUE,
        401: Cause.NOT_LET_IN,
        403: Cause.NOT_LET_IN,
        404: Cause.NETWORK,
        407: Cause.NOT_LET_IN,
        408: Cause.TIMED_OUT,
        413: Cause.TOO_LONG,
        422: Cause.VALUE,
        429: Cause.BUSY,
        502: Cause.NETWORK,
        503: Cause.BUSY,
        504: Cause.TIMED_OUT,
    }
)
"""Causes by the status of an HTTP answer."""

# The order decides: what is surest of itself comes first, the broadest words last.
_WORDS: tuple[tuple[Cause, str], ...] = (
    (
        Cause.GPU_LOST,
        r"GPU is lost|fallen off the bus|driver/library version mismatch|"
        r"unable to determine the device handle",
    ),
    (
        Cause.GPU_BROKEN,
        r"illegal memory access|device-side assert triggered|unspecified launch failure|"
        r"misaligned address|illegal instruction was encountered|illegal address|"
        r"uncorrectable ECC error|launch timed out and was terminated|hardware stack error|"
        r"context is destroyed|cudaErrorLaunchFailure|cudaErrorIllegalAddress|"
        r"memory access fault by GPU|HSA_STATUS_ERROR|CUDA error: initialization error|"
        r"re-initialize CUDA in forked subprocess|"
        r"CUDNN_STATUS_(?:EXECUTION_FAILED|MAPPING_ERROR|INTERNAL_ERROR|NOT_INITIALIZED)|"
        r"CUBLAS_STATUS_(?:EXECUTION_FAILED|MAPPING_ERROR|INTERNAL_ERROR|NOT_INITIALIZED)",
    ),
    (
        Cause.NO_GPU,
        r"found no NVIDIA driver|no CUDA GPUs are available|not compiled with CUDA|"
        r"no kernel image is available|CUDA driver version is insufficient|"
        r"NVIDIA driver on your system is too old|invalid device ordinal|CUDA unknown error|"
        r"not compatible with the current PyTorch installation|no CUDA-capable device|"
        r"torch\.cuda\.is_available\(\) is False|no HIP GPUs are available",
    ),
    (
        Cause.HOST_MEMORY,
        r"DefaultCPUAllocator|alloc_cpu\.cpp|paging file is too small|"
        r"(?:cannot|can't|unable to|could not) allocate (?!.{0,200}(?:CUDA|GPU|VRAM))"
        r"(?:memory|[\d.]+ ?(?:[KMGT]i?B|bytes))|std::bad_alloc|out of memory: killed process|"
        r"insufficient shared memory|oom-kill|oom killer|requires? more system memory|"
        r"not enough (?:(?:system|main) memory|RAM)\b",
    ),
    (
        Cause.GPU_MEMORY,
        r"out of memory|OutOfMemory|allocation on device|ran out of memory on your GPU|"
        r"not enough (?:GPU|video) memory|insufficient VRAM|not enough VRAM|"
        r"CU(?:BLAS|DNN|FFT)_(?:STATUS_)?ALLOC_FAILED|cudaErrorMemoryAllocation|"
        r"ErrorOutOfDeviceMemory",
    ),
    (
        Cause.MODEL_LOCKED,
        r"gated repo|access to model .{1,200} is restricted|"
        r"must (?:be authenticated|have access) .{0,80}(?:to access it|repo)",
    ),
    (
        Cause.PACKAGE,
        r"No module named|cannot import name|DLL load failed|undefined symbol|"
        r"cannot open shared object file|requires the .{1,60} library but it was not found",
    ),
    (
        Cause.MODEL_OTHER,
        r"error\(s\) in loading state_dict|missing key\(s\) in state_dict|size mismatch for |"
        r"unexpected key\(s\) in state_dict|could not detect model type|"
        r"file does not contain tensor|does not contain a valid clip|clip input is invalid|"
        r"cannot load .{1,200} because .{1,200} expected shape",
    ),
    (
        Cause.MODEL_DAMAGED,
        r"deserializing header|HeaderTooLarge|MetadataIncompleteBuffer|HeaderTooSmall|"
        r"InvalidHeaderDeserialization|PytorchStreamReader failed|invalid load key|"
        r"finding central directory|weights only load failed|file might be corrupted|"
        r"GGUF magic|consistency check failed",
    ),
    (
        Cause.MODEL_MISSING,
        r"no file named .{1,200} found in directory|is not a valid model identifier|"
        r"repository not found|entry not found for url|does not appear to have a file named|"
        r"can't load (?:the )?(?:tokenizer|config\w*|model|image processor|feature extractor)|"
        r"cannot find the requested files in the local cache|cached snapshot folder|"
        rf"not in \[[^\]]{{0,4000}}{MODEL_FILE}|"
        rf"['\"][^'\"]{{1,300}}{MODEL_FILE}['\"] not in \(?\[?|"
        r"model in folder .{1,100} with filename .{1,300} not found|"
        r"model ['\"“][^'\"”]{1,200}['\"”] not found|has no such file|"
        rf"no such file or directory[^\n]{{0,200}}{MODEL_FILE}|"
        rf"{MODEL_FILE}['\"]? (?:was |is )?(?:not found|missing|does not exist)|"
        rf"404 client error[^\n]{{0,300}}{MODEL_FILE}",
    ),
    (
        Cause.NODE,
        r"cannot execute because (?:a )?node|missing_node_type|node type not found|"
        r"custom node may not be installed",
    ),
    (
        Cause.TOO_LONG,
        r"maximum context length|context length exceeded|exceeds? the (?:available )?context|"
        r"longer than the (?:specified )?maximum sequence length|"
        r"upper limit of \d+ frames|request entity too large",
    ),
    (
        Cause.PARTS,
        r"expected input\[.{1,200} channels|shapes cannot be multiplied|"
        r"size of tensor a \(\d+\) must match|expected scalar type .{1,40} but (?:found|got)|"
        r"'NoneType' object has no attribute '(?:encode_image|tokenize|encode|decode|model)'|"
        r"sizes of tensors must match|return type mismatch|bad linked input",
    ),
    (
        Cause.INPUT,
        r"cannot identify image file|invalid image file|image file is truncated|"
        r"could not read (?:the )?(?:image|picture)",
    ),
    (
        Cause.VALUE,
        r"prompt outputs failed validation|custom validation failed|value not in list|"
        r"(?:smaller|bigger) than (?:min|max) of|failed to convert an input value|"
        r"required input is missing|prompt has no outputs|no prompt provided|"
        r"(?:must|has to|have to) be (?:a multiple|divisible)|missing the class_type|"
        r"exception when validating",
    ),
    (
        Cause.NOT_A_NUMBER,
        r"\bNaNs?\b|invalid value encountered in cast|"
        r"contains? (?:inf|nan)|probability tensor contains",
    ),
    (
        Cause.OUTPUT,
        r"moov atom not found|invalid data found when processing input|corrupt decoded frame|"
        r"all frames are black|frames? instead of|does not decode|error while decoding",
    ),
    (
        Cause.DISK_FULL,
        r"no space left on device|not enough space on the disk|disk quota exceeded|"
        r"database or disk is full|\bdisk (?:is )?full\b|PytorchStreamWriter failed|"
        r"file write failed",
    ),
    (
        Cause.PORT_TAKEN,
        r"address already in use|attempting to bind on address|only one usage of each socket",
    ),
    (
        Cause.PERMISSION,
        r"permission denied|access is denied|read-only file system|operation not permitted|"
        r"being used by another process",
    ),
    (
        Cause.TIMED_OUT,
        r"timed[ -]?out|timeout(?:ed)?\b(?!=)|did not answer in time|deadline exceeded|"
        r"stands still|ran for more than|nothing was heard of the job",
    ),
    (Cause.NOT_LET_IN, r"\b(?:401|403|407)\b.{0,40}(?:client error|unauthorized|forbidden)"),
    (
        Cause.CERTIFICATE,
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|WRONG_VERSION_NUMBER|"
        r"self[- ]signed certificate|hostname .{1,100} doesn't match",
    ),
    (
        Cause.UNREACHABLE,
        r"name or service not known|getaddrinfo failed|temporary failure in name resolution|"
        r"nodename nor servname|no address associated|failed to resolve|"
        r"network is unreachable|no route to host|network is down",
    ),
    (Cause.REFUSED, r"connection refused|actively refused|cannot connect to host"),
    (
        Cause.BROKEN_OFF,
        r"connection (?:was )?(?:forcibly )?(?:reset|aborted|closed|broken|lost)|broken pipe|"
        r"forcibly closed|remote end closed|server disconnected|incompleteread|"
        r"connection to remote host was lost|connection is already closed",
    ),
    (
        Cause.BUSY,
        r"too many requests|service (?:temporarily )?unavailable|runs nothing that waits",
    ),
    (
        Cause.DIED,
        r"segmentation fault|core dumped|killed by signal|was killed|"
        r"terminated abruptly|exited unexpectedly|exit(?:ed with)? ?(?:code|status) -?[1-9]|"
        r"access violation|^killed$|bus error|process ended with code",
    ),
    (
        Cause.NETWORK,
        r"bad gateway|max retries exceeded|proxy error|cannot be asked|"
        r"does not answer",
    ),
    (
        Cause.INTERRUPTED,
        r"InterruptProcessing|processing interrupted|somebody interrupted",
    ),
    (Cause.FILE_MISSING, r"no such file or directory|cannot find the (?:file|path) specified"),
    (
        Cause.STORAGE,
        r"input/output error|database is locked|disk image is malformed|too many open files|"
        r"file name too long|is a directory|not a directory|stale file handle",
    ),
)

WORDS: tuple[tuple[Cause, re.Pattern[str]], ...] = tuple(
    (cause, re.compile(pattern, re.IGNORECASE | re.MULTILINE)) for cause, pattern in _WORDS
)
"""Causes by words, the first that is found being taken."""


def by_words(text: str) -> Cause | None:
    """Return the cause that `text` tells of, None when it tells of none."""
    return next((cause for cause, sign in WORDS if sign.search(text)), None)
