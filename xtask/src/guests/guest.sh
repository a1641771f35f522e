# Turns a fresh Debian 12 tree into a guest of another hypervisor, as far as that takes long. mmdebstrap runs it: sh guest.sh TREE
set -eu
tree=$1

# The initramfs has the drivers of that machine's disks alone, and of the file systems that the root may be made as.
cat > "$tree/etc/initramfs-tools/conf.d/molde" <<END
MODULES=list
COMPRESS=zstd
END
echo sd_mod > "$tree/etc/initramfs-tools/modules"
cat > "$tree/etc/initramfs-tools/hooks/molde" <<'END'
#!/bin/sh
[ "$1" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules xfs btrfs crc32c_generic
END
chmod 755 "$tree/etc/initramfs-tools/hooks/molde"
chroot "$tree" update-initramfs -u

# What a guest without cloud-init is given to get it, beside the tree.
packages=$(dirname "$tree")/packages
rm -rf "$packages"
mkdir "$packages"
chroot "$tree" sh -c 'cd /var/cache && apt-get download cloud-init'
mv "$tree"/var/cache/cloud-init_*.deb "$packages"

# No package sources: nothing of the machine that built the disk.
rm -f "$tree/etc/apt/sources.list" "$tree"/etc/apt/sources.list.d/* "$tree/etc/apt/apt.conf.d/99mmdebstrap"
