"""Build the native CPU kernels (csrc/) where a compiler and torch's headers are; the package works without them.

torch is not a build requirement, which would download it (gigabytes) into every isolated build: its headers are taken
from the environment that undying is being installed into. Only torch's stable ABI is used, so that the library serves
every torch from 2.10 and every Python.
"""

from __future__ import annotations

import platform
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

LIBRARY = "undying.ops.kernels"  # src/undying/ops/native.py looks for kernels.so beside itself
OPTIMISED = ["-O3", "-g0", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-std=c++17"]
VARIANTS = {
    "csrc/tables.cpp": [],
    "csrc/portable.cpp": [],
    "csrc/avx2.cpp": ["-mavx2", "-mfma", "-mf16c"],
    "csrc/avx512.cpp": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mf16c"],
}
X86 = platform.machine().lower() in ("x86_64", "amd64")
SOURCES = {"csrc/library.cpp": [], **(VARIANTS if X86 else {"csrc/portable.cpp": []})}


def torch_folder() -> Path | None:
    """The installed torch with headers of the stable ABI; an isolated build does not have it on ``sys.path``."""
    places = [*sys.path, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    for folder in (Path(place) / "torch" for place in places if place):
        if (folder / "include/torch/csrc/stable/library.h").exists():
            return folder
    return None


class BuildKernels(build_ext):
    """One library, each source with the flags of its instruction set."""

    def get_ext_filename(self, fullname: str) -> str:
        return f"{fullname.replace('.', '/')}.so"  # no module of Python's: no tag of a Python version

    def build_extension(self, ext: Extension) -> None:
        objects = []
        for source, flags in SOURCES.items():
            objects += self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                include_dirs=ext.include_dirs,
                macros=ext.define_macros,
                extra_postargs=[*OPTIMISED, *flags],
                depends=ext.depends,
            )
        self.compiler.link_shared_object(
            objects,
            self.get_ext_fullpath(ext.name),
            libraries=ext.libraries,
            library_dirs=ext.library_dirs,
            target_lang="c++",
        )


class AnyPython(bdist_wheel):
    """The library belongs to a platform, not to a version of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        *_, system = super().get_tag()
        return "py3", "none", system


def extensions() -> list[Extension]:
    torch = torch_folder()
    if torch is None or sys.platform == "win32":  # the kernels are written in the vector types of GCC and Clang
        print("undying: no headers of torch 2.10 or newer here; the native kernels are not built", file=sys.stderr)
        return []
    return [
        Extension(
            LIBRARY,
            list(SOURCES),
            include_dirs=[str(torch / "include")],
            define_macros=[("TORCH_TARGET_VERSION", "0x020a000000000000")],
            library_dirs=[str(torch / "lib")],
            libraries=["torch_cpu"],
            depends=[str(header) for header in Path("csrc").glob("*.h")],
            optional=True,  # no compiler: the package is installed without
        )
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels, "bdist_wheel": AnyPython})
