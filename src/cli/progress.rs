//! How far a long command is, for people: a bar on standard error, and only
//! where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::api::admin::Progress;

/// Shows nothing before the first progress, and is gone at the end.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new() -> Self {
        Self(ProgressBar::no_length())
    }

    pub(super) fn show(&self, Progress { what, done, of }: Progress) {
        let bar = &self.0;
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
        self.0.finish_and_clear();
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
    fn both_templates_are_understood() {
        for of in [None, Some(1)] {
            let bar = Bar(ProgressBar::hidden());
            bar.show(Progress { what: "acme".into(), done: 1, of });
            assert_eq!(bar.0.position(), 1);
            assert_eq!(bar.0.length(), of);
        }
        for template in ["{msg} [{bar:30}] {human_pos} of {human_len} {eta}", "{spinner} {msg}"] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
