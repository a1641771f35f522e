//! Progress on stderr, for people at a terminal only.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Makes a bar over `total` bytes; silent where stderr is no terminal.
pub(crate) fn bytes(label: &str, total: u64) -> ProgressBar {
    bar(label, total, "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
}

/// Makes a bar over 100 percent; silent where stderr is no terminal.
pub(crate) fn percent(label: &str) -> ProgressBar {
    bar(label, 100, "{prefix} {wide_bar} {percent:>3} % {msg}")
}

fn bar(label: &str, total: u64, template: &str) -> ProgressBar {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(total), target).with_prefix(label.to_owned());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
