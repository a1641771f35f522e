//! Boots one server from a disk that is served over NBD and shows its serial console as long as it runs: `boot SOCKET
//! EXPORT BYTES DIRECTORY`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use compute::{
    Acceleration, Base, ConfigDrive, Driver, Firmware, Power, QemuDriver, QemuOptions, ServerSpec, hostname_for,
};
use model::ServerId;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [socket, export, bytes, directory] = &arguments[..] else {
        return Err("usage: boot SOCKET EXPORT BYTES DIRECTORY".into());
    };
    let mut options = QemuOptions::new(directory);
    options.acceleration = Acceleration::Tcg;
    let driver = QemuDriver::new(options).await?;

    let id = ServerId::new();
    let spec = ServerSpec {
        id,
        name: "example".into(),
        vcpus: 1,
        ram_mib: 256,
        disk_bytes: bytes.parse()?,
        base: Base { socket: socket.into(), export: export.clone() },
        firmware: Firmware::Bios,
        config_drive: ConfigDrive {
            hostname: hostname_for("example", id),
            user_data: None,
            ssh_keys: Vec::new(),
            meta: BTreeMap::new(),
            uuid: id.uuid(),
        },
        forwards: Vec::new(),
    };
    driver.start(&spec).await?;
    println!("started {id}");
    let mut shown = 0;
    let power = loop {
        let power = driver.power(id).await?;
        let console = driver.console(id, usize::MAX).await?;
        print!("{}", String::from_utf8_lossy(console.get(shown..).unwrap_or_default()).escape_debug());
        shown = console.len();
        if power != Power::Running {
            break power;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    println!("{power:?}");
    Ok(driver.delete(id).await?)
}
