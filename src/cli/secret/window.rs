//! Windows as people type them, and as people say them.

use std::time::Duration;

use clap::Args;
use time::OffsetDateTime;
use time::macros::format_description;

use super::super::args::WhenArg;
use super::super::failure::CliError;
use crate::domain::{Now, Timestamp, ValidityWindow, WindowState};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Window")]
pub(in crate::cli) struct WindowArgs {
    /// Until when it is valid: 30d, 2026-12-31, 2026-12-31T00:00Z [default: without end]
    #[arg(long, value_name = "WHEN")]
    expires: Option<WhenArg>,
    /// From when on it is valid [default: at once]
    #[arg(long, value_name = "WHEN")]
    not_before: Option<WhenArg>,
    /// Take an end that is in the past
    #[arg(long, requires = "expires")]
    allow_expired: bool,
}

impl WindowArgs {
    /// What is said, and for the rest what was.
    pub(super) fn over(
        &self,
        before: ValidityWindow,
        now: Timestamp,
    ) -> Result<ValidityWindow, CliError> {
        let moment = |when: &Option<WhenArg>| when.as_ref().map(|when| when.moment(now));
        let expires_on = moment(&self.expires).transpose()?;
        let not_before = moment(&self.not_before).transpose()?;
        if let Some(end) = expires_on.filter(|end| *end <= now && !self.allow_expired) {
            return Err(CliError::usage(format!(
                "--expires {end} is not in the future: nobody could read the secret; \
                 --allow-expired takes it"
            )));
        }
        let start = not_before.or(before.not_before());
        let end = expires_on.or(before.expires_on());
        ValidityWindow::new(start, end).map_err(|_| {
            CliError::usage(format!(
                "it would end ({}) before it begins ({}): --expires must be later than \
                 --not-before",
                text(end),
                text(start)
            ))
        })
    }
}

fn text(end: Option<Timestamp>) -> String {
    end.map(|end| end.to_string()).unwrap_or_default()
}

/// As a person would say it: "expires in 3 days".
pub(super) fn in_words(window: &ValidityWindow, now: Timestamp) -> String {
    let end = window.expires_on();
    match (window.state_at(Now::undisputed(now)), window.not_before(), end) {
        (WindowState::Pending, Some(start), end) => {
            let lasts = end.map_or_else(
                || "without end".to_owned(),
                |end| format!("for {}", span(between(start, end))),
            );
            format!("{}, {lasts}", from(start, now))
        }
        (WindowState::Expired, _, Some(end)) => format!("expired {} ago", span(between(end, now))),
        (_, _, Some(end)) => format!("expires in {}", span(between(now, end))),
        (_, _, None) => "no end".to_owned(),
    }
}

/// A date says enough of what is far off.
fn from(start: Timestamp, now: Timestamp) -> String {
    let wait = between(now, start);
    let day = OffsetDateTime::from_unix_timestamp(start.unix_seconds()).ok();
    let format = format_description!("[day padding:none] [month repr:short] [year]");
    match day.and_then(|day| day.format(format).ok()).filter(|_| wait >= 2 * DAY) {
        Some(day) => format!("valid from {day}"),
        None => format!("valid in {}", span(wait)),
    }
}

pub(super) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_micros(to.unix_micros().saturating_sub(from.unix_micros()).max(0).unsigned_abs())
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Of the calendar, on average.
const YEAR: Duration = Duration::from_secs(31_556_952);
const MONTH: Duration = Duration::from_secs(31_556_952 / 12);

/// In the largest unit of which there are at least two, to the nearest.
pub(super) fn span(length: Duration) -> String {
    let units =
        [("years", YEAR), ("months", MONTH), ("days", DAY), ("hours", HOUR), ("minutes", MINUTE)];
    let fits = |unit: &&(&str, Duration)| length >= 2 * unit.1;
    match units.iter().find(fits) {
        // Deadlines are often set in days.
        Some(("months", _)) if length < 100 * DAY => whole(length, DAY, "days"),
        Some((name, unit)) => whole(length, *unit, name),
        None if length >= MINUTE => "1 minute".to_owned(),
        None => "less than a minute".to_owned(),
    }
}

fn whole(length: Duration, unit: Duration, name: &str) -> String {
    let count = (length.as_secs() + unit.as_secs() / 2) / unit.as_secs();
    format!("{count} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-28T00:00:00Z.
    const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_824_000);

    fn later(length: Duration) -> Timestamp {
        NOW.saturating_add(length)
    }

    fn words(start: Option<Timestamp>, end: Option<Timestamp>) -> String {
        in_words(&ValidityWindow::new(start, end).unwrap(), NOW)
    }

    #[test]
    fn a_window_is_said_as_people_say_it() {
        assert_eq!(words(None, None), "no end");
        for (length, said) in [
            (Duration::from_secs(20), "expires in less than a minute"),
            (Duration::from_secs(100), "expires in 1 minute"),
            (90 * MINUTE, "expires in 90 minutes"),
            (47 * HOUR, "expires in 47 hours"),
            (3 * DAY - Duration::from_secs(1), "expires in 3 days"),
            (90 * DAY, "expires in 90 days"),
            (200 * DAY, "expires in 7 months"),
            (3 * YEAR, "expires in 3 years"),
        ] {
            assert_eq!(words(None, Some(later(length))), said);
        }
        let past = NOW.saturating_sub(3 * HOUR);
        assert_eq!(words(None, Some(past)), "expired 3 hours ago");
        assert_eq!(words(Some(past), Some(later(2 * DAY))), "expires in 2 days");
    }

    #[test]
    fn what_is_not_valid_yet_is_said_by_its_beginning() {
        let start = later(35 * DAY);
        assert_eq!(words(Some(start), None), "valid from 2 Jan 2027, without end");
        let end = start.saturating_add(30 * DAY);
        assert_eq!(words(Some(start), Some(end)), "valid from 2 Jan 2027, for 30 days");
        assert_eq!(words(Some(later(3 * HOUR)), None), "valid in 3 hours, without end");
    }

    fn typed(expires: Option<&str>, not_before: Option<&str>) -> WindowArgs {
        let when = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        WindowArgs { expires: when(expires), not_before: when(not_before), allow_expired: false }
    }

    #[test]
    fn what_is_not_said_stays_as_it_was() {
        let before = ValidityWindow::new(Some(NOW), Some(later(DAY))).unwrap();
        assert_eq!(typed(None, None).over(before, NOW).unwrap(), before);
        let said = typed(Some("2026-12-31T00:00Z"), None).over(before, NOW).unwrap();
        assert_eq!(said.not_before(), Some(NOW));
        assert_eq!(said.expires_on(), Some(later(33 * DAY)));
        let spans = typed(Some("30d"), Some("now")).over(before, NOW).unwrap();
        assert_eq!(spans.expires_on(), Some(later(30 * DAY)));
    }

    #[test]
    fn an_end_that_makes_no_sense_is_refused() {
        let open = ValidityWindow::default();
        let refused = |args: &WindowArgs| args.over(open, NOW).unwrap_err().message;
        let past = typed(Some("2020-01-31"), None);
        assert!(refused(&past).contains("--allow-expired"), "{}", refused(&past));
        assert!(WindowArgs { allow_expired: true, ..past }.over(open, NOW).is_ok());
        let turned = typed(Some("1d"), Some("2d"));
        assert!(refused(&turned).contains("later than --not-before"), "{}", refused(&turned));
    }
}
