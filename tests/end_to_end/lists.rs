//! Lists in pages, by the links that a client follows.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use crate::support::tokens::narrowed;
use crate::support::{Answer, Client, Dev, Inside, Operated, Request};

const LIST: &str = "/api/dev/secrets";

fn names(answer: &Answer) -> Vec<String> {
    answer.assert_proper();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_slice(&answer.body).unwrap()
}

/// Where `Link` leads, resolved against the address asked (RFC 3986, section 5.2):
/// a reference that is a query alone keeps the path.
fn next(asked: &str, answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    let target = link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\""));
    let target = target.unwrap_or_else(|| panic!("{link}"));
    assert!(target.starts_with('?'), "{link}");
    let path = asked.split('?').next().unwrap();
    Some(format!("{path}{target}"))
}

/// Every page, from one address to where no link leads on.
fn pages(client: &mut Client, token: &str, first: &str) -> Vec<Vec<String>> {
    let (mut pages, mut address) = (Vec::new(), Some(first.to_owned()));
    while let Some(asked) = address {
        let answer = client.send(&Request::get(&asked).bearer(token));
        pages.push(names(&answer));
        address = next(&asked, &answer);
    }
    pages
}

fn store(address: std::net::SocketAddr, token: &str, names: &[String]) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let mut client = Client::new(address);
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let put = Request::put(format!("{LIST}/{name}"), r#"{"value":null}"#);
                    assert_eq!(client.send(&put.bearer(token)).status, 204);
                }
            });
        }
    });
}

/// More than one answer holds in one piece, and more than the least memory for
/// names does: the program walks from window to window.
#[test]
fn by_its_links_a_list_is_read_whole_and_each_name_once() {
    const NAMES: usize = 12_000;
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start_with(&folder.path().join("data"), |command| {
        command.env("RUST_LOG", "warn").env("TENURE_STORE_LIST_CACHE_BYTES", "1MiB");
    });
    let name = |number: usize| {
        let scattered = number * 7_919 % NAMES;
        format!("{}{scattered:05}_{}", ["app-", "App", "z"][scattered % 3], "x".repeat(100))
    };
    let stored: Vec<_> = (0..NAMES).map(name).collect();
    store(dev.address, &dev.token, &stored);
    let all: BTreeSet<_> = stored.into_iter().collect();
    let bytes: usize = all.iter().map(String::len).sum();
    assert!((all.len(), bytes > 1024 * 1024) == (NAMES, true));
    let mut client = dev.client();
    let expected = |wanted: &dyn Fn(&str) -> bool| {
        all.iter().filter(|name| wanted(name)).cloned().collect::<Vec<_>>()
    };

    let walked = pages(&mut client, &dev.token, &format!("{LIST}?limit=1000"));
    assert_eq!(walked.iter().map(Vec::len).collect::<Vec<_>>(), [1_000; 12]);
    assert_eq!(walked.concat(), expected(&|_| true));

    let of_app = |name: &str| name.starts_with("app-");
    let walked = pages(&mut client, &dev.token, &format!("{LIST}?prefix=app-&limit=900"));
    assert_eq!(walked.iter().map(Vec::len).collect::<Vec<_>>(), [900, 900, 900, 900, 400]);
    assert_eq!(walked.concat(), expected(&of_app));

    // Full pages, though what lies between was left out of them.
    let narrow = narrowed(&dev.token, r#"check if resource($r), $r.starts_with("app-")"#);
    let walked = pages(&mut client, &narrow, &format!("{LIST}?limit=800"));
    assert_eq!(walked.iter().map(Vec::len).collect::<Vec<_>>(), [800; 5]);
    assert_eq!(walked.concat(), expected(&of_app));

    // Without a limit all at once, in pieces, and without a link.
    let whole = client.send(&Request::get(LIST).bearer(&dev.token));
    assert_eq!((whole.header("transfer-encoding"), whole.header("link")), (Some("chunked"), None));
    assert_eq!(names(&whole), expected(&|_| true));
    let details = client.send(&Request::get(format!("{LIST}?details=true")).bearer(&dev.token));
    assert_eq!(details.header("transfer-encoding"), Some("chunked"));
    let details = details.json();
    let details = details.as_array().unwrap().iter().map(|listed| listed["name"].as_str());
    assert!(details.eq(all.iter().map(|name| Some(name.as_str()))));
    let after = all.iter().nth(1_500).unwrap();
    let rest = format!("{LIST}?after={after}");
    let rest = names(&client.send(&Request::get(rest).bearer(&dev.token)));
    assert_eq!(rest, expected(&|name| name > after.as_str()));
    let none = names(&client.send(&Request::get(format!("{LIST}?prefix=zz")).bearer(&dev.token)));
    assert_eq!(none, [""; 0]);
}

/// A server in this process, a tenant `dev`, a token for all of it.
fn started() -> (Inside, String) {
    let inside = Inside::start();
    inside.create_tenant("dev");
    let token = inside.mint("dev", &["*"]);
    (inside, token)
}

#[test]
fn a_link_leads_on_only_where_a_readable_name_remains() {
    let (inside, token) = started();
    let all: Vec<_> = ["a1", "a2", "b1", "b2", "c1"].map(str::to_owned).to_vec();
    store(inside.address(), &token, &all);
    let body = format!(r#"{{"value":"v","expiresOn":"{}"}}"#, inside.at(60));
    let put = Request::put(format!("{LIST}/d1"), body).bearer(&token);
    assert_eq!(inside.send(&put).status, 204);
    let ask = |token: &str, query: &str| {
        let asked = format!("{LIST}{query}");
        let answer = inside.send(&Request::get(&asked).bearer(token));
        (names(&answer).concat(), next(&asked, &answer).map(|next| next.replace(LIST, "")))
    };
    let leads = |to: &str| Some(to.to_owned());
    assert_eq!(ask(&token, "?limit=2"), ("a1a2".into(), leads("?after=a2&limit=2")));
    assert_eq!(ask(&token, "?limit=5"), ("a1a2b1b2c1".into(), leads("?after=c1&limit=5")));
    assert_eq!(ask(&token, "?limit=6"), ("a1a2b1b2c1d1".into(), None));
    assert_eq!(ask(&token, ""), ("a1a2b1b2c1d1".into(), None));
    assert_eq!(ask(&token, "?prefix=b&limit=2"), ("b1b2".into(), None));
    assert_eq!(
        ask(&token, "?limit=1&prefix=b"),
        ("b1".into(), leads("?prefix=b&after=b1&limit=1"))
    );
    assert_eq!(ask(&token, "?after=b&prefix=a"), (String::new(), None));
    assert_eq!(ask(&token, "?after=b0&limit=10"), ("b1b2c1d1".into(), None));
    let narrow = narrowed(&token, r#"check if resource($r), $r.starts_with("b")"#);
    assert_eq!(ask(&narrow, "?limit=1"), ("b1".into(), leads("?after=b1&limit=1")));
    assert_eq!(ask(&narrow, "?after=b1&limit=1"), ("b2".into(), None));
    // What has expired is no name that remains.
    inside.pass(60);
    assert_eq!(ask(&token, "?limit=5"), ("a1a2b1b2c1".into(), None));
}

#[test]
fn details_are_listed_like_names_and_page_by_page() {
    let (inside, token) = started();
    let put = |name: &str, body: String| {
        let put = Request::put(format!("{LIST}/{name}"), body).bearer(&token);
        let answer = inside.send(&put);
        assert_eq!(answer.status, 204);
        answer.header("etag").unwrap().trim_matches('"').to_owned()
    };
    let (from, to) = (inside.at(5), inside.at(60));
    let open = put("a", r#"{"value":"secret"}"#.to_owned());
    put("b", format!(r#"{{"value":"secret","expiresOn":"{}"}}"#, inside.at(-1)));
    let both = format!(r#"{{"value":"secret","notBefore":"{from}","expiresOn":"{to}"}}"#);
    let both = put("c", both);
    let far = inside.at(1_000);
    let ends = put("d", format!(r#"{{"value":null,"expiresOn":"{far}"}}"#));
    let all = [
        json!({"name": "a", "version": open, "state": "valid"}),
        json!({"name": "c", "version": both, "state": "notYetValid", "notBefore": from, "expiresOn": to}),
        json!({"name": "d", "version": ends, "state": "valid", "expiresOn": far}),
    ];
    let ask = |token: &str, query: &str| {
        let asked = format!("{LIST}?{query}");
        let answer = inside.send(&Request::get(&asked).bearer(token));
        answer.assert_proper();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        (answer.json(), next(&asked, &answer).map(|next| next.replace(LIST, "")))
    };
    assert_eq!(ask(&token, "details=true"), (json!(all), None));
    assert_eq!(ask(&token, "details=false"), (json!(["a", "c", "d"]), None));
    let (first, link) = ask(&token, "limit=1&details=true&expiringWithin=1h");
    assert_eq!(first, json!([all[1]]));
    let link = link.unwrap();
    assert_eq!(link, "?details=true&expiringWithin=1h&after=c&limit=1");
    assert_eq!(ask(&token, &link[1..]), (json!([all[2]]), None));
    assert_eq!(ask(&token, "expiringWithin=60s"), (json!(["c"]), None));
    assert_eq!(ask(&token, "expiringWithin=59s"), (json!([]), None));
    let narrow = narrowed(&token, r#"check if resource("d")"#);
    assert_eq!(ask(&narrow, "details=true"), (json!([all[2]]), None));
    assert_eq!(ask(&token, "details=true&prefix=c").0, json!([all[1]]));
    inside.pass(5);
    assert_eq!(ask(&token, "details=true&prefix=c").0[0]["state"], "valid");
    inside.pass(55);
    assert_eq!(ask(&token, "details=true"), (json!([all[0], all[2]]), None));
}

#[test]
fn a_parameter_that_is_not_valid_is_refused_by_name() {
    let (inside, token) = started();
    let writer = inside.mint("dev", &["Secret.Write"]);
    let ask = |query: &str| inside.send(&Request::get(format!("{LIST}?{query}")).bearer(&token));
    for (query, field) in [
        ("prefix=a.b", "prefix"),
        ("prefix=a&prefix=b", "prefix"),
        ("prefix=%zz", "prefix"),
        ("after=", "after"),
        ("after=a%00", "after"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=many", "limit"),
        ("limit=1&limit=2", "limit"),
        ("offset=10", "offset"),
        ("Limit=10", "Limit"),
        ("details=1", "details"),
        ("expiringWithin=2w", "expiringWithin"),
    ] {
        let answer = ask(query);
        answer.assert_proper();
        assert_eq!((answer.status, &*answer.code()), (400, "validation_failed"), "{query}");
        let problem = answer.json();
        let fields: Vec<_> = problem["errors"].as_object().unwrap().keys().collect();
        assert_eq!(fields, [field], "{query}");
        assert_eq!(problem["instance"], LIST, "the query is not repeated");
    }
    let all = ask("prefix=.&after=.&limit=.&other").json();
    let fields: Vec<_> = all["errors"].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["after", "limit", "other", "prefix"]);
    // Who may not list learns nothing of parameters.
    let bad = format!("{LIST}?limit=0");
    assert_eq!(inside.send(&Request::get(&bad)).code(), "credential_missing");
    assert_eq!(inside.send(&Request::get(&bad).bearer(&writer)).code(), "forbidden");
    let elsewhere = Request::get("/api/other/secrets?limit=0").bearer(&token);
    assert_eq!(inside.send(&elsewhere).code(), "forbidden");
    let empty = ask("");
    assert_eq!((names(&empty).len(), empty.header("link")), (0, None));
    let head = inside.send(&Request::new("HEAD", format!("{LIST}?limit=1")).bearer(&token));
    assert_eq!((head.status, head.header("allow")), (405, Some("GET")));
}

#[test]
fn other_routes_do_not_look_at_a_query() {
    let (inside, token) = started();
    let send = |request: Request| inside.send(&request.bearer(&token)).status;
    let secret = format!("{LIST}/k?limit=0&unknown&prefix=.");
    assert_eq!(send(Request::put(&secret, r#"{"value":"v"}"#)), 204);
    assert_eq!(send(Request::get(&secret)), 200);
    assert_eq!(send(Request::new("HEAD", &secret)), 200);
    assert_eq!(send(Request::delete(&secret)), 204);
    for path in ["/healthz", "/readyz", "/.well-known/biscuit-keys", "/api/openapi.json"] {
        assert_eq!(inside.send(&Request::get(format!("{path}?limit=0"))).status, 200, "{path}");
    }
}

#[test]
fn the_parameters_are_described_as_they_are_read() {
    let (inside, _) = started();
    let document = inside.send(&Request::get("/api/openapi.json")).json();
    let list = &document["paths"]["/api/{tenantId}/secrets"]["get"];
    let in_query: Vec<_> = list["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|parameter| parameter["in"] == "query")
        .inspect(|parameter| assert_ne!(parameter["required"], true))
        .collect();
    let of = |name: &str| {
        let mut named = in_query.iter().filter(|parameter| parameter["name"] == name);
        &named.next().unwrap()["schema"]
    };
    assert_eq!(in_query.len(), 5);
    assert_eq!(of("details")["type"], "boolean");
    assert_eq!(of("expiringWithin")["pattern"], "^[0-9]+[smhd]$");
    let answers = &list["responses"]["200"]["content"]["application/json"]["schema"];
    assert_eq!(answers["$ref"], "#/components/schemas/SecretList");
    let listed = &document["components"]["schemas"]["ListedSecret"];
    assert_eq!(listed["required"], json!(["name", "version", "state"]));
    assert_eq!(of("prefix")["pattern"], "^[A-Za-z0-9_-]{0,127}$");
    assert_eq!(of("after")["pattern"], "^[A-Za-z0-9_-]{1,127}$");
    assert_eq!((&of("limit")["minimum"], &of("limit")["maximum"]), (&json!(1), &json!(10_000)));
    assert!(list["responses"]["200"]["headers"]["Link"].is_object());
}
