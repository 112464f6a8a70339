//! How far a long command is, for people: a bar on standard error, and only
//! where that is a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::api::admin::Progress;

/// What takes less long needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shows nothing before the first progress, and is gone at the end.
pub(super) struct Bar {
    bar: ProgressBar,
    /// Nothing is shown before.
    not_before: Instant,
}

impl Bar {
    pub(super) fn new() -> Self {
        Self { bar: ProgressBar::no_length(), not_before: Instant::now() }
    }

    /// One that nobody sees where the work is done within a second.
    pub(super) fn patient() -> Self {
        Self { bar: ProgressBar::no_length(), not_before: Instant::now() + PATIENCE }
    }

    pub(super) fn show(&self, progress: Progress) {
        if Instant::now() >= self.not_before {
            self.show_now(progress);
        }
    }

    fn show_now(&self, Progress { what, done, of }: Progress) {
        let bar = &self.bar;
        if bar.message() != what {
            // No tick before there is something to say.
            bar.enable_steady_tick(Duration::from_millis(200));
            bar.set_message(what);
        }
        if bar.length() != of {
            bar.set_style(style(of));
            match of {
                Some(of) => bar.set_length(of),
                None => bar.unset_length(),
            }
        }
        bar.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(of: Option<u64>) -> ProgressStyle {
    let template = match of {
        Some(_) => "{msg} [{bar:30}] {human_pos} of {human_len} {eta}",
        None => "{spinner} {msg} {human_pos}",
    };
    // The template is a constant that the tests have seen to be right.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patient_bar_shows_nothing_at_first() {
        let bar = Bar { bar: ProgressBar::hidden(), ..Bar::patient() };
        bar.show(Progress { what: "acme".into(), done: 1, of: None });
        assert_eq!(bar.bar.position(), 0);
    }

    #[test]
    fn both_templates_are_understood() {
        for of in [None, Some(1)] {
            let bar = Bar { bar: ProgressBar::hidden(), not_before: Instant::now() };
            bar.show(Progress { what: "acme".into(), done: 1, of });
            assert_eq!(bar.bar.position(), 1);
            assert_eq!(bar.bar.length(), of);
        }
        for template in ["{msg} [{bar:30}] {human_pos} of {human_len} {eta}", "{spinner} {msg}"] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
