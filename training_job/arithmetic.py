"""In what numbers a network is trained end to end: bfloat16 where the hardware multiplies it, float32 elsewhere.

bfloat16 has float32's range, so that no loss need be scaled; weights, head and loss stay in float32. Software bfloat16
would be slower than float32.
"""

from __future__ import annotations

from pathlib import Path

BRAIN, PLAIN = "mixed_bfloat16", "float32"
"""Keras' policies."""
CPU_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
"""As Linux names them: of x86-64, and of Arm."""
AMPERE = (8, 0)
"""The first of NVIDIA's compute capabilities with bfloat16."""


def policy(mixed_precision: str, gpus: int, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """mixed_precision: as the hyperparameter has it; `auto` asks the GPUs, or the CPU where there is none."""
    if mixed_precision != "auto":
        return BRAIN if mixed_precision == "true" else PLAIN
    return BRAIN if (_gpus_have_it() if gpus else _cpu_has_it(cpuinfo)) else PLAIN


def _cpu_has_it(cpuinfo: Path) -> bool:
    if not cpuinfo.is_file():
        return False
    return any(flag in cpuinfo.read_text().split() for flag in CPU_FLAGS)


def _gpus_have_it() -> bool:
    import tensorflow as tf

    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return all(detail.get("compute_capability", (0, 0)) >= AMPERE for detail in details)
