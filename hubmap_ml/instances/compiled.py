"""How kernels are compiled: numba, one thread, without the interpreter lock, kept on disk between processes.

numba's disk cache looks only at the file a kernel stands in: kernels that call each other live in one file. The
instructions below are no kernels: they become single machine instructions inside whoever uses them.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(function: Kernel) -> Kernel:
    """Compile a kernel at its first call (no fastmath: numpy's results, operation by operation)."""
    return cast(Kernel, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def _instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    """What becomes one instruction; for use inside kernels, without the first argument."""
    return cast(Callable[..., Any], intrinsic(function))


_DEFINED_AT_ZERO = ir.Constant(ir.IntType(1), 0)


@_instruction
def count_ones(typing: Any, word: Any) -> Any:
    """Set bits of a uint64, as int64."""
    return types.int64(types.uint64), lambda context, builder, signature, given: builder.ctpop(given[0])


@_instruction
def count_low_zeros(typing: Any, word: Any) -> Any:
    """Zeros below the lowest set bit of a uint64, as int64; 64 for zero."""
    return types.int64(types.uint64), lambda context, builder, signature, given: builder.cttz(
        given[0], _DEFINED_AT_ZERO
    )


@_instruction
def count_high_zeros(typing: Any, word: Any) -> Any:
    """Zeros above the highest set bit of a uint64, as int64; 64 for zero."""
    return types.int64(types.uint64), lambda context, builder, signature, given: builder.ctlz(
        given[0], _DEFINED_AT_ZERO
    )


@_instruction
def fused(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c of float32 values, rounded once."""
    single = types.float32
    return single(single, single, single), lambda context, builder, signature, given: builder.fma(*given)
