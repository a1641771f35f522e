# Turns a fresh Debian 12 tree into a guest of another hypervisor, as far as that takes long. mmdebstrap runs it: sh guest.sh TREE
set -eu
tree=$1

# The initramfs has the drivers of that machine's disks alone.
cat > "$tree/etc/initramfs-tools/conf.d/molde" <<END
MODULES=list
COMPRESS=zstd
END
echo sd_mod > "$tree/etc/initramfs-tools/modules"
chroot "$tree" update-initramfs -u

# No package sources: nothing of the machine that built the disk.
rm -f "$tree/etc/apt/sources.list" "$tree"/etc/apt/sources.list.d/* "$tree/etc/apt/apt.conf.d/99mmdebstrap"
