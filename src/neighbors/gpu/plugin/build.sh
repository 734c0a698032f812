#!/usr/bin/env bash
# Builds libbatchmine_gpu.so, the plugin behind --backend faiss-gpu. See docs/gpu.md.
#
#   bash src/neighbors/gpu/plugin/build.sh [--arch sm_80,sm_90] [--jobs N] [--out FILE]
#                                          [--objects DIR] [--cuda DIR] [--faiss-source DIR] [--faiss LIBRARY]
#
# nvcc is --cuda's, the one on PATH, or that of /usr/local/cuda; without one, NVIDIA's PyPI packages are installed into
# target/cuda (0.9 GB). FAISS's sources are those that the faiss-sys crate of Cargo.lock vendors, or --faiss-source's.
# Needs g++, python3 with venv, and cargo (except with --faiss-source). With --faiss nothing of FAISS is compiled, and
# nvcc is not needed: the plugin is linked against LIBRARY, a libfaiss.so with GPU support, with the headers of
# --faiss-source, which must be of its version; --cuda may then also be the folder nvidia that PyPI's packages fill.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../../.." && pwd)

CUDA_PACKAGES=(
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96
    nvidia-cuda-cccl==13.0.85 nvidia-cuda-profiler-api==13.0.85 nvidia-cublas==13.0.2.14
)
# All that bfKnn of halves and singles needs; FAISS's indexes stay out.
FAISS_SOURCES=(
    faiss/gpu/GpuDistance.cu faiss/gpu/GpuResources.cpp faiss/gpu/StandardGpuResources.cpp
    faiss/gpu/impl/{BroadcastSum,Distance,IndexUtils,L2Norm,L2Select}.cu
    faiss/gpu/utils/{BlockSelectFloat,DeviceUtils}.cu faiss/gpu/utils/StackDeviceMemory.cpp
    faiss/gpu/utils/blockselect/BlockSelectFloat{1,32,64,128,256,F512,F1024,F2048,T512,T1024,T2048}.cu
    faiss/impl/{AuxIndexStructures,FaissException}.cpp faiss/utils/Heap.cpp
)

arch=sm_80,sm_90 jobs=$(nproc) out= objects= faiss_source= faiss= cuda=
while [ $# -gt 0 ]; do
    case $1 in
        --arch) arch=$2 ;;
        --jobs) jobs=$2 ;;
        --out) out=$2 ;;
        --objects) objects=$2 ;;
        --faiss-source) faiss_source=$2 ;;
        --faiss) faiss=$(realpath "$2") ;;
        --cuda) cuda=$(realpath "$2") ;;
        *) sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
    esac
    shift 2
done
die() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }

# --- nvcc ---------------------------------------------------------------------------------------

cuda_from_pypi() { # prints the toolkit's folder
    local venv=$root/target/cuda stamp=$root/target/cuda/packages
    if [ "$(cat "$stamp" 2>/dev/null)" != "${CUDA_PACKAGES[*]}" ]; then
        rm -rf "$venv"
        python3 -m venv "$venv" || die "python3 cannot create a virtual environment: install python3-venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            "${CUDA_PACKAGES[@]}" >&2 || die "NVIDIA's packages cannot be installed from PyPI"
        local cuda
        cuda=$(echo "$venv"/lib/python3*/site-packages/nvidia/cu13)
        chmod +x "$cuda"/bin/* "$cuda"/nvvm/bin/*
        ln -sfn lib "$cuda/lib64"
        ln -sfn libcublas.so.13 "$cuda/lib/libcublas.so"
        echo "${CUDA_PACKAGES[*]}" >"$stamp"
    fi
    echo "$venv"/lib/python3*/site-packages/nvidia/cu13
}

if [ -n "$cuda" ]; then
    :
elif nvcc=$(command -v nvcc || command -v /usr/local/cuda/bin/nvcc); then
    cuda=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
else
    cuda=$(cuda_from_pypi)
fi
export PATH=$cuda/bin:$PATH
includes=("$cuda/include") libraries=("$cuda/lib64")
if [ -n "$faiss" ]; then
    libraries+=("$cuda/lib")
    # PyPI's packages for CUDA 12 and 11 have a folder each.
    if [ -d "$cuda/cuda_runtime" ]; then
        includes=("$cuda"/{cuda_runtime,cublas,cuda_nvcc,cuda_cccl}/include)
        libraries=("$cuda"/{cuda_runtime,cublas}/lib)
    fi
fi
[ -f "${includes[0]}/cuda_runtime.h" ] ||
    die "no cuda_runtime.h in ${includes[0]}: name a whole CUDA toolkit by --cuda DIR"
[ -n "$faiss" ] || nvcc --version | tail -n 2

# --- FAISS --------------------------------------------------------------------------------------

if [ -z "$faiss_source" ]; then
    command -v cargo >/dev/null || die "there is no cargo to fetch FAISS's sources with: --faiss-source DIR"
    # Fetches missing packages, of this platform only.
    platform=$(rustc -vV | sed -n 's/^host: //p')
    packages=(cargo metadata --locked --format-version 1 --features faiss --filter-platform "$platform")
    manifest=$(cd "$root" && { "${packages[@]}" --offline 2>/dev/null || "${packages[@]}"; } | python3 -c '
import json, sys
print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "faiss-sys"))')
    faiss_source=$(dirname "$manifest")/faiss
fi
[ -f "$faiss_source/faiss/gpu/GpuDistance.h" ] || die "no faiss/gpu/GpuDistance.h in $faiss_source"
# The plugin reports these as its version of FAISS.
grep -hE '#define FAISS_VERSION_(MAJOR|MINOR|PATCH)' "$faiss_source/faiss/Index.h"

# --- objects ------------------------------------------------------------------------------------

own=(plugin products)
host_flags=(-O3 -std=c++17 -fPIC -fopenmp -DFINTEGER=int "-I$faiss_source" "${includes[@]/#/-I}" "-I$here")
device_flags=(-O3 -std=c++17 -DFINTEGER=int "-I$faiss_source" --expt-extended-lambda --expt-relaxed-constexpr
    -Xcompiler -fPIC,-fopenmp -Xfatbin=-compress-all)
# A linked library calls cuBLAS itself, and its classes may differ from its headers.
[ -z "$faiss" ] || { own=(plugin) && host_flags+=(-DBATCHMINE_FAISS_LINKED); }
IFS=, read -r -a archs <<<"$arch"
for one in "${archs[@]}"; do
    device_flags+=(-gencode "arch=compute_${one#sm_},code=$one")
done
# Later devices translate this one's PTX when they load it.
device_flags+=(-gencode "arch=compute_${one#sm_},code=compute_${one#sm_}")

key=$(printf '%s\n' "$cuda" ${faiss:+"$faiss"} "${device_flags[@]}" | cksum | cut -d' ' -f1)
objects=${objects:-$root/target/gpu-plugin/$key}
mkdir -p "$objects"
compile() { # SOURCE OBJECT: FAISS's files only if they are newer; ours always, since their headers may have changed
    [[ $1 != "$here"/* && $2 -nt $1 ]] && return
    local start=$SECONDS
    case $1 in
        *.cu) nvcc -c "${device_flags[@]}" "$1" -o "$2.part" ;;
        *) g++ -c "${host_flags[@]}" "$1" -o "$2.part" ;;
    esac && mv "$2.part" "$2" && printf '%4d s  %s\n' $((SECONDS - start)) "$(basename "$1")"
}

made=()
running=0 failed=0
start_job() {
    if [ "$running" -ge "$jobs" ]; then
        wait -n || failed=1
        running=$((running - 1))
    fi
    [ "$failed" = 0 ] || return 0
    compile "$@" &
    running=$((running + 1))
}
if [ -z "$faiss" ]; then
    for source in "${FAISS_SOURCES[@]}"; do
        object=$objects/$(basename "${source%.*}").o
        made+=("$object")
        start_job "$faiss_source/$source" "$object"
    done
fi
for source in "${own[@]}"; do
    made+=("$objects/$source.o")
    start_job "$here/$source.cpp" "$objects/$source.o"
done
while [ "$running" -gt 0 ]; do
    wait -n || failed=1
    running=$((running - 1))
done
[ "$failed" = 0 ] || die "a file does not compile"

# --- the plugin ---------------------------------------------------------------------------------

out=${out:-$root/target/gpu-plugin/libbatchmine_gpu.so}
exports=$objects/exports.map
echo '{ global: batchmine_gpu_*; local: *; };' >"$exports"
link=(-shared -fopenmp -o "$out.part" "${made[@]}" -Wl,--no-undefined "-Wl,--version-script=$exports"
    "${libraries[@]/#/-L}" "-Wl,-rpath,\$ORIGIN" "${libraries[@]/#/-Wl,-rpath,}")
if [ -n "$faiss" ]; then
    # The CUDA runtime must be FAISS's own: two runtimes in a process do not share streams.
    runtime=$(readelf -d "$faiss" | sed -n 's/.*NEEDED.*\[\(libcudart\.so[^]]*\)\]/\1/p')
    # A wheel's libfaiss has no path to its own libraries: they are found through an RPATH, but not through a RUNPATH.
    link+=("$faiss" "-Wl,-rpath,$(dirname "$faiss")" "-Wl,--allow-shlib-undefined" "-Wl,--disable-new-dtags")
    if [ -n "$runtime" ]; then link+=("-l:$runtime"); else link+=(-lcudart_static); fi
else
    link+=(-lcublas -lcudart_static -Wl,--wrap=cublasGemmEx)
fi
g++ "${link[@]}" -ldl -lrt -lpthread
mv "$out.part" "$out"
ls -l "$out"
