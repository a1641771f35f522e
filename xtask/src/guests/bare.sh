# Makes of a Debian tree what cannot be repaired from outside: it has no cloud-init, and nothing can be appended to its initramfs: sh bare.sh TREE
set -eu
tree=$1

# This one still is for the disks of another machine, and the next one will not be.
sed -i s/COMPRESS=zstd/COMPRESS=lz4/ "$tree/etc/initramfs-tools/conf.d/molde"
chroot "$tree" update-initramfs -u
echo COMPRESS=lz4 > "$tree/etc/initramfs-tools/conf.d/molde"
rm "$tree/etc/initramfs-tools/hooks/molde"
chroot "$tree" dpkg --purge cloud-init
