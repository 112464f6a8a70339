//! Counts and times every request, and writes a line about each where that is asked for.
//!
//! The counters of a route, status and kind of credential are found by their place in a
//! table, and made when the first such request is answered: a request pays for no look-up
//! by label, and there can be no more of them than the table has places.

use std::cell::Cell;
use std::sync::{LazyLock, OnceLock};
use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;

use crate::measure::{self, Counter, Histogram, Meters};

use super::credential::Sent;
use super::problem;
use super::routes::{ROUTES, Route};

/// Whether each request gets a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestLog {
    Off,
    /// A line at the level `info`, as of `tenure::request`.
    Lines,
}

/// The kind of credential that was sent, good or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Or none that was looked at.
    None,
    Biscuit,
    ApiKey,
    Oidc,
}

impl Shown {
    const COUNT: usize = 4;

    pub fn of(sent: Sent<'_>) -> Self {
        match sent {
            Sent::ApiKey(_) => Self::ApiKey,
            // A biscuit has none.
            Sent::Bearer(token) if token.contains('.') => Self::Oidc,
            Sent::Bearer(_) => Self::Biscuit,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Biscuit => "biscuit",
            Self::ApiKey => "api_key",
            Self::Oidc => "oidc",
        }
    }
}

/// What became known of a request while it was served.
pub(super) struct Seen {
    begun: Instant,
    /// Its place in [`ROUTES`]; [`NO_ROUTE`] where there is none.
    route: Cell<usize>,
    shown: Cell<Shown>,
    refusal: Cell<Option<&'static str>>,
}

const NO_ROUTE: usize = ROUTES.len();

impl Seen {
    pub fn now() -> Self {
        let (route, shown) = (Cell::new(NO_ROUTE), Cell::new(Shown::None));
        Self { begun: Instant::now(), route, shown, refusal: Cell::new(None) }
    }

    pub fn route(&self, route: &'static Route) {
        let place = ROUTES.iter().position(|known| std::ptr::eq(known, route));
        self.route.set(place.unwrap_or(NO_ROUTE));
    }

    pub fn credential(&self, sent: Sent<'_>) {
        self.shown.set(Shown::of(sent));
    }

    /// Its credential was refused, for a reason that only we are told.
    pub fn refused(&self, reason: &'static str) {
        self.refusal.set(Some(reason));
    }

    pub fn refusal(&self) -> Option<&'static str> {
        self.refusal.get()
    }

    /// It is answered.
    pub fn answered(&self, status: StatusCode, id: &HeaderValue, log: RequestLog) {
        let Self { begun, route, shown, refusal: _ } = self;
        let (took, route, shown) = (begun.elapsed(), route.get(), shown.get());
        if let Some(meters) = measure::meters() {
            TABLE.count(meters, route, status, shown).add(1);
            TABLE.duration(meters, route).took(took);
        }
        if log == RequestLog::Lines {
            let (method, route) = words(route);
            log::info!(
                target: "tenure::request",
                id = problem::printable(id),
                method = method,
                route = route,
                status = status.as_u16(),
                seconds = took.as_secs_f64(),
                credential = shown.as_str();
                "answered"
            );
        }
    }
}

/// Neither the method nor the path of a request without a route is said: both are
/// whatever its sender wrote.
fn words(route: usize) -> (&'static str, &'static str) {
    ROUTES.get(route).map_or(("other", "none"), |route| (route.method.as_str(), route.template))
}

/// The statuses that there are, the frequent ones first.
const STATUSES: [(u16, &str); 22] = [
    (200, "200"),
    (204, "204"),
    (404, "404"),
    (403, "403"),
    (401, "401"),
    (201, "201"),
    (304, "304"),
    (308, "308"),
    (400, "400"),
    (405, "405"),
    (406, "406"),
    (408, "408"),
    (409, "409"),
    (412, "412"),
    (413, "413"),
    (415, "415"),
    (428, "428"),
    (429, "429"),
    (431, "431"),
    (500, "500"),
    (503, "503"),
    (507, "507"),
];
/// And one for what should not be.
const STATUS_PLACES: usize = STATUSES.len() + 1;
const ROUTE_PLACES: usize = ROUTES.len() + 1;

static TABLE: LazyLock<Table> = LazyLock::new(|| Table {
    counts: slots(ROUTE_PLACES * STATUS_PLACES * Shown::COUNT),
    durations: slots(ROUTE_PLACES),
});

struct Table {
    counts: Box<[OnceLock<Counter>]>,
    durations: Box<[OnceLock<Histogram>]>,
}

fn slots<T>(count: usize) -> Box<[OnceLock<T>]> {
    std::iter::repeat_with(OnceLock::new).take(count).collect()
}

const IN_TABLE: &str = "every index is below its count of places";

impl Table {
    fn count(&self, meters: &Meters, route: usize, status: StatusCode, shown: Shown) -> &Counter {
        let status = STATUSES.iter().position(|(known, _)| *known == status.as_u16());
        let status = status.unwrap_or(STATUSES.len());
        let place = (route * STATUS_PLACES + status) * Shown::COUNT + shown as usize;
        self.counts.get(place).expect(IN_TABLE).get_or_init(|| {
            let (method, route) = words(route);
            let status = STATUSES.get(status).map_or("other", |(_, word)| word);
            meters.counter(&measure::REQUESTS, &[method, route, status, shown.as_str()])
        })
    }

    fn duration(&self, meters: &Meters, route: usize) -> &Histogram {
        self.durations.get(route).expect(IN_TABLE).get_or_init(|| {
            let (method, route) = words(route);
            meters.histogram(&measure::REQUEST_DURATION, &[method, route])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::problem::Code;

    #[test]
    fn every_status_of_a_problem_has_a_place() {
        for code in Code::EVERY {
            let known = STATUSES.iter().any(|(status, _)| *status == code.status());
            assert!(known, "{code:?}");
        }
        for (status, word) in STATUSES {
            assert_eq!(status.to_string(), word);
        }
    }

    #[test]
    fn the_kind_of_a_credential_is_seen_without_judging_it() {
        assert_eq!(Shown::of(Sent::Bearer("abc")), Shown::Biscuit);
        assert_eq!(Shown::of(Sent::Bearer("a.b.c")), Shown::Oidc);
        assert_eq!(Shown::of(Sent::ApiKey("a.b")), Shown::ApiKey);
    }
}
