#!/usr/bin/env bash
# Builds the guest of the Bluetooth test: a Debian kernel with Bluetooth, an initramfs, and a root
# folder with Debian's bluetoothd and dbus-daemon.
#
#   build-guest.sh FOLDER
#
# Needs root on Debian. Does nothing when FOLDER is up to date.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
guest=$1
recipe=$(cat "$0" "$here/guest-init.sh" | sha256sum | cut -c1-16)
[ "$(cat "$guest/recipe" 2>/dev/null || true)" = "$recipe" ] && exit 0
mkdir -p "$guest"

# Unpacks what is needed of the kernel package.
unpack_kernel() {
  local package
  apt-get -qq update
  package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
  rm -rf "$guest/kernel" "$guest/packages"
  mkdir "$guest/kernel" "$guest/packages"
  (cd "$guest/packages" && apt-get -qq -o APT::Sandbox::User=root download "$package")
  dpkg-deb --fsys-tarfile "$guest/packages/$package"_*.deb | tar -x -C "$guest/kernel" --wildcards \
    './boot/vmlinuz-*' './lib/modules/*/modules.*' \
    './lib/modules/*/kernel/'{crypto,lib,fs/9p,fs/netfs,fs/fscache}'/*' \
    './lib/modules/*/kernel/net/'{bluetooth,rfkill,9p,core}'/*' \
    './lib/modules/*/kernel/drivers/'{bluetooth,virtio,hid,net}'/*'
  rm -r "$guest/packages"
}

# Decompresses the kernel image. An emulated processor would need longer for it than for the rest of
# the boot.
unpack_image() {
  python3 - "$guest"/kernel/boot/vmlinuz-* "$guest/vmlinux" <<'PY'
import lzma, sys

image = open(sys.argv[1], "rb").read()
start = image.find(b"\xfd7zXZ\x00")
assert start > 0, "the kernel is not compressed with xz"
kernel = lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(image[start:])
assert kernel[:4] == b"\x7fELF", "there is no ELF image in the kernel"
open(sys.argv[2], "wb").write(kernel)
PY
}

# Unpacks packages without running their scripts.
make_root() {
  local root=$guest/root folder
  rm -rf "$root"
  # shellcheck source=/dev/null
  mmdebstrap --quiet --mode=root --variant=extract \
    --include=dbus-daemon,dbus-bin,dbus-system-bus-common,bluez,libgcc-s1,busybox-static \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$root"
  printf 'root:x:0:0::/:/bin/sh\nmessagebus:x:100:100::/:/bin/false\n' >"$root/etc/passwd"
  printf 'root:x:0:\nmessagebus:x:100:\nbluetooth:x:101:\n' >"$root/etc/group"
  printf 'passwd: files\ngroup: files\n' >"$root/etc/nsswitch.conf"
  echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
  for folder in job var/lib/bluetooth proc sys dev run tmp; do mkdir -p "$root/$folder"; done
}

# Busybox, the modules in load order, and the script.
make_initramfs() {
  local initramfs=$guest/initramfs version module file number=100
  version=$(basename "$guest"/kernel/lib/modules/*)
  depmod -b "$guest/kernel" "$version"
  rm -rf "$initramfs"
  mkdir -p "$initramfs"/{bin,mod,new,proc,sys,dev}
  cp "$guest/root/bin/busybox" "$initramfs/bin/busybox"
  cp "$here/guest-init.sh" "$initramfs/init"
  chmod +x "$initramfs/init"
  for module in virtio_pci 9pnet_virtio 9p virtio_net ctr hmac sha512_generic drbg hci_uart cmac ecb \
    algif_hash algif_skcipher; do
    while read -r file; do
      compgen -G "$initramfs/mod/*-$(basename "$file")" >/dev/null && continue
      number=$((number + 1))
      cp "$file" "$initramfs/mod/$number-$(basename "$file")"
    done < <(modprobe -d "$guest/kernel" -S "$version" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p')
  done
  (cd "$initramfs" && find . | cpio -o -H newc -R 0:0 --quiet) >"$guest/initramfs.cpio"
}

unpack_kernel
unpack_image
make_root
make_initramfs
echo "$recipe" >"$guest/recipe"
