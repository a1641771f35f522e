//! cloud-init: what keeps it from making a new server out of the guest.
//!
//! Sources: cloud-init's documentation ("Boot stages", "How to disable cloud-init", "Datasource identification"), systemd.unit(5).

use crate::check::doctor::{Doctor, at, at_line};
use crate::check::finding::Evidence;
use crate::check::kinds::{
    CLOUD_INIT_DATASOURCE, CLOUD_INIT_DISABLED, CLOUD_INIT_INSTANCE, CLOUD_INIT_MISSING, CLOUD_INIT_NETWORK,
};
use crate::check::lines::{self, Line, MARK};
use crate::text::assignment;

const CONFIG: &str = "/etc/cloud/cloud.cfg";
const DROP_INS: &str = "/etc/cloud/cloud.cfg.d";
const DISABLED: &str = "/etc/cloud/cloud-init.disabled";
/// Sources from which servers of this and of most other clouds get their data.
const WANTED: [&str; 2] = ["ConfigDrive", "OpenStack"];
/// What is remembered of the server: cloud-init makes it anew for another one.
const INSTANCE: [&str; 4] =
    ["/var/lib/cloud/instance", "/var/lib/cloud/instances", "/var/lib/cloud/data", "/var/lib/cloud/sem"];
const UNITS: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// Where an administrator's decisions on units are kept.
const DECIDED: &str = "/etc/systemd/system";

pub(super) fn check(doctor: &mut Doctor<'_>) {
    let Some(found) = doctor.report.os.as_ref().and_then(|os| os.cloud_init.clone()) else {
        let told = "cloud-init is not installed: new servers get no keys, no host name and no settings of their own.";
        if doctor.found(&CLOUD_INIT_MISSING, told, Vec::new()) {
            install(doctor);
        }
        return;
    };
    check_marker(doctor);
    check_units(doctor);
    let is_foreign =
        !found.datasources.is_empty() && !WANTED.iter().any(|name| found.datasources.iter().any(|own| own == name));
    if is_foreign {
        check_datasources(doctor, &found.datasources);
    }
    check_network(doctor);
    check_instance(doctor);
}

fn install(doctor: &mut Doctor<'_>) {
    let Some((programs, os)) = doctor.programs().zip(doctor.report.os.as_ref()) else { return };
    match programs.install(&CLOUD_INIT_MISSING, "cloud-init", os) {
        Ok(program) => doctor.run(program),
        Err(why) => doctor.leave_because(why),
    }
}

fn check_marker(doctor: &mut Doctor<'_>) {
    let told = "A marker file switches cloud-init off.";
    if doctor.draft.exists(DISABLED) && doctor.found(&CLOUD_INIT_DISABLED, told, vec![at(DISABLED)]) {
        doctor.draft.remove(DISABLED);
    }
}

/// Its units must be wanted by what their files name, and not be masked.
fn check_units(doctor: &mut Doctor<'_>) {
    for folder in UNITS {
        let names = doctor.tree.names(folder, 4096);
        let own = names.iter().filter(|name| name.starts_with("cloud-") && name.ends_with(".service"));
        for name in own {
            check_unit(doctor, &format!("{folder}/{name}"), name);
        }
        // The second one is the same folder by another name, or is not there.
        if !names.is_empty() {
            return;
        }
    }
}

fn check_unit(doctor: &mut Doctor<'_>, path: &str, name: &str) {
    let masked = format!("{DECIDED}/{name}");
    let is_masked = doctor.tree.link_target(&masked).is_some_and(|target| target == "/dev/null");
    let told = format!("The service {name} is masked.");
    if is_masked && doctor.found(&CLOUD_INIT_DISABLED, told, vec![at(&masked)]) {
        doctor.draft.remove(&masked);
    }
    let Some(text) = doctor.draft.text(path) else { return };
    let wanted = text.lines().filter_map(assignment).filter(|(key, _)| *key == "WantedBy");
    // A unit has a name, never a path (systemd.unit(5)): another folder is not for cloud-init to choose.
    let targets: Vec<String> = wanted
        .flat_map(|(_, value)| value.split_ascii_whitespace())
        .filter(|target| !target.contains('/'))
        .map(str::to_owned)
        .collect();
    let links: Vec<String> = targets.iter().map(|target| format!("{DECIDED}/{target}.wants/{name}")).collect();
    let vendor = |target: &String| {
        UNITS.iter().any(|folder| doctor.tree.node(&format!("{folder}/{target}.wants/{name}")).is_some())
    };
    let is_wanted = links.iter().any(|link| doctor.tree.node(link).is_some()) || targets.iter().any(vendor);
    let Some(link) = links.first().filter(|_| !is_wanted) else { return };
    let told = format!("The service {name} is installed and not enabled.");
    if doctor.found(&CLOUD_INIT_DISABLED, told, vec![at(path)]) {
        doctor.draft.link(link, path);
    }
}

/// Returns the configuration files in the order in which they are read.
fn configs(doctor: &Doctor<'_>) -> Vec<String> {
    let mut paths = vec![CONFIG.to_owned()];
    paths.extend(doctor.files(DROP_INS, ".cfg"));
    paths
}

fn check_datasources(doctor: &mut Doctor<'_>, list: &[String]) {
    let texts: Vec<(String, String)> =
        configs(doctor).into_iter().filter_map(|path| doctor.draft.text(&path).map(|text| (path, text))).collect();
    let evidence: Vec<Evidence> = texts
        .iter()
        .flat_map(|(path, text)| {
            let lists = text.lines().enumerate().filter(|(_, line)| line.starts_with("datasource_list:"));
            lists.map(move |(index, line)| at_line(path, index, line))
        })
        .collect();
    let told = format!(
        "cloud-init looks for its settings only at {}, and not where an OpenStack or this cloud has them.",
        list.join(", ")
    );
    if !doctor.found(&CLOUD_INIT_DATASOURCE, told, evidence) {
        return;
    }
    for (path, text) in texts {
        let mut is_inside = false;
        let edited = lines::edit(&text, |_, line| {
            // A list goes on over lines that are indented, begin with a dash or close it.
            is_inside = line.starts_with("datasource_list:")
                || (is_inside && (line.starts_with([' ', '\t', '-', ']']) && !line.trim().is_empty()));
            if is_inside { Line::Become(format!("{MARK}{line}")) } else { Line::Keep }
        });
        if let Some(edited) = edited {
            doctor.draft.write(&path, edited, None);
        }
    }
}

/// `network: {config: disabled}`, on one line or two.
fn check_network(doctor: &mut Doctor<'_>) {
    for path in configs(doctor) {
        let Some(text) = doctor.draft.text(&path) else { continue };
        let all: Vec<&str> = text.lines().collect();
        let is_off = |index: usize| -> usize {
            let squeezed = |line: &str| line.split('#').next().unwrap_or_default().replace([' ', '\t', '"', '\''], "");
            let line = squeezed(all[index]);
            match line.as_str() {
                "network:{config:disabled}" => 1,
                "network:" if all.get(index + 1).is_some_and(|next| squeezed(next) == "config:disabled") => 2,
                _ => 0,
            }
        };
        let places: Vec<(usize, usize)> =
            (0..all.len()).map(|index| (index, is_off(index))).filter(|(_, count)| *count > 0).collect();
        let evidence = places.iter().map(|(index, _)| at_line(&path, *index, all[*index])).collect();
        let told =
            "cloud-init is told to leave the network alone, so that a new server has no settings for its adapters.";
        if places.is_empty() || !doctor.found(&CLOUD_INIT_NETWORK, told, evidence) {
            continue;
        }
        let is_meant = |index: usize| places.iter().any(|(first, count)| (*first..first + count).contains(&index));
        let edited =
            lines::edit(
                &text,
                |index, line| {
                    if is_meant(index) { Line::Become(format!("{MARK}{line}")) } else { Line::Keep }
                },
            );
        if let Some(edited) = edited {
            doctor.draft.write(&path, edited, None);
        }
    }
}

fn check_instance(doctor: &mut Doctor<'_>) {
    let there: Vec<&str> = INSTANCE.into_iter().filter(|path| doctor.tree.node(path).is_some()).collect();
    let evidence = there.iter().map(|path| at(path)).collect();
    let told = "cloud-init remembers the server that it ran on, with the settings and secrets that it was given.";
    if !there.is_empty() && doctor.found(&CLOUD_INIT_INSTANCE, told, evidence) {
        there.iter().for_each(|path| doctor.draft.remove(path));
    }
}
