#!/bin/sh
# build.sh [emu] [NAME...]: the kernels that measure.py measures, as shared objects in build/ (sm_90, nvcc) or, for the CPU, in
# build/emu/ (g++ with cuemu.h; needs CUDA's headers). Prints the kernels that spill registers; the rest of ptxas' output is in build/*.log.
cd "$(dirname "$0")" || exit 1
headers=${CUDA_HOME:-/usr/local/cuda}/include
if [ "$1" = emu ]; then
  shift; mkdir -p build/emu; ${PYTHON:-python3} gen_code.py --dry || exit 1
  for f in ${*:-lookup winograd depthwise iconv lookup_code}; do
    source=$f.cu; [ -f "$source" ] || source=build/emu/$f.cu
    g++ -O2 -std=c++17 -w -fPIC -shared -fno-gnu-unique -I"$headers" -I. -x c++ -include ./cuemu.h "$source" -o build/emu/lib$f.so || exit 1
  done
  exit
fi
mkdir -p build; ${PYTHON:-python3} gen_code.py || exit 1
for f in ${*:-lookup winograd depthwise iconv lookup_code sconv sepconv}; do
  source=$f.cu; [ -f "$source" ] || source=build/$f.cu
  nvcc --compress-mode=size -O3 -std=c++17 -gencode arch=compute_90,code=sm_90 -shared -Xcompiler -fPIC -diag-suppress=128,177,550 -I. -Xptxas -v "$source" -o build/lib$f.so 2>build/$f.log || { cat build/$f.log; exit 1; }
  awk -v f=$f '/Compiling entry/ {name = $7} /bytes stack frame/ && !/ 0 bytes spill stores, 0 bytes spill loads/ {print f ": " name $0}' build/$f.log
done
