//! What is inside a disk, for people: of a local inspection and of the server's answer, which have the same shape.

use serde_json::Value;

use crate::error::Result;
use crate::output::{Output, line, plain, print_json};

/// Prints an inspection.
pub(crate) fn print(output: Output, found: &Value) -> Result<()> {
    if output == Output::Json {
        return print_json(found);
    }
    let text = |value: &Value| plain(value.as_str().unwrap_or("unknown"));
    match &found["os"] {
        Value::Null => line("no operating system was found")?,
        os => {
            line(&format!("{} ({}, {})", text(&os["name"]), text(&os["type"]), text(&os["arch"])))?;
            line(&format!("  host name     {}", text(&os["hostname"])))?;
            line(&format!("  packages      {}", text(&os["package_manager"])))?;
            for kernel in os["kernels"].as_array().into_iter().flatten() {
                line(&format!("  kernel        {}", text(kernel)))?;
            }
            for network in os["networks"].as_array().into_iter().flatten() {
                line(&format!("  network       {}", adapter(network)))?;
            }
            let cloud = match &os["cloud_init"] {
                Value::Null => "absent".to_owned(),
                found if found["disabled"] == true => format!("{}, disabled", text(&found["version"])),
                found => text(&found["version"]),
            };
            line(&format!("  cloud-init    {cloud}"))?;
            if let Some(windows) = os.get("windows").filter(|windows| windows.is_object()) {
                line(&format!("  edition       {} {}", text(&windows["edition"]), text(&windows["build"])))?;
            }
        }
    }
    for other in found["other_systems"].as_array().into_iter().flatten() {
        line(&format!("also: {} ({}) on {}", text(&other["name"]), text(&other["type"]), text(&other["root"])))?;
    }
    let boot = &found["boot"];
    let firmware: Vec<_> = ["bios", "uefi"].into_iter().filter(|name| boot[*name] == true).collect();
    let loader = plain(boot["loader"].as_str().unwrap_or_default());
    line(format!("boot            {} {loader}", firmware.join(" and ")).trim_end())?;
    if let Some(command_line) = boot["command_line"].as_str() {
        line(&format!("command line    {}", plain(command_line)))?;
    }
    line(&format!("partition table {}", plain(found["partition_table"].as_str().unwrap_or("none"))))?;
    Output::Table.list(
        &found["filesystems"],
        &[
            ("DEVICE", "/device"),
            ("TYPE", "/type"),
            ("BYTES", "/size"),
            ("LABEL", "/label"),
            ("UUID", "/uuid"),
            ("MOUNTED AT", "/mounted_at"),
        ],
    )?;
    for note in found["notes"].as_array().into_iter().flatten() {
        line(&format!("note: {}", text(note)))?;
    }
    Ok(())
}

/// Says how an adapter is set up, such as `eth0 10.0.0.2/24 by ifupdown`.
fn adapter(network: &Value) -> String {
    let text = |value: &Value| plain(value.as_str().unwrap_or("any"));
    let addresses = network["addresses"].as_array().into_iter().flatten().map(text);
    let automatic = (network["automatic"] == true).then(|| "automatic".to_owned());
    let mut settings: Vec<String> = automatic.into_iter().chain(addresses).collect();
    if settings.is_empty() {
        settings.push("no address".to_owned());
    }
    format!("{} {} by {}", text(&network["name"]), settings.join(", "), text(&network["stack"]))
}
