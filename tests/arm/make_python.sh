#!/bin/bash
# A Python for AArch64 in a folder, as a device has one: Debian's interpreter and C library, PyPI's wheels of what running
# and serving need, and this project. `python` there runs it in qemu-aarch64, as the CPU that ARM_CPU names.
# Usage: make_python.sh FOLDER PYTHON, in the project's folder; PYTHON has pip. On Debian.
set -euo pipefail
folder=$(realpath -m "$1")
pip=("$2" -m pip --quiet --disable-pip-version-check)
apt="$folder/apt"
rm -rf "$folder"
mkdir -p "$apt/state" "$apt/cache/archives/partial" "$folder/sysroot" "$folder/wheels"

# An apt of its own: nothing of the system's changes.
: > "$apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main" > "$apt/sources"
cat > "$apt/conf" << CONF
APT::Architecture "arm64";
APT::Architectures {"arm64";};
APT::Sandbox::User "root";
Debug::NoLocking "1";
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::SourceList "$apt/sources";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::Parts "/dev/null";
CONF
APT_CONFIG="$apt/conf" apt-get update -qq
APT_CONFIG="$apt/conf" apt-get install -y -qq --download-only --no-install-recommends \
    python3.11-minimal libpython3.11-stdlib libstdc++6 libgcc-s1 zlib1g
for package in "$apt"/cache/archives/*.deb; do
    dpkg -x "$package" "$folder/sysroot"
done
rm -rf "$apt"

"${pip[@]}" wheel --no-deps --no-build-isolation --wheel-dir "$folder/wheels" .
rm -rf build
"${pip[@]}" install --target "$folder/site" --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 \
    --platform manylinux2014_aarch64 --python-version 3.11 --only-binary=:all: -c constraints.txt \
    "$folder"/wheels/*.whl cloudpickle psutil tornado
# TVM's compiler is a library that nothing here loads but TVM's RPC server, whose Python imports it.
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
