#!/usr/bin/env bash
# Builds dist/gatepost_VERSION+pyX.Y_ARCH.deb: gatepost and all Python libraries that it needs, in an environment of its own.
#   packaging/debian/build.sh              as `make deb`
#   ARCH=arm64 packaging/debian/build.sh   for another architecture, from its wheels: amd64, arm64
# The same sources and wheels give the same bytes. A network is needed here, for the wheels; not where it is installed.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd); SOURCE=$(cd "$HERE/../.." && pwd)
PYTHON=${PYTHON:-$SOURCE/.venv/bin/python}
PYTHON_VERSION=3.11 # that of Debian 12; extension modules fit one only, and for Debian 13's 3.13 there is no wheel of lgpio yet
ARCH=${ARCH:-$(dpkg --print-architecture)}
PREFIX=/opt/gatepost

fail() { echo "build.sh: $*" >&2; exit 1; }
case $ARCH in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; *) fail "there are wheels for amd64 and arm64, not for $ARCH" ;; esac
command -v dpkg-deb >/dev/null || fail "missing: dpkg-deb, which comes with dpkg"
umask 022
cd "$SOURCE"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}; export SOURCE_DATE_EPOCH
version=$("$PYTHON" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')+py$PYTHON_VERSION
build=$SOURCE/build/deb-$ARCH-$PYTHON_VERSION; root=$build/root; wheels=$build/wheels; site=$root$PREFIX/lib/python$PYTHON_VERSION/site-packages
rm -rf "$build"; mkdir -p "$wheels" "$site" "$root$PREFIX/bin" dist

# --- the environment --------------------------------------------------------------------------------------------------
# Debian 12 has glibc 2.36, so any wheel for that or an older one will do.
target=(--only-binary=:all: --implementation cp --python-version "$PYTHON_VERSION")
for minor in $(seq 36 -1 17); do target+=(--platform "manylinux_2_${minor}_$machine"); done
target+=(--platform "manylinux2014_$machine")
pip() { "$PYTHON" -m pip --quiet --disable-pip-version-check "$@"; }
pip wheel --no-deps --wheel-dir "$wheels" .
pip download --dest "$wheels" --find-links "$wheels" "${target[@]}" 'gatepost[broker,gpio]'
pip install --no-index --find-links "$wheels" --no-compile --target "$site" "${target[@]}" 'gatepost[broker,gpio]'
# colorzero says that it needs setuptools, and does not use it.
rm -rf "$site/bin" "$site"/{setuptools,_distutils_hack,pkg_resources,setuptools-*.dist-info} "$site/distutils-precedence.pth"
ln -s "/usr/bin/python$PYTHON_VERSION" "$root$PREFIX/bin/python"
ln -s python "$root$PREFIX/bin/python3"
printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = %s\n' "$PYTHON_VERSION" >"$root$PREFIX/pyvenv.cfg"
cat >"$root$PREFIX/bin/gatepost" <<END
#!$PREFIX/bin/python -I
import sys

from agent.cli import main

sys.exit(main())
END
chmod 755 "$root$PREFIX/bin/gatepost"

# --- the system -------------------------------------------------------------------------------------------------------
put() { install -D -m "$3" "$1" "$root$2"; }
put systemd/gatepost.service /usr/lib/systemd/system/gatepost.service 644
put systemd/gatepost.sysusers.conf /usr/lib/sysusers.d/gatepost.conf 644
put systemd/gatepost.tmpfiles.conf /usr/lib/tmpfiles.d/gatepost.conf 644
put systemd/gatepost.udev.rules /usr/lib/udev/rules.d/60-gatepost.rules 644
put README.md /usr/share/doc/gatepost/README.md 644
put docs/install.md /usr/share/doc/gatepost/install.md 644
{ echo "gatepost, and the Python libraries in $PREFIX, each under the license in its .dist-info folder"; echo; cat LICENSE; } \
  | install -D -m 644 /dev/stdin "$root/usr/share/doc/gatepost/copyright"
mkdir -p "$root/usr/bin" && ln -s "$PREFIX/bin/gatepost" "$root/usr/bin/gatepost"

# --- the package --------------------------------------------------------------------------------------------------------
for script in postinst prerm postrm; do put "$HERE/$script" "/DEBIAN/$script" 755; done
cat >"$root/DEBIAN/control" <<END
Package: gatepost
Version: $version
Architecture: $ARCH
Maintainer: gatepost developers <gatepost@localhost>
Section: net
Priority: optional
Depends: python$PYTHON_VERSION, libc6 (>= 2.34), systemd, init-system-helpers (>= 1.54)
Suggests: mosquitto-clients
Installed-Size: $(du -k -s --apparent-size --exclude=DEBIAN "$root" | cut -f1)
Description: edge gateway agent for sensor events
 Sensors on GPIO and serial lines become events in a durable log; local rules
 raise alarms and set outputs; forwarders carry the events to MQTT brokers,
 through outages, crashes and power cuts.
END
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
package=dist/gatepost_${version}_$ARCH.deb
dpkg-deb --root-owner-group --threads-max=1 -Zxz --build "$root" "$package" >/dev/null
echo "$package: $(du -h --apparent-size "$package" | cut -f1), $(du -sh --apparent-size "$root" | cut -f1) installed"
