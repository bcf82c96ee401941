"""Whether torch.compile's default backend can work here."""

import os
import shutil

HAS_COMPILER = shutil.which(os.environ.get("CXX", "g++")) is not None
"""As inductor looks for a C++ compiler; the package does not need one."""
