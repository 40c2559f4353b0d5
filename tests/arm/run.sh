#!/usr/bin/env bash
# run.sh [--all] [ARCH...]: the fast part of the Python suite on emulated ARM processors; all three ABIs by default.
# The first processor of an ABI runs all of it, on each of its instruction sets; the second what its choice among
# them changes; further ones nothing. With --all every processor runs all. PYTEST_ADDOPTS goes through to pytest.
# The work folder is TINYRNN_ARM, or build/arm.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
all=
[ "${1:-}" != --all ] || { all=yes && shift; }
(($#)) || set -- arm64 armhf armel

# The fast part: what a processor can break. Not what only Python can (a second thread in a stream, memory
# that Python counts: a minute each, emulated), nor what needs a C compiler on the machine under test.
files=(nets/test_streams nets/test_layers nets/test_goldens nets/test_contract weights/test_npz weights/test_safetensors
       quantization/test_quantize training/test_gradient_goldens training/test_trainer
       arm/test_bits)
chosen=(quantization/test_quantize arm/test_bits) # neon and neon_dot differ in integer sums alone
without="second_thread or allocates or allocator"

for arch; do
    "$here/sysroot.sh" "$arch"
    "$here/wheel.sh" "$arch"
    . "$here/abi.sh" "$arch"
    few=("${files[@]}") except=$without
    case $arch in
        arm64) few+=(core/test_kernels) ;; # on ARMv7 its bounds do not hold where NEON flushes; tests/c knows
        armhf) except+=" or hostile_tensors" ;; # 2^40 numbers are refused in other words
        armel) few=(nets/test_streams nets/test_goldens arm/test_bits) ;; # NumPy takes its time without a unit for floats
    esac
    # From a copy without tinyrnn/ beside it: only the wheel can be imported.
    rm -rf "$work/suite" && mkdir "$work/suite"
    cp -r "$top/tests" "$top/pyproject.toml" "$work/suite"
    cd "$work/suite"
    [ "$all" ] || cpus=("${cpus[@]:0:2}")
    for pair in "${cpus[@]}"; do
        [ "$all" ] || [ "$pair" = "${cpus[0]}" ] || few=("${chosen[@]}")
        export ARM_CPU=${pair%=*}
        printf -- '-- %s as %s (%ds)\n' "$arch" "$ARM_CPU" "$SECONDS"
        isa=$("$work/python-$arch" -c 'import tinyrnn; print(tinyrnn.isa())')
        [ "$isa" = "${pair#*=}" ] || { echo "chose $isa, expected ${pair#*=}" >&2; exit 1; }
        "$work/python-$arch" -B -m pytest -q -p no:cacheprovider -o addopts=--import-mode=importlib \
            -k "not ($except)" -m "not slow" $(printf "tests/%s.py " "${few[@]}")
    done
done
