#!/usr/bin/env bash
# The golden detector on aarch64 without a board: examples/arm/run.sh [MODEL...]
#
# Debian 13's qemu runs the C++ example, cross-compiled, and the Python example with the wheels that
# `pip install` gives a board, and both have to find the golden boxes. The models are the golden
# ones unless others are named. Nothing is installed: everything lies in build/examples afterwards.
# QEMU_CPU names the processor (`qemu-aarch64 -cpu help`); cortex-a72 is a Raspberry Pi 4's.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
build=$root/build/examples
arm=$build/arm64
site=$arm/site
python=${PYTHON:-$root/.venv/bin/python}
qemu=$build/qemu/usr/bin/qemu-aarch64
export QEMU_CPU=${QEMU_CPU:-cortex-a72}

# Debian 12's qemu 7.2 dies in ONNX Runtime's own library.
[ -x "$qemu" ] || examples/debian_packages.sh "$build/qemu" amd64 qemu-user
[ -d "$arm/usr/include/onnxruntime" ] ||
    examples/debian_packages.sh "$arm" arm64 libonnxruntime-dev libstb-dev nlohmann-json3-dev
[ -x "$arm/usr/bin/python3.13" ] ||
    examples/debian_packages.sh "$arm" arm64 --with-dependencies python3.13 libstdc++6
if ! [ -d "$site" ]; then
    # what a board with glibc 2.41 would take
    platforms=()
    for minor in 17 24 27 28 31 34 35 38 39 41; do
        platforms+=(--platform "manylinux_2_${minor}_aarch64")
    done
    "$python" -m pip install --quiet --disable-pip-version-check --target "$site.part" --no-deps \
        --only-binary :all: --python-version 3.13 "${platforms[@]}" --platform manylinux2014_aarch64 \
        numpy 'opencv-python-headless<5' onnxruntime openvino ncnn ai-edge-litert flatbuffers
    mv "$site.part" "$site"
fi

status=0
check() {
    echo "== $*" | sed "s#$root/##g"
    "$python" examples/golden/check.py "$@" || status=1
}

if command -v aarch64-linux-gnu-g++ > /dev/null; then
    # Our own link to the wheel's library, whose name no linker looks for.
    mkdir -p "$build/arm64-lib"
    ln -sf "$site"/onnxruntime/capi/libonnxruntime.so.* "$build/arm64-lib/libonnxruntime.so.1"
    detect=$build/arm64-cpp/detect
    mkdir -p "$(dirname "$detect")"
    [ "$detect" -nt examples/cpp/detect.cpp ] ||
        aarch64-linux-gnu-g++ -std=c++17 -O2 -isystem "$arm/usr/include/onnxruntime" \
            -idirafter "$arm/usr/include" examples/cpp/detect.cpp -o "$detect" \
            "$build/arm64-lib/libonnxruntime.so.1" -Wl,--allow-shlib-undefined
    check "$qemu" -L "$arm" -E LD_LIBRARY_PATH="$build/arm64-lib" "$detect"
else
    echo "== no cross-compiler: apt install g++-aarch64-linux-gnu"
fi

# Emulated, compiling Python's own modules takes half a minute: once is enough.
board=(env -u PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX="$build/pycache" PYTHONPATH="$site:$root"
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 "$qemu" -L "$arm" "$arm/usr/bin/python3.13")
[ $# -gt 0 ] || set -- examples/golden/*.onnx examples/golden/*.param
for model in "$@"; do
    check --model "$model" "${board[@]}" examples/python/detect.py
done
exit $status
