//! What a driver needs to know of a server, and what a server takes from its flavor and its image.

use std::collections::BTreeMap;

use compute::{Base, ConfigDrive, Firmware, ServerSpec, hostname_for};
use model::DiskFormat;
use model::images::Image;
use model::servers::{FLAVORS, Flavor, RootDisk, Server};

use crate::error::{Error, ErrorKind, Result};
use crate::formats;
use crate::service::Service;

const GIB: u64 = 1 << 30;
/// What the name of a server's disk begins with, where it is served over NBD.
pub(crate) const SERVER_EXPORTS: &str = "server/";

/// Makes what the driver needs to know of a server.
pub(crate) fn spec(service: &Service, server: &Server) -> Result<ServerSpec> {
    let flavor = flavor(&server.flavor)?;
    let config_drive = ConfigDrive {
        hostname: hostname_for(&server.name, server.id),
        user_data: server.user_data.clone(),
        ssh_keys: server.ssh_key.iter().cloned().collect(),
        meta: BTreeMap::new(),
        uuid: server.id.uuid(),
    };
    Ok(ServerSpec {
        id: server.id,
        name: server.name.clone(),
        vcpus: flavor.vcpus,
        ram_mib: flavor.ram_mib,
        disk_bytes: server.disk.size,
        base: Base {
            socket: service.parts.settings.nbd_socket.clone(),
            export: format!("{SERVER_EXPORTS}{}", server.id),
        },
        firmware: if server.disk.uefi { Firmware::Uefi } else { Firmware::Bios },
        config_drive,
        forwards: server.forwards.clone(),
    })
}

/// Returns the disk that a server of an image begins with: as large as its flavor says, or as the image needs.
pub(crate) fn root_disk(flavor: &Flavor, image: &Image) -> Result<RootDisk> {
    let content =
        image.content.ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("image {} has no content", image.id)))?;
    let size = image.size_virtual.or(image.size).unwrap_or(0);
    let format = image.disk_format.unwrap_or(DiskFormat::Raw);
    formats::openable(format)?;
    Ok(RootDisk {
        content,
        format,
        size: size.max(u64::from(flavor.disk_gib.max(image.min_disk_gib)) * GIB),
        uefi: image.properties.get("hw_firmware_type").is_some_and(|firmware| firmware == "uefi"),
    })
}

/// Returns the flavor of that name.
pub(crate) fn flavor(name: &str) -> Result<Flavor> {
    FLAVORS.iter().find(|flavor| flavor.name == name).copied().ok_or_else(|| {
        let known: Vec<_> = FLAVORS.iter().map(|flavor| flavor.name).collect();
        Error::not_found("flavor", format_args!("`{}`", name.chars().take(64).collect::<String>()))
            .with_hint(format!("one of: {}", known.join(", ")))
    })
}
