#!/usr/bin/env bash
# Unpack Debian 13's packages into a folder, without root and without installing anything:
#
#   debian_packages.sh FOLDER ARCHITECTURE [--with-dependencies] PACKAGE...
#
# apt gets lists and a state of its own in FOLDER, so that the machine's stay as they are. The mirror is
# the one that this Debian takes its own packages from; elsewhere say which: DEBIAN_MIRROR=ADDRESS.
set -euo pipefail
own_mirrors() { apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security; }
mirror=${DEBIAN_MIRROR:-$(own_mirrors | sort -u | head -n 1)}
folder=$(mkdir -p "$1" && cd "$1" && pwd)
architecture=$2
shift 2

apt=$folder/.apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/downloads"
touch "$apt/status"
echo "deb $mirror trixie main" > "$apt/sources.list"
cat > "$apt/apt.conf" <<END
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Lists "$apt/lists";
Dir::State::Status "$apt/status";
Dir::Cache "$apt/cache";
Debug::NoLocking "1";
END
export APT_CONFIG=$apt/apt.conf
apt-get -qq update
if [ "$1" = --with-dependencies ]; then
    shift
    apt-get -qq install --yes --download-only --no-install-recommends "$@"
    mv "$apt"/cache/archives/*.deb "$apt/downloads"
else
    (cd "$apt/downloads" && apt-get -qq download "$@")
fi
for package in "$apt"/downloads/*.deb; do
    dpkg -x "$package" "$folder"
done
rm -rf "$apt"
# Where Debian has had its libraries since /usr was merged; a package of its own makes this link.
[ -e "$folder/lib" ] || ln -s usr/lib "$folder/lib"
