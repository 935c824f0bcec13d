#!/bin/sh
# build.sh OUTDIR: compiles receive_path.cc into OUTDIR/receive_path.
# Needs g++ (or the compiler named by CXX) and ns-3 (Debian: libns3-dev).
# Exits 2, with one line on stderr, if one of them is missing.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: build.sh OUTDIR" >&2
    exit 2
fi
out=$1
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
cxx=${CXX:-g++}

if ! command -v "$cxx" >/dev/null 2>&1; then
    echo "build.sh: no C++ compiler: $cxx not found (Debian package g++)" >&2
    exit 2
fi

mkdir -p -- "$out"

# By name, not by pkg-config: the ns3-core.pc of Debian 12 has a broken -I and
# asks for libgsl.so, which libns3-dev does not bring.
probe=$(mktemp -d)
trap 'rm -rf -- "$probe"' EXIT
printf '#include "ns3/nstime.h"\nint main() { return 0; }\n' >"$probe/probe.cc"
if ! "$cxx" -std=c++17 -o "$probe/probe" "$probe/probe.cc" -lns3-core >/dev/null 2>&1; then
    echo "build.sh: ns-3 not found: install the Debian package libns3-dev" >&2
    exit 2
fi

"$cxx" -std=c++17 -O3 -DNDEBUG -Wall -Wextra -o "$out/receive_path" "$here/receive_path.cc" -lns3-core
