#!/bin/bash
# Packages of Debian 12 for AArch64, with what they depend on, unpacked into a folder; nothing is installed, and nothing of
# the system's apt changes. Usage: fetch_debian.sh FOLDER PACKAGE... On Debian.
set -euo pipefail
folder=$(realpath -m "$1")
shift
apt=$(mktemp -d)
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt/state" "$apt/cache/archives/partial" "$folder"
: > "$apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main" > "$apt/sources"
cat > "$apt/conf" << CONF
APT::Architecture "arm64";
APT::Architectures {"arm64";};
APT::Sandbox::User "";
Debug::NoLocking "1";
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::SourceList "$apt/sources";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::Parts "/dev/null";
CONF
export APT_CONFIG="$apt/conf"
apt-get update -qq
apt-get install -y -qq --download-only --no-install-recommends "$@" > /dev/null
for package in "$apt"/cache/archives/*.deb; do
    dpkg -x "$package" "$folder"
done
