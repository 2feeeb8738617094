//! The progress bar.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on stderr. `indicatif` shows it only if that is a terminal.
pub(crate) fn bar(runs: usize) -> ProgressBar {
    let bar = ProgressBar::new(runs as u64);
    let template = "{wide_bar} {pos}/{len} runs, {elapsed} gone, about {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
    // A run may take long, and the bar's clock should go on meanwhile.
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
