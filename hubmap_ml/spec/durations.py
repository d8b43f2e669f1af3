"""Times as a person says them."""

import math


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: ``8.0 s``, ``1 min 40 s``, ``2 h 5 min``, ``3 d 4 h``; a dash if unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
