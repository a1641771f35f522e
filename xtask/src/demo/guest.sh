# Turns a fresh Debian 12 tree into the demo's guest. mmdebstrap runs it: sh guest.sh TREE
set -eu
tree=$1

# A small initramfs with what any hypervisor's disk needs; the kernel brings ext4.
cat > "$tree/etc/initramfs-tools/conf.d/molde" <<END
MODULES=list
COMPRESS=zstd
END
printf '%s\n' virtio_pci virtio_blk virtio_scsi sd_mod ahci ata_piix nvme > "$tree/etc/initramfs-tools/modules"
chroot "$tree" update-initramfs -u

# GRUB stands outside the file system, and Debian keeps /vmlinuz and /initrd.img at the newest kernel.
mkdir -p "$tree/boot/grub"
cat > "$tree/boot/grub/grub.cfg" <<END
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
set timeout=0
menuentry 'Debian GNU/Linux' {
    linux /vmlinuz root=/dev/sda1 ro console=tty0 console=ttyS0,115200 quiet
    initrd /initrd.img
}
END

# What a guest of VMware brings along, so that there is something to repair: disks by the names that they had there, one of
# them not part of the image, an adapter known by its address, and a cloud-init that is switched off.
cat > "$tree/etc/fstab" <<END
/dev/sda1 / ext4 errors=remount-ro 0 1
/dev/sdb1 /srv ext4 defaults 0 2
END
mkdir -p "$tree/etc/udev/rules.d"
echo 'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{address}=="00:50:56:aa:bb:cc", NAME="eth0"' \
    > "$tree/etc/udev/rules.d/70-persistent-net.rules"
: > "$tree/etc/cloud/cloud-init.disabled"

# The network does not wait for what a config drive says, or fails to say, of it.
mkdir -p "$tree/etc/systemd/network" "$tree/etc/systemd/system/systemd-networkd-wait-online.service.d"
cat > "$tree/etc/systemd/network/20-wired.network" <<END
[Match]
Type=ether

[Network]
DHCP=yes
END
cat > "$tree/etc/systemd/system/systemd-networkd-wait-online.service.d/deadline.conf" <<END
[Service]
ExecStart=
ExecStart=/lib/systemd/systemd-networkd-wait-online --any --timeout=20
END
chroot "$tree" systemctl --quiet enable systemd-networkd.service
# The resolver of QEMU's user network; networkd alone writes none.
echo 'nameserver 10.0.2.3' > "$tree/etc/resolv.conf"
echo 'molde-demo' > "$tree/etc/hostname"

# cloud-init starts Python four times, which is most of the boot where a processor is emulated: it looks for a config
# drive alone, leaves the network alone, and has only the modules that a demo uses.
cat > "$tree/etc/cloud/cloud.cfg.d/90_demo.cfg" <<END
datasource_list: [ ConfigDrive, NoCloud ]
network: { config: disabled }
ssh_deletekeys: false
cloud_init_modules: [ bootcmd, write-files, set_hostname, update_etc_hosts, users-groups ]
cloud_config_modules: [ runcmd ]
cloud_final_modules: [ write-files-deferred, scripts-per-once, scripts-per-boot, scripts-per-instance, scripts-user, final-message ]
END

# Nothing here is needed by a guest that lives for a minute. logind stays: it hears the power button.
chroot "$tree" systemctl --quiet mask \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    systemd-tmpfiles-clean.timer modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service \
    modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service dev-hugepages.mount dev-mqueue.mount \
    proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount \
    sys-kernel-tracing.mount systemd-binfmt.service systemd-firstboot.service systemd-journal-flush.service \
    systemd-network-generator.service systemd-pcrphase.service systemd-pcrphase-sysinit.service \
    systemd-repart.service systemd-update-utmp.service getty-static.service \
    cloud-init-hotplugd.socket
chroot "$tree" systemctl --quiet set-default multi-user.target

# No package sources: nothing of the machine that built the disk, and a guest that lives for a minute installs nothing.
rm -f "$tree/etc/apt/sources.list" "$tree"/etc/apt/sources.list.d/* "$tree/etc/apt/apt.conf.d/99mmdebstrap"
