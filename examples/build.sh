#!/usr/bin/env bash
# Build the C++ example, fetch what the JavaScript one imports: examples/build.sh [cpp] [javascript]
#
# Nothing is installed. What this machine lacks comes from Debian and npm into build/examples; with
# OFFLINE=1 nothing is fetched. Exit status 3: something is missing and could not be fetched.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
build=$root/build/examples
python=${PYTHON:-$root/.venv/bin/python}

missing() {
    echo "skipped: $1" >&2
    exit 3
}

fetch() {
    [ -z "${OFFLINE:-}" ] || missing "$1 is not here, and OFFLINE is set"
    shift
    "$@" || missing "could not fetch it: $*"
}

# ONNX Runtime's headers and library, stb_image, nlohmann-json: the system's, or our own copies.
build_cpp() {
    for tool in g++ cmake; do
        command -v $tool > /dev/null || missing "there is no $tool"
    done
    local options=()
    if ! [ -e /usr/include/onnxruntime/onnxruntime_cxx_api.h ]; then
        local headers=$build/debian/usr/include
        [ -d "$headers/onnxruntime" ] && [ -d "$headers/stb" ] && [ -d "$headers/nlohmann" ] ||
            fetch "ONNX Runtime's header" examples/debian_packages.sh "$build/debian" amd64 \
                libonnxruntime-dev libstb-dev nlohmann-json3-dev
        options+=(-DCMAKE_INCLUDE_PATH="$headers;$headers/onnxruntime" -DONNXRUNTIME_ROOT="$build")
        # The Python package brings the library itself, under a name that no linker looks for.
        local library
        library=$("$python" -c 'import glob, importlib.util as i, os
package = os.path.dirname(i.find_spec("onnxruntime").origin)
print(*glob.glob(package + "/capi/libonnxruntime.so.*"))') || missing "no Python with onnxruntime"
        [ -n "$library" ] || missing "this onnxruntime has no library of its own"
        mkdir -p "$build/lib"
        ln -sf "$library" "$build/lib/libonnxruntime.so"
        ln -sf "$library" "$build/lib/libonnxruntime.so.1"
    fi
    cmake -S examples/cpp -B "$build/cpp" -DCMAKE_BUILD_TYPE=Release "${options[@]}" > /dev/null
    cmake --build "$build/cpp"
}

fetch_javascript() {
    command -v node > /dev/null || missing "there is no node"
    [ -d examples/javascript/node_modules/onnxruntime-web ] || fetch "onnxruntime-web" \
        npm install --prefix examples/javascript --ignore-scripts --no-package-lock --no-audit \
        --no-fund --loglevel=error
}

[ $# -gt 0 ] || set -- cpp javascript
for part in "$@"; do
    case $part in
        cpp) build_cpp ;;
        javascript) fetch_javascript ;;
        *) echo "error: no example is called $part" >&2; exit 2 ;;
    esac
done
