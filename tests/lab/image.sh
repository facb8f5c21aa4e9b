#!/usr/bin/env bash
# Builds the virtual machine: kernel, initial RAM disk and root file system, from Debian's packages and this source tree.
#   tests/lab/image.sh       into ${GATEPOST_LAB:-${XDG_CACHE_HOME:-~/.cache}/gatepost-lab}; again only what has changed
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd); SOURCE=$(cd "$HERE/../.." && pwd)
LAB=${GATEPOST_LAB:-${XDG_CACHE_HOME:-$HOME/.cache}/gatepost-lab}
PYTHON=${PYTHON:-$SOURCE/.venv/bin/python}
SUITE=bookworm; GUEST_PYTHON=3.11

fail() { echo "image.sh: $*" >&2; exit 1; }
step() { echo "$(date +%T) $*"; }

[ "$(id -u)" = 0 ] || fail "run this as root: a root file system is made of files that root owns"
missing=$(for tool in qemu-system-x86_64 qemu-img mmdebstrap mkfs.ext4 debugfs cpio socat; do
  command -v $tool >/dev/null || echo -n " $tool"; done)
[ -z "$missing" ] || fail "missing:$missing; apt-get install --no-install-recommends" \
  "qemu-system-x86 qemu-utils mmdebstrap e2fsprogs cpio socat"
[ -x "$PYTHON" ] || fail "no $PYTHON: run this as 'make powercut', or name another one in PYTHON"

image() { step "root file system $1"; rm -f "$1"; truncate -s 1500M "$1"; mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1 -d "$R" "$1"; }

mkdir -p "$LAB"; cd "$LAB"
exec 9>lock
claim() { flock -n 9 || fail "$LAB is in use: another image.sh builds there, or a powercut runs; name another in GATEPOST_LAB"; }
R=$LAB/root

# --- Debian ---------------------------------------------------------------------------------------------------------
# The whole kernel, not the cloud one: that has no GPIO, no I2C, no USB serial.
PACKAGES=systemd,systemd-sysv,dbus,udev,kmod,iproute2,procps,netbase,e2fsprogs,busybox-static,qemu-guest-agent
PACKAGES+=,python3,python3-venv,sqlite3,i2c-tools,gpiod,usbutils
SCRIPT=$HERE/image.sh
debian=$(sed '/^# --- gatepost/,$d' "$SCRIPT" | cat - <(cd "$HERE" && tar -c --sort=name --mtime=@0 etc init) | sha256sum)
if [ "$(cat debian.done 2>/dev/null)" != "$debian" ]; then
  claim
  rm -rf "$R" kernel ird linux-image-*.deb debian.done gatepost.done
  step "Debian $SUITE"
  mmdebstrap --quiet --mode=root --variant=minbase --include=$PACKAGES \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' $SUITE "$R" 2>debian.log || fail "mmdebstrap failed: see $LAB/debian.log"
  # Taken apart and not installed, or it would bring initramfs-tools and a RAM disk that takes long to unpack.
  version=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: linux-image-//p' | head -1)
  [ -n "$version" ] || fail "apt knows no linux-image-amd64: apt-get update"
  step "kernel $version"
  apt-get download -q "linux-image-$version" >kernel.log
  dpkg -x linux-image-*.deb kernel
  cp "kernel/boot/vmlinuz-$version" vmlinuz
  M=$R/lib/modules/$version
  mkdir -p "$R/lib/modules"; cp -a "kernel/lib/modules/$version" "$M"
  (cd "$M/kernel" && rm -rf arch/x86/kvm sound net/wireless \
    drivers/{gpu,infiniband,media,staging,scsi,ata,isdn,accessibility,firewire,mtd,edac,video,target,nvme,message,bluetooth} \
    drivers/{thunderbolt,net/ethernet,net/wireless,net/wan} fs/{xfs,btrfs,ocfs2,gfs2,ceph,smb,nfs,nfsd,jfs,f2fs,reiserfs,ntfs3,ubifs})
  chroot "$R" depmod "$version"
  cp -r --no-preserve=ownership "$HERE/etc/." "$R/etc/"
  rm -r "$R/etc/systemd/system/gatepost.service.d" "$R/etc/udev/rules.d/60-lab.rules" # comes back with gatepost, below
  sed -i '/gatepost/d' "$R/etc/fstab"
  : > "$R/etc/machine-id"
  # What a machine that lives for minutes does without, and what is slow without hardware support.
  for unit in systemd-timesyncd.service e2scrub_reap.service e2scrub_all.timer apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer fstrim.timer systemd-pstore.service systemd-networkd-wait-online.service getty@tty1.service; do
    ln -sf /dev/null "$R/etc/systemd/system/$unit"; done
  chroot "$R" systemctl --quiet enable systemd-networkd.service

  step "initial RAM disk"
  mkdir -p ird/{bin,mod,proc,sys,dev,new}
  cp "$R/bin/busybox" ird/bin/
  for applet in sh mount umount insmod switch_root sleep; do ln -sf busybox "ird/bin/$applet"; done
  for module in virtio_pci virtio_blk ext4; do chroot "$R" modprobe -S "$version" -D $module; done |
    awk '/^insmod/ && !seen[$2]++ {print $2}' | while read -r file; do
      cp "$R/$file" ird/mod/; basename "$file" >> ird/mod/order; done
  cp "$HERE/init" ird/init
  (cd ird && find . | cpio -o -H newc --quiet | gzip -1) > initrd.img
  image bare.img # Debian alone, to install a package on
  echo "$debian" > debian.done
fi

# --- gatepost ---------------------------------------------------------------------------------------------------------
gatepost=$(cd "$SOURCE" && tar -c --sort=name --mtime=@0 --exclude=__pycache__ pyproject.toml agent drivers simulators config systemd |
  cat - "$SCRIPT" | sha256sum)
if [ "$(cat gatepost.done 2>/dev/null)" != "$gatepost" ]; then
  claim
  step "gatepost"
  rm -rf gatepost.done wheels "$R/opt/gatepost" "$R/opt/wheels"; mkdir -p wheels
  "$PYTHON" -m pip wheel --quiet --no-deps --wheel-dir wheels "$SOURCE"
  "$PYTHON" -m pip download --quiet --dest wheels --python-version $GUEST_PYTHON --only-binary=:all: wheels/gatepost-*.whl lgpio
  cp -r wheels "$R/opt/wheels"
  chroot "$R" python3 -m venv /opt/gatepost
  chroot "$R" /opt/gatepost/bin/pip install --quiet --no-index --find-links /opt/wheels gatepost lgpio
  rm -rf "$R/opt/wheels"
  cp -r --no-preserve=ownership "$HERE/etc/." "$R/etc/"
  cp "$SOURCE/systemd/gatepost.service" "$R/etc/systemd/system/"
  cp "$SOURCE/systemd/gatepost.sysusers.conf" "$R/usr/lib/sysusers.d/gatepost.conf"
  chroot "$R" systemd-sysusers
  mkdir -p "$R/etc/gatepost"

  image root.img
  echo "$gatepost" > gatepost.done
fi
step "ready: $LAB ($(du -sh --apparent-size "$R" | cut -f1) root file system)"
