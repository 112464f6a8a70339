//! Lists: what a client may ask for in the query, and the answer, which is a
//! page, or all names in pieces.
//!
//! All names of a tenant may be more than there is memory for. So an answer that
//! does not fit one page is made while it is sent, a page at a time, and a reader
//! that takes its time holds one page. Where the store fails meanwhile, the
//! connection ends without the last chunk: a client cannot take the part for the
//! whole.

use std::collections::BTreeMap;
use std::sync::Weak;

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Bytes;
use futures_util::{Stream, stream};

use crate::api::problem::{Code, FieldErrors, showable};
use crate::auth::ListPermit;
use crate::domain::{NamePrefix, SecretName, SecretNames};
use crate::vault::{ListPage, ListRequest, PageSize, Vault, VaultError};

use super::idle::Line;
use super::path;
use super::problem::Refused;

const PREFIX: &str = "prefix";
const AFTER: &str = "after";
const LIMIT: &str = "limit";

/// What the query asks for.
#[derive(Debug, Clone, Default)]
pub(super) struct ListQuery {
    prefix: NamePrefix,
    after: Option<SecretName>,
    /// `None`: all names.
    limit: Option<PageSize>,
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
        };
        parameters.end("prefix, after and limit").map(|()| query)
    }

    pub fn request(&self) -> ListRequest {
        let Self { prefix, after, limit } = self.clone();
        ListRequest { prefix, after, limit: limit.unwrap_or_default() }
    }

    /// The same after `last`, as a reference relative to this one (RFC 3986,
    /// section 4.2), so that it holds behind a proxy that adds a prefix. Names,
    /// prefixes and numbers are all there is in it, and no character of theirs
    /// needs an escape in a URI.
    fn next(&self, last: &SecretName, limit: PageSize) -> HeaderValue {
        let prefix = match self.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{PREFIX}={prefix}&"),
        };
        let (after, limit) = (last.as_str(), limit.get());
        let link = format!("<?{prefix}{AFTER}={after}&{LIMIT}={limit}>; rel=\"next\"");
        HeaderValue::try_from(link).expect("names and numbers are visible ASCII")
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
            response.body(json(Part::Whole, &first.names))
        }
        (true, None, Some(_)) => {
            let pieces = pieces(first, async move |last| walk.page_after(last).await);
            response.streaming(Box::pin(pieces))
        }
        (false, ..) | (true, _, None) => response.body(json(Part::Whole, &first.names)),
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
        Ok(Some((Bytes::from(json(part, &page.names)), (page_after, next))))
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

/// A JSON array, or a part of one. No character of a name needs an escape.
fn json(part: Part, names: &SecretNames) -> String {
    let mut json = String::with_capacity(names.text_len() + 3 * names.len() + 2);
    let begins = matches!(part, Part::Whole | Part::First);
    json.push_str(if begins { "[" } else { "" });
    for (index, name) in names.iter().enumerate() {
        json.push_str(if begins && index == 0 { "\"" } else { ",\"" });
        json.push_str(name);
        json.push('"');
    }
    json.push_str(if matches!(part, Part::Whole | Part::Last) { "]" } else { "" });
    json
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, TryStreamExt};

    use super::*;
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
    fn the_next_page_is_asked_for_as_this_one_was() {
        let limit = PageSize::new(25).unwrap();
        for (raw, link) in [
            ("limit=25", "<?after=last-1&limit=25>; rel=\"next\""),
            ("limit=25&after=early", "<?after=last-1&limit=25>; rel=\"next\""),
            ("limit=25&prefix=la", "<?prefix=la&after=last-1&limit=25>; rel=\"next\""),
        ] {
            let next = ListQuery::parse(raw).unwrap().next(&name("last-1"), limit);
            assert_eq!(next, link);
            let target = link.trim_start_matches("<?").split('>').next().unwrap();
            let query = ListQuery::parse(target).unwrap();
            assert_eq!(query.limit, Some(limit));
            assert_eq!(query.after, Some(name("last-1")));
        }
    }

    #[test]
    fn names_are_a_json_array_in_one_piece_or_in_many() {
        let names: SecretNames = ["a", "B-_9"].map(name).into_iter().collect();
        let none = SecretNames::default();
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

    fn page(names: &[&str], more: bool) -> ListPage {
        ListPage { names: names.iter().map(|text| name(text)).collect(), more }
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
