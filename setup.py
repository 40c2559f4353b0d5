"""Build of the C core: every source once, kernels.c once per instruction set.

Everything else about the package is in pyproject.toml. The list of instruction sets and their
flags is csrc/kernels/isa.def, read through the compiler's preprocessor so that a cross build
sees the target's list.
"""

import ast
import glob
import io
import itertools
import os
import platform
import re
import runpy
import subprocess
import sys
import tokenize
import zipfile
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

# The modules use what PyPy's imitation of CPython's API lacks (PyInterpreterState_ThreadHead): they
# would be compiled there, but not loaded.
if platform.python_implementation() == "PyPy":
    raise SystemExit(
        "tinyrnn: got PyPy, expected CPython: install it with the Python of python.org or the system's"
    )

# -ffp-contract=off is part of the same-bits promise: see docs/design.md. -fno-math-errno lets the compiler
# make vectors of the scalar tables' square roots (simd/vec_scalar.h), which makes them 5 % smaller; the other
# tables are the same without it, and none calls sqrtf. -g0 undoes the -g that many Pythons hand down, which
# would make the wheel four times as large. Hidden symbols are called without a detour.
CORE_FLAGS = ["-std=c99", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-g0"]
# Functions begin at lines of the cache, so that the speed of a kernel does not depend on where it is linked.
CORE_FLAGS += ["-falign-functions=64", "-Wall", "-Wextra", "-Wpedantic"]

# Pythons hand down -fwrapv, too. No signed number overflows here (`make -C tests/c sanitize`). Where the
# compiler knows it, a table of kernels is up to a fifth smaller.
CORE_FLAGS += ["-fno-wrapv"]

# Nothing unwinds C here: the tables for it would be a fifteenth of the wheel.
CORE_FLAGS += ["-fno-asynchronous-unwind-tables"]

# Pythons hand down -DNDEBUG, but not where CFLAGS is set. The assertions in Python's headers are 33 kB.
CORE_FLAGS += ["-DNDEBUG"]

# What -O3 adds to -O2 beside vectors is copies of loops for each case: for kernels, and for files that are
# slower without it. Elsewhere it would be 20 kB of the wheel. Loops of kernels begin at lines of the cache.
PLAIN = ["-O2", "-ftree-vectorize"]
FAST = ["-O3", "-falign-loops=64"]
FAST_SOURCES = ["csrc/layers/conv2d.c", "csrc/layers/general.c"]

# Functions as extensions in C have them, not Cython's imitation of Python's own: 30 kB of the wheel less.
# `inspect` reads their signatures from the docstrings. Python itself refuses to pickle what holds pointers.
DIRECTIVES = {
    "language_level": 3,
    "auto_pickle": False,
    "binding": False,
    "embedsignature": True,
    "embedsignature.format": "clinic",
    "freethreading_compatible": True,  # tests/nets/test_free_threads.py, in a Python without a GIL
}

# Numbers are computed in the core, so the modules over it are built for size.
MODULE_FLAGS = ["-Os", "-g0", "-DNDEBUG", "-fno-asynchronous-unwind-tables"]

# What a compiler says of the C that Cython writes and of NumPy's headers is not ours to mend.
MODULE_FLAGS += ["-Wno-pedantic", "-Wno-unused-function"]

# Without Cython's own code for what Python's API does as well, 10 kB of the wheel: versions of dictionaries,
# methods taken apart, the digits of integers, strings unpacked at import, static types. No step is slower.
MODULE_FLAGS += [
    "-DCYTHON_USE_DICT_VERSIONS=0",
    "-DCYTHON_UNPACK_METHODS=0",
    "-DCYTHON_USE_PYLONG_INTERNALS=0",
    "-DCYTHON_COMPRESS_STRINGS=0",
    "-DCYTHON_USE_TYPE_SPECS=1",
]

# Each module has Cython's helpers. The linker sorts functions by name, so that the same ones lie side by
# side, where the compression of the wheel finds them: 8 kB.
MODULE_FLAGS += ["-ffunction-sections"]

# But for the functions of a stream, whose step takes less than a microsecond: where their lines of C begin.
STREAM = re.compile(r"^static (?=[^\n;{]*__pyx_(?:f|pf|pw)_7tinyrnn_5_core_6Stream_)", re.MULTILINE)

# -s leaves out the symbol table, which holds the names of static functions. Apple's linker has neither flag;
# its -x leaves out the same names. Microsoft's writes no such table; Pyodide's strips by itself.
LINK_FLAGS = {"darwin": ["-Wl,-x"], "win32": []}.get(sys.platform, ["-Wl,-s", "-Wl,--sort-section=name"])
if os.environ.get("PYODIDE") == "1":
    LINK_FLAGS = []

# The Python of python.org is built for two architectures. A library has the instruction sets of one.
if sys.platform == "darwin":
    os.environ.setdefault("ARCHFLAGS", f"-arch {platform.machine()}")
HEADERS = glob.glob("csrc/**/*.[hd]*", recursive=True) + glob.glob("csrc/**/*.inc", recursive=True)

SOURCES = sorted(glob.glob("csrc/**/*.c", recursive=True))
MODULES = sorted(glob.glob("tinyrnn/*.pyx"))


def spelled_for_clang_cl(flags):
    """Flags of GCC as clang-cl takes them: many are unknown to it as they are, -ffp-contract=off above all.

    Its -Wall would be all warnings that Clang has; objects for Windows have neither -g0 nor visibility.
    """
    kept = [flag for flag in flags if not flag.startswith(("-W", "-g", "-fvisibility", "-fno-asynchronous"))]
    own = {"-isystem": "/I"}
    return [
        own.get(flag) or (f"/clang:{flag}" if flag.startswith(("-f", "-m", "-O", "-std")) else flag)
        for flag in kept
    ]


class build_core(build_ext):
    """build_ext that first compiles the core: most of it once, its kernels for each instruction set."""

    def isas(self):
        """(name, flags) of each line of isa.def that the target architecture has, and this build."""
        if self.has_clang_cl:
            command = [self.compiler.cc, "/EP", "/TC"]
        else:
            command = [*self.compiler.compiler, "-E", "-P", "-x", "c"]
        command += [f"-D{name}" for name, _ in self.left_out]
        command.append("csrc/kernels/isa.def")
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [(name, flags.split()) for name, flags in re.findall(r'TRNN_ISA\((\w+), "(.*?)"\)', text)]

    def run(self):
        checkout = self.inplace or self.editable_mode  # setuptools hides the former while it builds
        self.has_kernels = checkout or os.environ.get("TINYRNN_KERNELS") == "1"
        self.left_out = [] if self.has_kernels else [("TRNN_NO_WITNESSES", None)]
        super().run()

    def build_extensions(self):
        # The core needs what Microsoft's compiler lacks: a fused multiply-add that is surely an instruction,
        # instruction sets by file, inline assembly. clang-cl has them, and takes its place.
        self.has_clang_cl = self.compiler.compiler_type == "msvc"
        if self.has_clang_cl:
            self.compiler.initialize()
            self.compiler.cc = os.environ.get("CC", "clang-cl")
            for extension in self.extensions:
                extension.extra_compile_args = spelled_for_clang_cl(extension.extra_compile_args)
        if not self.has_kernels:
            core.sources.remove("tinyrnn/_kernels.c")
        built = Path(self.get_ext_fullpath(core.name))
        if built.exists() and (b"PyInit__kernels" in built.read_bytes()) != self.has_kernels:
            built.unlink()  # of a build of the other kind, in the same folder

        def compile_core(sources, folder, macros=(), more=()):
            folder = os.path.join(self.build_temp, folder)
            flags = [*CORE_FLAGS, *more]
            if self.has_clang_cl:
                flags = spelled_for_clang_cl(flags)
            return self.compiler.compile(
                sources, folder, macros=[*macros, *self.left_out], extra_postargs=flags, depends=HEADERS
            )

        kernels = os.path.join("csrc", "kernels", "kernels.c")
        objects = compile_core(FAST_SOURCES, "core", more=FAST)
        objects += compile_core(sorted({*SOURCES} - {kernels, *FAST_SOURCES}), "core", more=PLAIN)
        for name, own in self.isas():
            objects += compile_core([kernels], name, [("TRNN_ISA_NAME", name)], [*FAST, *own])
        for extension in self.extensions:  # there is one
            extension.extra_objects = objects
        super().build_extensions()


def translated(path):
    """The C that Cython makes of a module, and what of it is fast."""
    module = Extension(path.removesuffix(".pyx").replace("/", "."), [path])
    source = Path(cythonize([module], compiler_directives=DIRECTIVES)[0].sources[0])
    text = source.read_text()
    fast = STREAM.sub("TRNN_FAST static ", text)
    if fast != text:
        source.write_text(fast)
    if path.endswith("/_core.pyx") and "TRNN_FAST static " not in fast:
        raise SystemExit(
            f"{source}: found no function of Stream to mark, expected some: see STREAM in setup.py"
        )
    return str(source)


# One library holds the core and all modules over it; tinyrnn/library.py finds the others in _core's. What is
# for tests and benchmarks alone, `_kernels` and the instruction sets that no machine chooses, is built in a
# checkout, and in wheels if TINYRNN_KERNELS=1 asks for it: 40 kB.
core = Extension(
    "tinyrnn._core",
    [translated(path) for path in MODULES],
    include_dirs=["csrc"],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    extra_compile_args=[*MODULE_FLAGS, "-isystem", numpy.get_include()],
    extra_link_args=LINK_FLAGS,
    depends=HEADERS + SOURCES,
)


NAMES = runpy.run_path("tinyrnn/names.py")

# Modules of which users see more than those names.
PUBLIC = {"__init__", "onnx_backend", "weights", *NAMES["MODULES"]}


def unseen(node, public, classes, owner=None):
    """What of a module has a docstring that `help` shows for no public name: itself, functions within.

    `public`: users see all of the module. `classes`: its classes may be bases of what they see.
    """
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
        name = getattr(node, "name", "")
        seen = public or (classes and ast.ClassDef in (type(node), type(owner))) or name in NAMES["HOMES"]
        private = (name.startswith("_") and not name.endswith("__")) or isinstance(owner, ast.FunctionDef)
        if private or not seen:
            yield node
        owner = node
    for child in ast.iter_child_nodes(node):
        yield from unseen(child, public, classes, owner)


def untyped(text, functions):
    """A text, in UTF-8, without the types of these functions' arguments, results and variables."""
    begins = [0, *itertools.accumulate(map(len, text.splitlines(keepends=True)))]
    spans = set()
    for node in itertools.chain.from_iterable(map(ast.walk, functions)):
        kind = getattr(node, "returns" if isinstance(node, ast.FunctionDef) else "annotation", None)
        if kind is None or (isinstance(node, ast.AnnAssign) and node.value is None):
            continue
        begin = begins[kind.lineno - 1] + kind.col_offset
        mark = text.rindex(b"->" if isinstance(node, ast.FunctionDef) else b":", 0, begin)
        spans.add((mark, begins[kind.end_lineno - 1] + kind.end_col_offset))
    for begin, end in sorted(spans, reverse=True):
        text = text[:begin].rstrip(b" ") + b"\n" * text.count(b"\n", begin, end) + text[end:]
    return text


def unread(text):
    """Statements that import names which nothing but types reads, each with the names that are left."""
    tree = ast.parse(text)
    types = (one.annotation for one in ast.walk(tree) if isinstance(one, ast.AnnAssign))
    of_types = {id(one) for kind in types for one in ast.walk(kind)}
    read = {one.id for one in ast.walk(tree) if isinstance(one, ast.Name) and id(one) not in of_types}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            left = [ast.unparse(one) for one in node.names if (one.asname or one.name) in read]
            if len(left) < len(node.names):
                yield node, left


def lean(text, *seen):
    """The text of a module without comments and unseen docstrings, and in packages inside without types.

    Lines keep their numbers.
    """
    nodes = list(unseen(ast.parse(text), *seen))
    functions = [one for one in nodes if isinstance(one, ast.FunctionDef)]
    if any(seen):  # types of what these import tell a checker those of public names
        functions = [one for one in functions if one.name.startswith("_") and not one.decorator_list]
    text = untyped(text.encode(), functions).decode()
    lines = text.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip() + "\n"
    for node in nodes:
        if ast.get_docstring(node) is not None:
            first = node.body[0]
            alone = len(node.body) == 1 and not isinstance(node, ast.Module)
            lines[first.lineno - 1 : first.end_lineno] = ["\n"] * (first.end_lineno - first.lineno + 1)
            if alone:
                lines[first.lineno - 1] = " " * first.col_offset + "...\n"
    for node, left in () if any(seen) else unread("".join(lines)):
        kept = f"from {node.module} import {', '.join(left)}\n" if left else "\n"
        lines[node.lineno - 1 : node.end_lineno] = [kept] + ["\n"] * (node.end_lineno - node.lineno)
    return "".join(lines)


class build_modules(build_py):
    """build_py that leaves out what no user of a wheel sees. An sdist has all."""

    def build_module(self, module, module_file, package):
        built, copied = super().build_module(module, module_file, package)
        if not self.editable_mode:
            path = Path(built)
            where = f"{package}.{module}".split(".")[1]  # in a package inside, any module counts as it
            seen = where in PUBLIC, package == "tinyrnn"
            path.write_text(lean(path.read_text(encoding="utf-8"), *seen), encoding="utf-8")
        return built, copied


class small_wheel(bdist_wheel):
    """bdist_wheel whose archive is compressed as well as zlib can: 3 kB less."""

    def run(self):
        super().run()
        for path in (path for command, _, path in self.distribution.dist_files if command == "bdist_wheel"):
            with zipfile.ZipFile(path) as archive:
                members = [(member, archive.read(member)) for member in archive.infolist()]
            with zipfile.ZipFile(path, "w") as archive:
                for member, data in members:
                    archive.writestr(member, data, zipfile.ZIP_DEFLATED, compresslevel=9)


# What an index of packages shows: README.md up to its list of layers. The rest would be 9 kB of each wheel.
readme, found, _ = Path("README.md").read_text(encoding="utf-8").partition("\nThere are `RNN`,")
if not found:
    raise SystemExit("README.md: found no list of layers, expected 'There are `RNN`': see setup.py")
readme += "\nLayers, the command line, training, quantising, measurements: README.md in the repository.\n"

setup(
    ext_modules=[core],
    cmdclass={"build_ext": build_core, "build_py": build_modules, "bdist_wheel": small_wheel},
    long_description=readme,
    long_description_content_type="text/markdown",
)
