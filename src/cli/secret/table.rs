//! A table of secrets for people: as wide as the terminal, in colour where one wants it.

use std::io::{IsTerminal, Stdout};
use std::time::Duration;

use super::super::failure::wants_colour;
use super::window::in_words;
use crate::client::{Description, State};
use crate::domain::Timestamp;

/// What ends so soon stands out.
const SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Names are not cut shorter, however narrow the terminal.
const LEAST_NAME: usize = 12;
const GAP: usize = 2;
const HEADS: [&str; 4] = ["NAME", "STATE", "WINDOW", "VERSION"];

const DIM: &str = "\x1b[2m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// How it is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Columns that a line may take; `None` where it is no terminal.
    width: Option<usize>,
    colour: Colour,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    On,
    Off,
}

impl Look {
    pub(super) fn of(stdout: &Stdout) -> Self {
        let size = rustix::termios::tcgetwinsize(stdout).ok().filter(|_| stdout.is_terminal());
        let width = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
        let colour = if wants_colour(stdout) { Colour::On } else { Colour::Off };
        Self { width, colour }
    }
}

/// A table that comes in pages: later ones keep to the columns of the first where they fit.
pub(super) struct Table {
    look: Look,
    now: Timestamp,
    widths: Option<[usize; 4]>,
}

struct Row<'s> {
    cells: [String; 4],
    secret: &'s Description,
}

impl Table {
    pub(super) fn new(look: Look, now: Timestamp) -> Self {
        Self { look, now, widths: None }
    }

    /// The lines of some secrets, under a heading if they are the first.
    pub(super) fn lines<'s>(
        &mut self,
        secrets: &'s [Description],
        shown: impl Fn(&'s Description) -> &'s str,
    ) -> String {
        let rows: Vec<_> = secrets.iter().map(|secret| self.row(secret, shown(secret))).collect();
        let is_first = self.widths.is_none();
        let mut widths = self.widths.unwrap_or(HEADS.map(str::len));
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(&row.cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let widths = fitted(widths, self.look.width);
        self.widths = Some(widths);
        let head = is_first.then(|| line(&HEADS.map(str::to_owned), widths, [None; 4]));
        head.into_iter()
            .chain(rows.iter().map(|row| line(&row.cells, widths, self.colours(row.secret))))
            .collect()
    }

    fn row<'s>(&self, secret: &'s Description, name: &str) -> Row<'s> {
        let state = match secret.state {
            State::Valid => "valid",
            State::NotYetValid => "not yet",
        };
        let window = in_words(&secret.window, self.now);
        let version = secret.version.as_str().to_owned();
        Row { cells: [name.to_owned(), state.to_owned(), window, version], secret }
    }

    fn colours(&self, secret: &Description) -> [Option<&'static str>; 4] {
        let end = secret.window.expires_on();
        match (self.look.colour, secret.state) {
            (Colour::Off, _) => [None; 4],
            (Colour::On, State::NotYetValid) => [Some(DIM); 4],
            (Colour::On, State::Valid) => {
                let soon = end.is_some_and(|end| end < self.now.saturating_add(SOON));
                [None, None, soon.then_some(YELLOW), None]
            }
        }
    }
}

/// What does not fit is taken from the names.
fn fitted([name, state, window, version]: [usize; 4], width: Option<usize>) -> [usize; 4] {
    let others = state + window + version + 3 * GAP;
    let most = width.map_or(name, |width| width.saturating_sub(others).max(LEAST_NAME));
    [name.min(most), state, window, version]
}

fn line(cells: &[String; 4], widths: [usize; 4], colours: [Option<&str>; 4]) -> String {
    let parts = cells.iter().zip(widths).zip(colours).map(|((cell, width), colour)| {
        let text = cut(cell, width);
        let padded = format!("{text:width$}");
        colour.map_or_else(|| padded.clone(), |colour| format!("{colour}{padded}{PLAIN}"))
    });
    let joined = parts.collect::<Vec<_>>().join(&" ".repeat(GAP));
    joined.trim_end().to_owned() + "\n"
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{SecretName, ValidityWindow};

    /// 2026-11-28T00:00:00Z.
    const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_824_000);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn secret(name: &str, start: Option<u32>, end: Option<u32>) -> Description {
        let later = |days: Option<u32>| days.map(|days| NOW.saturating_add(DAY * days));
        Description {
            name: SecretName::parse(name).unwrap(),
            version: "17".parse().unwrap(),
            window: ValidityWindow::new(later(start), later(end)).unwrap(),
            state: if start.is_some() { State::NotYetValid } else { State::Valid },
        }
    }

    fn secrets() -> [Description; 3] {
        let long = "a-name-that-is-longer-than-many-a-terminal-is-wide";
        [secret("db", None, Some(3)), secret(long, None, None), secret("next", Some(35), Some(65))]
    }

    fn shown(look: Look) -> String {
        let secrets = secrets();
        Table::new(look, NOW).lines(&secrets, |secret| secret.name.as_str())
    }

    #[test]
    fn a_table_off_a_terminal_has_whole_names_and_no_colour() {
        let name = "a-name-that-is-longer-than-many-a-terminal-is-wide";
        let text = shown(Look { width: None, colour: Colour::Off });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), HEADS);
        let words = |line: &str| {
            line.split("  ")
                .map(str::trim)
                .map(str::to_owned)
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
        };
        assert_eq!(words(lines[1]), ["db", "valid", "expires in 3 days", "17"]);
        assert_eq!(words(lines[2]), [name, "valid", "no end", "17"]);
        let window = "valid from 2 Jan 2027, for 30 days";
        assert_eq!(words(lines[3]), ["next", "not yet", window, "17"]);
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn on_a_terminal_it_is_as_wide_as_that() {
        let text = shown(Look { width: Some(80), colour: Colour::Off });
        assert!(text.contains("a-name-that-is-longer-tha…  valid"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let narrow = shown(Look { width: Some(20), colour: Colour::Off });
        assert!(narrow.contains("a-name-that…  valid"), "{narrow}");
    }

    #[test]
    fn colour_tells_what_ends_soon_and_what_has_not_begun() {
        let text = shown(Look { width: None, colour: Colour::On });
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].contains("\x1b[33mexpires in 3 days"), "{text}");
        assert!(!lines[2].contains('\x1b'), "{text}");
        assert!(lines[3].starts_with("\x1b[2mnext"), "{text}");
    }

    #[test]
    fn a_second_page_has_no_heading_and_keeps_the_columns() {
        let secrets = secrets();
        let mut table = Table::new(Look { width: None, colour: Colour::Off }, NOW);
        let first = table.lines(&secrets, |secret| secret.name.as_str());
        let second = table.lines(&secrets[..1], |secret| secret.name.as_str());
        assert_eq!(second.trim_end(), first.lines().nth(1).unwrap().trim_end());
    }
}
