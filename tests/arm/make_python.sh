#!/bin/bash
# A Python for AArch64 in a folder, as a device has one: Debian's interpreter and C library, PyPI's wheels of what running
# and serving need, and this project. `python` there runs it in qemu-aarch64, as the CPU that ARM_CPU names.
# Usage: make_python.sh FOLDER PYTHON, in the project's folder; PYTHON has pip. On Debian.
set -euo pipefail
folder=$(realpath -m "$1")
pip=("$2" -m pip --quiet --disable-pip-version-check)
rm -rf "$folder"
mkdir -p "$folder/wheels"

benchmarks/arm/fetch_debian.sh "$folder/sysroot" \
    python3.11-minimal libpython3.11-stdlib libstdc++6 libgcc-s1 zlib1g

"${pip[@]}" wheel --no-deps --no-build-isolation --wheel-dir "$folder/wheels" .
rm -rf build
"${pip[@]}" install --target "$folder/site" --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 \
    --platform manylinux2014_aarch64 --python-version 3.11 --only-binary=:all: -c constraints.txt \
    "$folder"/wheels/*.whl cloudpickle psutil tornado
rm -rf "$folder/wheels"

# What starts a child starts this script, and not the interpreter that this machine cannot execute.
cat > "$folder/site/sitecustomize.py" << CUSTOM
import sys

sys.executable = "$folder/python"
CUSTOM
cat > "$folder/python" << PYTHON
#!/bin/sh
export PYTHONPATH="$folder/site\${PYTHONPATH:+:\$PYTHONPATH}"
exec qemu-aarch64 -cpu "\${ARM_CPU:-cortex-a72}" -L "$folder/sysroot" "$folder/sysroot/usr/bin/python3.11" "\$@"
PYTHON
chmod +x "$folder/python"
