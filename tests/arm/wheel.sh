#!/usr/bin/env bash
# wheel.sh ARCH: cross-builds the wheel into $work/wheels-ARCH and unpacks it into $work/site-ARCH, where
# $work/python-ARCH finds it. Wants a host Python of the sysroot's minor version, the one that PYTHON names
# or the system's own: on the Debian release that the sysroot is of, that is /usr/bin/python3.
set -euo pipefail
. "$(dirname "$0")/abi.sh" "$@"
python=$(readlink "$root/usr/bin/python3")
host=${PYTHON:-/usr/bin/$python}
"$host" -c "import ensurepip, sys; assert 'python%d.%d' % sys.version_info[:2] == '$python'" 2>/dev/null ||
    { echo "$host is no $python that can make environments: apt-get install $python-venv, or set PYTHON" >&2; exit 1; }
command -v "$triple-gcc" >/dev/null || { echo "$triple-gcc is missing: apt-get install gcc-$triple" >&2; exit 1; }

# The target's NumPy, because Cython reads the declarations of the one that the host imports.
dist=$root/usr/lib/python3/dist-packages
numpy=$(basename "$dist"/numpy-*info)
numpy=${numpy#numpy-} numpy=${numpy%.*-info}
if ! [ -e "$work/venv/complete-$python-$numpy" ]; then
    rm -rf "$work/venv"
    "$host" -m venv "$work/venv"
    "$work/venv/bin/pip" install -q --disable-pip-version-check 'setuptools>=77' cython "numpy==$numpy"
    touch "$work/venv/complete-$python-$numpy"
fi

# One copy of the sources for all architectures, so that Cython translates once: it goes by times of files,
# which say nothing when a folder serves several checkouts.
mkdir -p "$work/source" "$work/include-$arch/$triple"
find "$work/source" -type f ! -name '_*.c' ! -path '*/build/*' -delete
translated=$(cat "$top"/tinyrnn/*.p[yx][xdi] | sha256sum)
if [ "$translated" != "$(cat "$work/translated" 2>/dev/null)" ]; then
    rm -f "$work"/source/tinyrnn/_*.c
    echo "$translated" >"$work/translated"
fi
tar -C "$top" --exclude='_*.c' --exclude='*.so' --exclude=__pycache__ -cf - \
    csrc tinyrnn setup.py pyproject.toml README.md LICENSE MANIFEST.in | tar -C "$work/source" -xf -

# Of the sysroot only Python's headers (NumPy's are among them) and its one module of build settings:
# the C library is the cross compiler's.
ln -sfn "$root/usr/include/$python" "$work/include-$arch/$python"
ln -sfn "$root/usr/include/$triple/$python" "$work/include-$arch/$triple/$python"
mkdir -p "$work/settings-$arch"
cp "$root/usr/lib/$python/_sysconfigdata__$triple.py" "$work/settings-$arch/"
export PYTHONPATH=$work/settings-$arch _PYTHON_SYSCONFIGDATA_NAME=_sysconfigdata__$triple
export _PYTHON_HOST_PLATFORM=$platform
export TINYRNN_KERNELS=1 # the suite tests them
export CC=$triple-gcc LDSHARED="$triple-gcc -shared" AR=$triple-ar LDFLAGS=-s
export CFLAGS="-I$work/include-$arch/$python -I$work/include-$arch -O2 -DNDEBUG -fwrapv $flags"

rm -rf "$work/wheels-$arch" "$work/site-$arch" "$work"/source/build/lib*
cd "$work/source"
"$work/venv/bin/pip" wheel -q --disable-pip-version-check --no-build-isolation --no-deps --no-cache-dir \
    -w "$work/wheels-$arch" . >"$work/wheel-$arch.log" 2>&1 || { tail -n 40 "$work/wheel-$arch.log" >&2; exit 1; }
unset PYTHONPATH _PYTHON_SYSCONFIGDATA_NAME _PYTHON_HOST_PLATFORM
"$work/venv/bin/python" -m zipfile -e "$work/wheels-$arch"/*.whl "$work/site-$arch"
# Emulated, writing byte code takes longer than running it. The host's of this version is the same.
"$work/venv/bin/python" -m compileall -q "$work/site-$arch" "$root/usr/lib/$python" "$dist" >/dev/null || true
