//! Lists: what a client may ask for in the query, and the answer, which is a
//! page, or all names in pieces.
//!
//! All names of a tenant may be more than there is memory for. So an answer that
//! does not fit one page is made while it is sent, a page at a time, and a reader
//! that takes its time holds one page. Where the store fails meanwhile, the
//! connection ends without the last chunk: a client cannot take the part for the
//! whole.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Weak;

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Bytes;
use futures_util::{Stream, stream};

use crate::api::problem::{Code, FieldErrors, showable};
use crate::api::secret::ListedSecret;
use crate::auth::ListPermit;
use crate::domain::{NamePrefix, SecretName, SecretNames, TimeSpan};
use crate::vault::{Detail, ListPage, ListRequest, PageSize, Shows, Vault, VaultError};

use super::idle::Line;
use super::path;
use super::problem::Refused;

const PREFIX: &str = "prefix";
const AFTER: &str = "after";
const LIMIT: &str = "limit";
const DETAILS: &str = "details";
const EXPIRING_WITHIN: &str = "expiringWithin";

/// What the query asks for.
#[derive(Debug, Clone, Default)]
pub(super) struct ListQuery {
    prefix: NamePrefix,
    after: Option<SecretName>,
    /// `None`: all names.
    limit: Option<PageSize>,
    shows: Shows,
    expiring_within: Option<TimeSpan>,
}

impl ListQuery {
    /// Reads a raw query. All faults are told at once; nothing is ignored, since
    /// a misspelt `prefix` would list what was not asked for.
    pub fn parse(raw: &str) -> Result<Self, Refused> {
        let mut parameters = Parameters::read(raw);
        let query = Self {
            prefix: parameters
                .take(PREFIX, |text| said(NamePrefix::parse(text)))
                .unwrap_or_default(),
            after: parameters.take(AFTER, |text| said(SecretName::parse(text))),
            limit: parameters.take(LIMIT, page_size),
            shows: parameters.take(DETAILS, shows).unwrap_or_default(),
            expiring_within: parameters.take(EXPIRING_WITHIN, span),
        };
        parameters.end("prefix, after, limit, details and expiringWithin").map(|()| query)
    }

    pub fn request(&self) -> ListRequest {
        let Self { prefix, after, limit, shows, expiring_within } = self.clone();
        let (limit, expiring_within) =
            (limit.unwrap_or_default(), expiring_within.map(TimeSpan::as_duration));
        ListRequest { prefix, after, limit, expiring_within, shows }
    }

    /// The same after `last`, as a reference relative to this one (RFC 3986,
    /// section 4.2), so that it holds behind a proxy that adds a prefix. Names,
    /// prefixes, words and numbers are all there is in it, and no character of theirs
    /// needs an escape in a URI.
    fn next(&self, last: &SecretName, limit: PageSize) -> HeaderValue {
        let mut kept = String::new();
        let mut keep = |name: &str, value: &str| kept.extend([name, "=", value, "&"]);
        if self.prefix != NamePrefix::default() {
            keep(PREFIX, self.prefix.as_str());
        }
        if self.shows == Shows::Details {
            keep(DETAILS, "true");
        }
        if let Some(span) = self.expiring_within {
            keep(EXPIRING_WITHIN, &span.to_string());
        }
        let (after, limit) = (last.as_str(), limit.get());
        let link = format!("<?{kept}{AFTER}={after}&{LIMIT}={limit}>; rel=\"next\"");
        HeaderValue::try_from(link).expect("names, words and numbers are visible ASCII")
    }
}

/// The parameters of a query, decoded, and what is wrong with them.
pub(super) struct Parameters {
    given: BTreeMap<String, Vec<Option<String>>>,
    errors: FieldErrors,
}

impl Parameters {
    /// Faults beyond this many parameters are not told.
    const MAX_FIELDS: usize = 16;

    pub fn read(raw: &str) -> Self {
        let mut given: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = path::percent_decode(name).unwrap_or_default();
            given.entry(name).or_default().push(path::percent_decode(value));
        }
        Self { given, errors: FieldErrors::new() }
    }

    pub fn take<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let parsed = match self.given.remove(name)?.as_slice() {
            [Some(text)] => parse(text),
            [None] => Err("is not well-formed percent-encoded UTF-8".to_owned()),
            _ => Err("is given more than once".to_owned()),
        };
        parsed.map_err(|why| self.errors.insert(name.to_owned(), vec![why.into()])).ok()
    }

    /// Nothing may be left but those that are `known`, in words.
    pub fn end(mut self, known: &str) -> Result<(), Refused> {
        for name in self.given.keys().take(Self::MAX_FIELDS) {
            let why = format!("is not known: there are {known}");
            self.errors.insert(showable(name).to_owned(), vec![why.into()]);
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        let detail = "A query parameter is not valid; errors says which and why.";
        Err(Refused::new(Code::ValidationFailed, detail).with_errors(self.errors))
    }
}

fn said<T>(parsed: Result<T, crate::domain::NameError>) -> Result<T, String> {
    parsed.map_err(|error| error.to_string())
}

pub(super) fn page_size(text: &str) -> Result<PageSize, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits).and_then(PageSize::new);
    number.ok_or_else(|| format!("must be a whole number from 1 to {}", PageSize::MAX.get()))
}

fn shows(text: &str) -> Result<Shows, String> {
    match text {
        "true" => Ok(Shows::Details),
        "false" => Ok(Shows::Names),
        _ => Err("must be true or false".to_owned()),
    }
}

fn span(text: &str) -> Result<TimeSpan, String> {
    let within = TimeSpan::seconds(1)..=TimeSpan::days(3_650);
    let span = text.parse().ok().filter(|span| within.contains(span) && !text.ends_with("ms"));
    span.ok_or_else(|| "must be a number and one of s, m, h and d, from 1s to 3650d".to_owned())
}

/// A list under way, and what it takes to go on with it. Between two pages it does not
/// hold the vault, which may be sealed meanwhile: a reader may take its time.
pub(super) struct Walk {
    pub vault: Weak<Vault>,
    pub permit: ListPermit,
    pub query: ListQuery,
    pub line: Line,
}

/// Answers with `first`, and all that follows it where no limit was asked for.
pub(super) fn answer(mut walk: Walk, first: ListPage) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
    match (first.more, walk.query.limit, first.names.last()) {
        (true, Some(limit), Some(last)) => {
            response.insert_header((header::LINK, walk.query.next(&last, limit)));
            response.body(json(Part::Whole, &first))
        }
        (true, None, Some(_)) => {
            let pieces = pieces(first, async move |last| walk.page_after(last).await);
            response.streaming(Box::pin(pieces))
        }
        (false, ..) | (true, _, None) => response.body(json(Part::Whole, &first)),
    }
}

/// The JSON of all names from `first` on, a page at a time; `page_after` asks for
/// the next.
fn pieces(
    first: ListPage,
    page_after: impl AsyncFnMut(SecretName) -> Result<ListPage, BreakOff>,
) -> impl Stream<Item = Result<Bytes, BreakOff>> {
    enum Next {
        First(ListPage),
        After(SecretName),
        Nothing,
    }
    stream::try_unfold((page_after, Next::First(first)), async |(mut page_after, next)| {
        let (page, begins) = match next {
            Next::First(page) => (page, true),
            Next::After(last) => (page_after(last).await?, false),
            Next::Nothing => return Ok(None),
        };
        let part = match (begins, page.more) {
            (true, true) => Part::First,
            (true, false) => Part::Whole,
            (false, true) => Part::Middle,
            (false, false) => Part::Last,
        };
        let next = match page.names.last() {
            Some(last) if page.more => Next::After(last),
            _ => Next::Nothing,
        };
        Ok(Some((Bytes::from(json(part, &page)), (page_after, next))))
    })
}

impl Walk {
    async fn page_after(&mut self, last: SecretName) -> Result<ListPage, BreakOff> {
        let _busy = self.line.busy();
        let vault = self.vault.upgrade().ok_or(BreakOff::Sealed)?;
        self.query.after = Some(last);
        let page = vault.list(&self.permit, &self.query.request(), vault.now()).await;
        page.map_err(BreakOff::from).inspect_err(|error| log::error!("a list breaks off: {error}"))
    }
}

/// Why a list ends before its end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum BreakOff {
    #[error("the server was sealed")]
    Sealed,
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Which part of a JSON array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    First,
    Middle,
    Last,
}

/// A JSON array, or a part of one.
fn json(part: Part, page: &ListPage) -> String {
    let mut json = match &page.details {
        None => elements_of_names(&page.names),
        Some(details) => elements_with_details(&page.names, details),
    };
    let begins = matches!(part, Part::Whole | Part::First);
    // An element has a comma before it, which becomes the beginning of the array.
    match (begins, json.is_empty()) {
        (true, true) => json.push('['),
        (true, false) => json.replace_range(..1, "["),
        (false, _) => {}
    }
    json.push_str(if matches!(part, Part::Whole | Part::Last) { "]" } else { "" });
    json
}

/// No character of a name needs an escape.
fn elements_of_names(names: &SecretNames) -> String {
    let mut json = String::with_capacity(names.text_len() + 3 * names.len() + 2);
    for name in names.iter() {
        json.push_str(",\"");
        json.push_str(name);
        json.push('"');
    }
    json
}

fn elements_with_details(names: &SecretNames, details: &[Detail]) -> String {
    /// A version of a few digits, a state and no window take so much, or less.
    const EACH: usize = 64;
    let mut json = String::with_capacity(names.text_len() + EACH * names.len() + 2);
    for (name, Detail { version, window, state }) in names.iter().zip(details) {
        let listed = ListedSecret::new(name, *version, *window, *state);
        // Strings become JSON, and are written to memory, without fail.
        let element = serde_json::to_string(&listed).unwrap_or_default();
        let _ = write!(json, ",{element}");
    }
    json
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, TryStreamExt};

    use super::*;
    use crate::api::secret::SecretState;
    use crate::domain::{Timestamp, ValidityWindow};
    use crate::store::StoreError;

    fn name(text: &str) -> SecretName {
        SecretName::parse(text).unwrap()
    }

    fn faults(raw: &str) -> Vec<(String, String)> {
        let refused = ListQuery::parse(raw).unwrap_err();
        assert_eq!(refused.code(), Code::ValidationFailed);
        let errors = refused.errors().unwrap().iter();
        errors.map(|(field, all)| (field.clone(), all.join("; "))).collect()
    }

    #[test]
    fn a_query_is_a_prefix_a_name_and_a_number() {
        let longest = "x".repeat(127);
        for (raw, prefix, after, limit) in [
            ("", "", None, None),
            ("&&", "", None, None),
            ("prefix", "", None, None),
            ("prefix=", "", None, None),
            ("prefix=a-_9Z&after=b&limit=10", "a-_9Z", Some("b"), Some(10)),
            ("limit=1", "", None, Some(1)),
            ("limit=10000&prefix=x", "x", None, Some(10_000)),
            ("%70refix=%61%2Db", "a-b", None, None),
            (&format!("prefix={longest}&after={longest}"), &longest, Some(&*longest), None),
        ] {
            let query = ListQuery::parse(raw).unwrap();
            assert_eq!(query.prefix.as_str(), prefix, "{raw}");
            assert_eq!(query.after.as_ref().map(SecretName::as_str), after, "{raw}");
            assert_eq!(query.limit.map(PageSize::get), limit, "{raw}");
        }
    }

    #[test]
    fn what_is_not_valid_is_named_and_not_repeated() {
        let long = "x".repeat(128);
        for (raw, field) in [
            ("prefix=a.", "prefix"),
            ("prefix=a+b", "prefix"),
            ("prefix=%", "prefix"),
            ("prefix=%FF", "prefix"),
            ("prefix=a%00", "prefix"),
            ("prefix=a=b", "prefix"),
            (&format!("prefix={long}"), "prefix"),
            ("prefix=a&prefix=a", "prefix"),
            ("prefix=a&%70refix=a", "prefix"),
            ("after", "after"),
            ("after=", "after"),
            ("after=a/b", "after"),
            (&format!("after={long}"), "after"),
            ("after=a&limit=5&after=b", "after"),
            ("limit=", "limit"),
            ("limit=0", "limit"),
            ("limit=10001", "limit"),
            ("limit=65537", "limit"),
            ("limit=99999999999999999999", "limit"),
            ("limit=-1", "limit"),
            ("limit=+1", "limit"),
            ("limit=1.0", "limit"),
            ("limit=1e3", "limit"),
            ("limit=ten", "limit"),
            ("limit=1&limit=1", "limit"),
            ("Prefix=a", "Prefix"),
            ("page=2", "page"),
            ("pre%2Dfix=2", "pre-fix"),
            ("details", "details"),
            ("details=yes", "details"),
            ("details=True", "details"),
            ("details=true&details=true", "details"),
            ("expiringWithin=", "expiringWithin"),
            ("expiringWithin=14", "expiringWithin"),
            ("expiringWithin=0s", "expiringWithin"),
            ("expiringWithin=5000ms", "expiringWithin"),
            ("expiringWithin=3651d", "expiringWithin"),
            ("expiringWithin=1w", "expiringWithin"),
            ("expiringWithin=99999999999999999999d", "expiringWithin"),
            ("expiringwithin=1d", "expiringwithin"),
            ("my%20password=2", "(unknown)"),
            ("=a", "(unknown)"),
            ("%=a", "(unknown)"),
        ] {
            let faults = faults(raw);
            assert_eq!(faults.len(), 1, "{raw}: {faults:?}");
            assert_eq!(faults[0].0, field, "{raw}");
            assert!(!faults[0].1.contains("a.") && !faults[0].1.contains("password"), "{faults:?}");
        }
        let all: Vec<_> = faults("limit=x&after=&unknown&prefix=.").into_iter().collect();
        let fields: Vec<_> = all.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["after", "limit", "prefix", "unknown"]);
        let many: Vec<_> = (0..1_000).map(|number| format!("p{number}=1")).collect();
        assert_eq!(faults(&many.join("&")).len(), Parameters::MAX_FIELDS);
    }

    #[test]
    fn details_and_a_span_may_be_asked_for() {
        for (raw, asked, seconds) in [
            ("details=false", Shows::Names, None),
            ("details=true", Shows::Details, None),
            ("expiringWithin=1s", Shows::Names, Some(1)),
            ("expiringWithin=90m&details=true", Shows::Details, Some(5_400)),
            ("expiringWithin=3650d", Shows::Names, Some(315_360_000)),
        ] {
            let request = ListQuery::parse(raw).unwrap().request();
            assert_eq!(request.shows, asked, "{raw}");
            assert_eq!(request.expiring_within.map(|span| span.as_secs()), seconds, "{raw}");
        }
    }

    #[test]
    fn the_next_page_is_asked_for_as_this_one_was() {
        let limit = PageSize::new(25).unwrap();
        for (raw, link) in [
            ("limit=25", "<?after=last-1&limit=25>; rel=\"next\""),
            ("limit=25&after=early", "<?after=last-1&limit=25>; rel=\"next\""),
            ("limit=25&prefix=la", "<?prefix=la&after=last-1&limit=25>; rel=\"next\""),
            ("limit=25&details=false", "<?after=last-1&limit=25>; rel=\"next\""),
            ("limit=25&details=true", "<?details=true&after=last-1&limit=25>; rel=\"next\""),
            (
                "details=true&expiringWithin=48h&prefix=la&limit=25",
                "<?prefix=la&details=true&expiringWithin=2d&after=last-1&limit=25>; rel=\"next\"",
            ),
        ] {
            let next = ListQuery::parse(raw).unwrap().next(&name("last-1"), limit);
            assert_eq!(next, link);
            let target = link.trim_start_matches("<?").split('>').next().unwrap();
            let query = ListQuery::parse(target).unwrap();
            assert_eq!(query.limit, Some(limit));
            assert_eq!(query.after, Some(name("last-1")));
            let asked = ListQuery::parse(raw).unwrap();
            assert_eq!(query.shows, asked.shows);
            assert_eq!(query.expiring_within, asked.expiring_within);
        }
    }

    #[test]
    fn names_are_a_json_array_in_one_piece_or_in_many() {
        let names: SecretNames = ["a", "B-_9"].map(name).into_iter().collect();
        let none = SecretNames::default();
        let json = |part, names: &SecretNames| {
            json(part, &ListPage { names: names.clone(), details: None, more: false })
        };
        assert_eq!(json(Part::Whole, &names), r#"["a","B-_9"]"#);
        assert_eq!(json(Part::Whole, &none), "[]");
        assert!(json(Part::Whole, &names).capacity() <= 20);
        let [first, middle] = [Part::First, Part::Middle].map(|part| json(part, &names));
        for (last, end) in [(&names, r#","a","B-_9"]"#), (&none, "]")] {
            let last = json(Part::Last, last);
            assert_eq!(last, end);
            let whole = [&*first, &*middle, &*last].concat();
            assert!(serde_json::from_str::<Vec<String>>(&whole).unwrap().len() >= 4, "{whole}");
        }
    }

    #[test]
    fn details_are_a_json_array_of_what_is_known_and_leave_out_what_is_open() {
        let at = |second| Some(Timestamp::from_unix_seconds(second));
        let detail = |version, from, to, state| {
            let window = ValidityWindow::new(from, to).unwrap();
            Detail { version, window, state }
        };
        let names: SecretNames = ["a", "b"].map(name).into_iter().collect();
        let details = vec![
            detail(7, None, None, SecretState::Valid),
            detail(u64::MAX, at(1), at(2), SecretState::NotYetValid),
        ];
        let page = ListPage { names, details: Some(details), more: false };
        assert_eq!(
            json(Part::Whole, &page),
            r#"[{"name":"a","version":"7","state":"valid"},"#.to_owned()
                + r#"{"name":"b","version":"18446744073709551615","state":"notYetValid","#
                + r#""notBefore":"1970-01-01T00:00:01Z","expiresOn":"1970-01-01T00:00:02Z"}]"#
        );
        let none = ListPage { names: SecretNames::default(), details: Some(vec![]), more: false };
        assert_eq!(json(Part::Whole, &none), "[]");
        assert_eq!([Part::First, Part::Last].map(|part| json(part, &none)).concat(), "[]");
    }

    fn page(names: &[&str], more: bool) -> ListPage {
        let names = names.iter().map(|text| name(text)).collect();
        ListPage { names, details: None, more }
    }

    #[tokio::test]
    async fn all_names_are_one_array_whichever_pages_they_come_in() {
        for pages in [
            vec![page(&["a", "b"], true), page(&["c", "d"], true), page(&["e"], false)],
            // Those that made it seem that there were more are gone meanwhile.
            vec![page(&["a", "b", "c", "d", "e"], true), page(&[], false)],
            vec![page(&["a", "b", "c", "d", "e"], false)],
        ] {
            let mut pages = pages.into_iter();
            let first = pages.next().unwrap();
            let mut last = first.names.last();
            let next_page = async |after: SecretName| {
                assert_eq!(Some(after), last);
                let next = pages.next().expect("no page after the last one");
                last = next.names.last();
                Ok(next)
            };
            let pieces: Vec<Bytes> = pieces(first, next_page).try_collect().await.unwrap();
            assert_eq!(pieces.concat(), br#"["a","b","c","d","e"]"#);
        }
    }

    #[tokio::test]
    async fn a_list_that_fails_on_its_way_does_not_end_as_one_that_is_whole() {
        let gone = || BreakOff::Vault(VaultError::Store(StoreError::TenantGone));
        let pieces = pieces(page(&["a"], true), async |_| Err(gone()));
        let pieces: Vec<_> = pieces.collect().await;
        assert_eq!(pieces, [Ok(Bytes::from_static(b"[\"a\"")), Err(gone())]);
    }
}
