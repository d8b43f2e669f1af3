"""How kernels are compiled: numba, one thread, without the interpreter lock, kept on disk between processes.

numba's disk cache looks only at the file a kernel stands in: kernels that call each other live in one file.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(function: Kernel) -> Kernel:
    """Compile a kernel at its first call (no fastmath: numpy's results, operation by operation)."""
    return cast(Kernel, numba.njit(cache=True, nogil=True)(function))
