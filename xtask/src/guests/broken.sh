# Writes into a Debian tree what keeps a guest of VMware from starting in a cloud: sh broken.sh TREE bios|uefi ext4|xfs|btrfs
# Every file is written whole, so that one tree serves all.
set -eu
tree=$1
firmware=$2
root=$3

# Devices by their names on that machine, one of them a data disk that is not part of the image.
case $root in
    ext4) options='errors=remount-ro 0 1' ;;
    *) options='defaults 0 0' ;;
esac
cat > "$tree/etc/fstab" <<END
# <file system> <mount point> <type> <options> <dump> <pass>
/dev/sda1 / $root $options
/dev/sdb1 /data ext4 defaults 0 2
END
mkdir -p "$tree/data" "$tree/boot/efi" "$tree/boot/grub"
# With a BIOS the kernel speaks on the serial line, so that one can see where it stops; with UEFI it has to be told to.
console='console=tty0 console=ttyS0,115200'
if [ "$firmware" = uefi ]; then
    echo '/dev/sda2 /boot/efi vfat umask=0077 0 1' >> "$tree/etc/fstab"
    console=quiet
fi
cat > "$tree/etc/default/grub" <<END
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="$console"
GRUB_DISABLE_LINUX_UUID=true
END
cat > "$tree/boot/grub/grub.cfg" <<END
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
set timeout=0
menuentry 'Debian GNU/Linux' {
	linux	/vmlinuz root=/dev/sda1 ro $console
	initrd	/initrd.img
}
END

# A fixed address on an adapter that is named by its own.
cat > "$tree/etc/network/interfaces" <<END
auto lo
iface lo inet loopback

auto eth0
iface eth0 inet static
	address 192.168.77.10/24
	gateway 192.168.77.1
END
mkdir -p "$tree/etc/udev/rules.d"
echo 'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{address}=="00:50:56:aa:bb:cc", NAME="eth0"' \
    > "$tree/etc/udev/rules.d/70-persistent-net.rules"
echo 'nameserver 192.168.77.1' > "$tree/etc/resolv.conf"

# cloud-init, or what was left of it, is switched off, looks for another hypervisor, leaves the network alone, and takes itself for an old server.
mkdir -p "$tree/etc/cloud/cloud.cfg.d"
: > "$tree/etc/cloud/cloud-init.disabled"
echo 'datasource_list: [ VMware, OVF, None ]' > "$tree/etc/cloud/cloud.cfg.d/90_dpkg.cfg"
echo 'network: {config: disabled}' > "$tree/etc/cloud/cloud.cfg.d/99-disable-network-config.cfg"
instance=$tree/var/lib/cloud/instances/iid-vmware-1
mkdir -p "$instance/sem" "$tree/var/lib/cloud/data"
printf '#cloud-config\n' > "$instance/user-data.txt"
for module in config_ssh config_scripts_user config_runcmd config_set_hostname; do : > "$instance/sem/$module"; done
ln -sfn /var/lib/cloud/instances/iid-vmware-1 "$tree/var/lib/cloud/instance"
echo iid-vmware-1 > "$tree/var/lib/cloud/data/instance-id"

# What made that machine itself.
echo 0123456789abcdef0123456789abcdef > "$tree/etc/machine-id"
echo old-server > "$tree/etc/hostname"
rm -f "$tree"/etc/ssh/ssh_host_*
for kind in rsa ecdsa ed25519; do
    echo "not a key: $kind" > "$tree/etc/ssh/ssh_host_${kind}_key"
    echo "not a key: $kind" > "$tree/etc/ssh/ssh_host_${kind}_key.pub"
done
chmod 600 "$tree"/etc/ssh/ssh_host_*_key
