"""The modules of src are collected for the examples in them; this one cannot be imported where Triton is not."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("triton") else ["src/undying/ops/triton_kernels.py"]
