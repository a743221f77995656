#!/usr/bin/env bash
# Builds torch-scatter and torch-cluster at the same time against the torch of the given Python and
# installs them. Exit status 3: there is no C++ compiler, or no source of them any more. Usage: tools/build_compiled.sh PYTHON
set -euo pipefail
python=$1
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT

build() { # package, further pip options
    local package=$1
    shift
    "$python" -m pip wheel --disable-pip-version-check --no-build-isolation --no-deps \
        -c constraints.txt -w "$wheels" "$@" "$package" 2>&1 |
        tee "$wheels/$package.log" | sed -u "s/^/[$package] /"
}

build_both() {
    local failed=0 first second
    build torch-scatter "$@" & first=$!
    build torch-cluster "$@" & second=$!
    wait "$first" || failed=1
    wait "$second" || failed=1
    if grep -q "No matching distribution found for torch-" "$wheels"/*.log; then
        echo "no source of torch-scatter or torch-cluster is to be had: tests that need them are skipped;"
        echo "everything else works without them."
        exit 3
    fi
    return "$failed"
}

install_both() {
    "$python" -m pip install --disable-pip-version-check --no-deps --force-reinstall -q "$wheels"/*.whl
}

imports() { "$python" -c 'import torch, torch_scatter, torch_cluster'; }

if imports 2>/dev/null; then
    exit 0
fi
if ! command -v "${CXX:-c++}" >/dev/null && ! command -v g++ >/dev/null; then
    echo "no C++ compiler: torch-scatter and torch-cluster are not built, and tests that need them are skipped;"
    echo "everything else works without them. To get one on Debian or Ubuntu: apt-get install g++"
    exit 3
fi
echo "building torch-scatter and torch-cluster (minutes the first time, seconds when pip has the wheels)"
build_both
install_both
if ! imports; then
    echo "the cached wheels belong to another torch: building them again"
    rm -f "$wheels"/*.whl
    build_both --no-cache-dir
    install_both
    imports
fi
