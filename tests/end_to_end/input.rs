//! What bad input gets: each kind of it over HTTP, with its status and code; the
//! server goes on after each, changes nothing by it, and writes none of it to
//! its log. Credentials have a file of their own.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::support::bench::{Bare, Bench, Done, Expected, GOOD, MARK, Problem, TARGET, judge};
use crate::support::{Dev, Inside, Operated, Request, secret};

const LIMIT: usize = 65_536;
const INVALID_NAME: &str = "invalid_name";

/// What is no name, and how it reads in the table's failures.
pub fn bad_names(longest: usize) -> Vec<(String, String)> {
    let of_length = |length: usize| format!("{MARK}{}", "x".repeat(length - MARK.len()));
    let mut names = vec![
        ("of no characters".to_owned(), String::new()),
        (format!("of {}", longest + 1), of_length(longest + 1)),
        ("of 10,000".to_owned(), of_length(10_000)),
    ];
    let odd = [
        "..",
        ".",
        "%2E%2E",
        "m4rker..",
        "m4rker.lock",
        ".lock",
        "%2Elock",
        "m4rker%00",
        "%00",
        "m4rker%20x",
        "m4rker+x",
        "m4rker%0A",
        "m4rker%0D%0AX-Injected:%201",
        "m4rker%C3%A4",
        "m4rker%2Fx",
        "m4rker%2fx",
        "%2e%2e%2fm4rker",
        "m4rker%5Cx",
        "m4rker%FF",
        "m4rker%",
        "m4rker%4",
        "m4rker%GG",
        "m4rker%2561",
        "m4rker%EF%BC%8F",
        "m4rker:x",
        "m4rker~",
        "m4rker*",
        "{m4rker}",
    ];
    names.extend(odd.map(|name| (format!("'{name}'"), name.to_owned())));
    names
}

/// Bytes that no request line may hold: no answer but a status.
const NOT_HTTP: [&str; 4] = ["m4rker x", "m4rker\nx", "m4rker\r\nx", "m4rker\tx"];

#[test]
fn a_key_that_is_no_name_is_refused_and_the_server_goes_on() {
    let mut bench = Bench::new();
    for (what, name) in bad_names(127).into_iter().chain([
        ("with a slash".to_owned(), "m4rker/x".to_owned()),
        ("with a slash at its end".to_owned(), "m4rker/".to_owned()),
    ]) {
        let path = secret(&name);
        let expected = Problem(400, INVALID_NAME, Some("key"));
        bench.hold(&format!("GET of a key {what}"), Request::get(&path), expected);
        let put = Request::put(&path, r#"{"value":"m4rker hush"}"#);
        bench.hold(&format!("PUT of a key {what}"), put, expected);
        bench.hold(&format!("DELETE of a key {what}"), Request::delete(&path), expected);
        bench.hold(&format!("HEAD of a key {what}"), Request::new("HEAD", &path), Done(400));
    }
    for name in NOT_HTTP {
        bench.hold(&format!("{name:?}"), Request::get(secret(name)), Bare(400));
    }
    // Raw bytes beyond ASCII; what HTTP makes of them is refused either way.
    bench.hold("a raw umlaut", Request::get(secret("m4rkerä")), Bare(400));
    let raw = [b"GET /api/dev/secrets/m4rker\xff HTTP/1.1\r\nHost: x\r\n\r\n".as_slice()].concat();
    assert_eq!(bench.dev.client().send_raw(&raw).unwrap().status, 400);
    bench.goes_on("a raw byte");

    bench.hold("an encoded name", Request::get(secret("%6d4rker%2Dgood")), Done(200));
    let longest = secret(&format!("{MARK}{}", "k".repeat(127 - MARK.len())));
    bench.hold("127 characters", Request::put(&longest, r#"{"value":"m4rker"}"#), Done(204));
    bench.hold("127 characters", Request::get(&longest), Done(200));
    let list = bench.hold("the list", Request::get("/api/dev/secrets"), Done(200)).json();
    assert_eq!(list.as_array().unwrap().len(), 2, "{list}");
    bench.log_tells_nothing();
}

#[test]
fn a_tenant_that_is_no_name_is_refused_and_the_server_goes_on() {
    let mut bench = Bench::new();
    for (what, tenant) in bad_names(64) {
        let expected = Problem(400, INVALID_NAME, Some("tenantId"));
        let (one, all) = (format!("/api/{tenant}/secrets/x"), format!("/api/{tenant}/secrets"));
        bench.hold(&format!("GET in a tenant {what}"), Request::get(&one), expected);
        let put = Request::put(&one, r#"{"value":"m4rker hush"}"#);
        bench.hold(&format!("PUT in a tenant {what}"), put, expected);
        bench.hold(&format!("DELETE in a tenant {what}"), Request::delete(&one), expected);
        bench.hold(&format!("list of a tenant {what}"), Request::get(&all), expected);
    }
    for tenant in NOT_HTTP.into_iter().chain(["m4rkerä"]) {
        let path = format!("/api/{tenant}/secrets/x");
        bench.hold(&format!("{tenant:?}"), Request::get(path), Bare(400));
    }
    // With a slash in it there is no such route.
    let two = Request::get("/api/m4rker/x/secrets/y");
    bench.hold("two segments", two, Problem(404, "route_not_found", None));
    let both = Request::get("/api/m4rker./secrets/m4rker.");
    let both = bench.hold("both names", both, Problem(400, INVALID_NAME, Some("key"))).json();
    assert!(both["errors"]["tenantId"].is_array(), "both faults are told: {both}");
    bench.hold("an encoded tenant", Request::get("/api/%64ev/secrets/m4rker-good"), Done(200));
    let longest = format!("/api/{MARK}{}/secrets", "t".repeat(64 - MARK.len()));
    bench.hold("64 characters", Request::get(longest), Problem(403, "forbidden", None));
    bench.log_tells_nothing();
}

fn malformed() -> Expected {
    Problem(400, "malformed_json", None)
}

fn invalid(field: &'static str) -> Expected {
    Problem(400, "validation_failed", Some(field))
}

const TOO_LARGE: Expected = Problem(413, "value_too_large", None);

pub fn bad_bodies() -> Vec<(&'static str, Vec<u8>, Expected)> {
    let value = |text: &str| format!(r#"{{"value":"{text}"}}"#).into_bytes();
    let nested = |levels: usize| {
        format!(r#"{{"value":{}{}}}"#, "[".repeat(levels), "]".repeat(levels)).into_bytes()
    };
    let text = |body: &str| body.as_bytes().to_vec();
    let not_utf8 = [br#"{"value":"m4rker hush"#.as_slice(), b"\xff\xfe\"}"].concat();
    vec![
        ("empty", vec![], malformed()),
        ("white space", text(" \n"), malformed()),
        ("an array", text(r#"["m4rker hush"]"#), invalid("body")),
        ("a string", text(r#""m4rker hush""#), invalid("body")),
        ("a number", text("1"), invalid("body")),
        ("null", text("null"), invalid("body")),
        ("an empty object", text("{}"), invalid("value")),
        ("truncated", text(r#"{"value":"m4rker hush"#), malformed()),
        ("truncated after the value", text(r#"{"value":"m4rker hush""#), malformed()),
        ("not JSON", text("value=m4rker hush"), malformed()),
        ("JSON and more", text(r#"{"value":"m4rker hush"} m4rker"#), malformed()),
        ("two objects", text(r#"{"value":"m4rker hush"}{"value":"x"}"#), malformed()),
        ("a trailing comma", text(r#"{"value":"m4rker hush",}"#), malformed()),
        ("single quotes", text("{'value':'m4rker hush'}"), malformed()),
        ("a comment", text(r#"{"value":"m4rker hush"/**/}"#), malformed()),
        ("a byte order mark", text("\u{feff}{\"value\":\"m4rker hush\"}"), malformed()),
        ("10 levels", nested(10), invalid("value")),
        ("10 levels too deep", nested(42), malformed()),
        ("100,000 levels", nested(100_000), malformed()),
        ("100,000 open levels", text(&"[".repeat(100_000)), malformed()),
        ("100,000 open objects", text(&r#"{"a":"#.repeat(50_000)), malformed()),
        ("value twice", text(r#"{"value":"m4rker hush","value":"x"}"#), invalid("value")),
        ("value in two cases", text(r#"{"value":"m4rker hush","VALUE":"x"}"#), invalid("value")),
        (
            "expiresOn in two cases",
            text(
                r#"{"value":"m4rker hush","expiresOn":"2090-01-01T00:00:00Z","ExpiresOn":"2091-01-01T00:00:00Z"}"#,
            ),
            invalid("expiresOn"),
        ),
        ("an unknown property", text(r#"{"value":"m4rker hush","note":"x"}"#), invalid("note")),
        (
            "an unknown property that is a secret",
            text(r#"{"value":"x","m4rker hush":1}"#),
            invalid("(unknown)"),
        ),
        (
            "a misspelt expiresOn",
            text(r#"{"value":"m4rker hush","expireOn":"2090-01-01T00:00:00Z"}"#),
            invalid("expireOn"),
        ),
        ("a look-alike of value", text("{\"val\u{17f}e\":\"m4rker hush\"}"), invalid("(unknown)")),
        ("no value", text(r#"{"expiresOn":"2090-01-01T00:00:00Z"}"#), invalid("value")),
        ("a number as value", text(r#"{"value":7}"#), invalid("value")),
        ("a boolean as value", text(r#"{"value":true}"#), invalid("value")),
        ("an object as value", text(r#"{"value":{"m4rker":"hush"}}"#), invalid("value")),
        ("an array as value", text(r#"{"value":["m4rker hush"]}"#), invalid("value")),
        ("a number out of range", text(r#"{"value":1e999999}"#), invalid("value")),
        ("65,537 bytes", value(&"v".repeat(LIMIT + 1)), TOO_LARGE),
        ("65,537 bytes of wide characters", value(&("ä".repeat(LIMIT / 2) + "v")), TOO_LARGE),
        ("65,537 escaped bytes", value(&r"\u0001".repeat(LIMIT + 1)), TOO_LARGE),
        ("2 MB", value(&"v".repeat(2_000_000)), TOO_LARGE),
        ("2 MB that are no JSON", vec![b'v'; 2_000_000], TOO_LARGE),
        ("a lone high surrogate", text(r#"{"value":"m4rker hush \ud800"}"#), malformed()),
        ("a lone low surrogate", text(r#"{"value":"m4rker hush \udc00"}"#), malformed()),
        ("surrogates in the wrong order", text(r#"{"value":"\ude00\ud83d"}"#), malformed()),
        ("a bad escape", text(r#"{"value":"m4rker hush \x41"}"#), malformed()),
        ("a raw control character", text("{\"value\":\"m4rker hush\n\"}"), malformed()),
        ("a raw NUL", text("{\"value\":\"m4rker hush\0\"}"), malformed()),
        ("invalid UTF-8", not_utf8, malformed()),
        ("overlong UTF-8", b"{\"value\":\"\xc0\xaf\"}".to_vec(), malformed()),
        ("a surrogate in UTF-8", b"{\"value\":\"\xed\xa0\x80\"}".to_vec(), malformed()),
        ("UTF-16", b"\xff\xfe{\0\"\0v\0".to_vec(), malformed()),
    ]
}

fn good_bodies() -> Vec<(&'static str, Vec<u8>, serde_json::Value)> {
    let value = |text: &str| format!(r#"{{"value":"{text}"}}"#).into_bytes();
    let text = |body: &str| body.as_bytes().to_vec();
    vec![
        ("an empty value", value(""), "".into()),
        ("null", text(r#"{"value":null}"#), serde_json::Value::Null),
        ("65,536 bytes", value(&"v".repeat(LIMIT)), "v".repeat(LIMIT).into()),
        ("65,536 escaped bytes", value(&r"\u0001".repeat(LIMIT)), "\u{1}".repeat(LIMIT).into()),
        ("wide characters", value("ä😀\\ud83d\\ude00"), "ä😀😀".into()),
        ("an escaped NUL", value("a\\u0000b"), "a\0b".into()),
        (
            "properties in any case",
            text(
                r#"{"VaLuE":"x","NOTBEFORE":"2020-01-01T00:00:00Z","expireson":"2090-01-01T00:00:00+02:00"}"#,
            ),
            "x".into(),
        ),
        ("an escaped property name", text(r#"{"v\u0061lue":"x"}"#), "x".into()),
        ("white space around", text("\r\n\t {\"value\" : \"x\" } \n"), "x".into()),
    ]
}

#[test]
fn a_body_that_is_not_asked_for_is_refused_and_nothing_is_stored() {
    let mut bench = Bench::new();
    for (what, body, expected) in bad_bodies() {
        bench.hold(what, Request::put(secret(TARGET), body), expected);
        assert_eq!(bench.status(TARGET), 404, "{what} was stored");
    }
    for (what, body, expected) in good_bodies() {
        bench.hold(what, Request::put(secret(TARGET), body), Done(204));
        let read = bench.hold(what, Request::get(secret(TARGET)), Done(200));
        assert!(read.json() == expected, "{what} is read as it was written");
    }
    bench.log_tells_nothing();
}

#[test]
fn a_time_that_cannot_be_meant_is_refused() {
    let mut bench = Bench::new();
    for time in [
        "1893499200",
        "1893499200.5",
        "null",
        "true",
        "{}",
        r#""""#,
        r#""1893499200""#,
        r#""tomorrow m4rker hush""#,
        r#""2090-01-01""#,
        r#""2090-01-01T00:00:00""#,
        r#""2090-01-01 00:00:00Z""#,
        r#""2090-01-01t00:00:00z""#,
        r#""2090-01-01T00:00Z""#,
        r#""2090-01-01T00:00:00+0100""#,
        r#""2090-01-01T00:00:00+25:00""#,
        r#""10000-01-01T00:00:00Z""#,
        r#""+10000-01-01T00:00:00Z""#,
        r#""2090-06-30T23:59:60Z""#,
        r#""2090-02-30T00:00:00Z""#,
        r#""2090-01-01T24:00:00Z""#,
        r#""-001-01-01T00:00:00Z""#,
    ] {
        for field in ["expiresOn", "notBefore"] {
            let body = format!(r#"{{"value":"m4rker hush","{field}":{time}}}"#);
            bench.hold(&body, Request::put(secret(TARGET), body.clone()), invalid(field));
            assert_eq!(bench.status(TARGET), 404, "{body} was stored");
        }
    }
    for not_before in
        ["2090-01-01T00:00:00Z", "2090-01-01T01:00:00+01:00", "2090-01-01T00:00:00.000001Z"]
    {
        let body = format!(
            r#"{{"value":"m4rker hush","expiresOn":"2090-01-01T00:00:00Z","notBefore":"{not_before}"}}"#
        );
        bench.hold(&body, Request::put(secret(TARGET), body.clone()), invalid("expiresOn"));
        assert_eq!(bench.status(TARGET), 404, "{body} was stored");
    }
    // Imports need it; it is unreadable at once.
    for past in ["2001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z"] {
        let body = format!(r#"{{"value":"m4rker hush","expiresOn":"{past}"}}"#);
        bench.hold(&body, Request::put(secret(TARGET), body.clone()), Done(204));
        let gone = Problem(404, "not_found", None);
        bench.hold(past, Request::get(secret(TARGET)), gone);
        let list = bench.hold(past, Request::get("/api/dev/secrets"), Done(200));
        assert_eq!(list.json(), serde_json::json!([GOOD]));
    }
    let farthest = r#"{"value":"m4rker hush","expiresOn":"9999-12-31T23:59:59.999999999Z"}"#;
    bench.hold("year 9999", Request::put(secret(TARGET), farthest), Done(204));
    assert_eq!(bench.status(TARGET), 200);
    bench.log_tells_nothing();
}

#[test]
fn several_secrets_of_which_one_is_not_valid_are_refused_and_not_logged() {
    let mut bench = Bench::new();
    let good = format!(r#"{{"name":"{TARGET}","value":"m4rker hush"}}"#);
    let invalid = |field| Problem(400, "validation_failed", Some(field));
    for (second, expected) in [
        (good.as_str(), invalid("secrets[1].name")),
        (r#"{"name":"m4rker hush","value":"m4rker hush"}"#, invalid("secrets[1].name")),
        (r#"{"name":"m4rker-2","value":["m4rker hush"]}"#, invalid("secrets[1].value")),
        (r#"{"name":"m4rker-2","m4rker hush":"m4rker hush"}"#, invalid("secrets[1].(unknown)")),
        (
            r#"{"name":"m4rker-2","value":"m4rker hush","ifMatch":"m4rker hush"}"#,
            invalid("secrets[1].ifMatch"),
        ),
        (r#""m4rker hush""#, invalid("secrets")),
        (r#"{"name":"m4rker-2","value":"m4rker hush""#, Problem(400, "malformed_json", None)),
        (
            r#"{"name":"m4rker-2","value":"m4rker hush","ifMatch":"*"}"#,
            Problem(412, "precondition_failed", Some("secrets[1]")),
        ),
    ] {
        let body = format!(r#"{{"secrets":[{good},{second}]}}"#);
        bench.hold(second, Request::post("/api/dev/secrets", body), expected);
        assert_eq!(bench.status(TARGET), 404, "{second}: the first one was stored");
    }
    let both = format!(r#"{{"secrets":[{good},{{"name":"m4rker-2","value":"m4rker hush"}}]}}"#);
    bench.hold("two", Request::post("/api/dev/secrets", both), Done(200));
    assert_eq!(bench.status(TARGET), 200);
    bench.log_tells_nothing();
}

#[test]
fn a_body_of_another_type_is_refused() {
    let mut bench = Bench::new();
    let put = || Request::new("PUT", secret(TARGET)).body(r#"{"value":"m4rker hush"}"#);
    let unsupported = Problem(415, "unsupported_media_type", None);
    bench.hold("no type", put(), unsupported);
    for kind in [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=m4rker",
        "application/jsonp",
        "application/problem+json",
        "application/json; charset=utf-16",
        "application/json; charset=iso-8859-1",
        "application/json, text/plain",
        "m4rker",
    ] {
        bench.hold(kind, put().header("Content-Type", kind), unsupported);
    }
    let twice = put().header("Content-Type", "application/json");
    bench.hold("twice", twice.header("Content-Type", "application/json"), unsupported);
    for coding in ["gzip", "br", "deflate", "m4rker"] {
        let put = put().header("Content-Type", "application/json");
        bench.hold(coding, put.header("Content-Encoding", coding), unsupported);
    }
    assert_eq!(bench.status(TARGET), 404);
    for kind in ["application/json", "APPLICATION/JSON", "application/json; charset=utf-8"] {
        bench.hold(kind, put().header("Content-Type", kind), Done(204));
    }
    bench.log_tells_nothing();
}

#[test]
fn what_is_not_served_says_so_and_what_would_be() {
    let mut bench = Bench::new();
    let all = "GET, HEAD, PUT, DELETE";
    for (path, allow) in [
        (secret("m4rker"), all),
        ("/api/m4rker/secrets".to_owned(), "GET, POST"),
        ("/healthz".to_owned(), "GET"),
        ("/readyz".to_owned(), "GET"),
        ("/.well-known/biscuit-keys".to_owned(), "GET"),
        ("/metrics".to_owned(), "GET"),
        ("/api/openapi.json".to_owned(), "GET"),
        ("/api/docs".to_owned(), "GET"),
        ("/api/docs/".to_owned(), "GET"),
    ] {
        let methods = ["POST", "PATCH", "OPTIONS", "TRACE", "BREW", "get"];
        for method in methods.into_iter().filter(|method| !allow.contains(method)) {
            let request = Request::new(method, &path);
            let expected = Problem(405, "method_not_allowed", None);
            let answer = bench.hold_bare(&format!("{method} {path}"), &request, expected);
            assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
        }
    }
    for path in [
        "/",
        "//",
        "/api",
        "/api/",
        "/api/m4rker",
        "/api/m4rker/Secrets",
        "/api/m4rker/secretsx",
        "/API/dev/secrets",
        "/healthz/",
        "/healthz/m4rker",
        "//healthz",
        "/admin",
        "/metrics/",
        "/.env",
        "/api/docs/m4rker",
        "/api/docs/../openapi.json",
        "/api/docs/%2e%2e/openapi.json",
        "/api/docs/..%2f..%2fetc%2fpasswd",
        "/.well-known/m4rker",
    ] {
        for method in ["GET", "PUT", "POST"] {
            let request = Request::new(method, path);
            let answer = bench.dev.client().send(&request);
            // A path of the documentation is known whatever follows it.
            if path.starts_with("/api/docs/") && method != "GET" {
                judge(path, &answer, Problem(405, "method_not_allowed", None));
            } else {
                judge(path, &answer, Problem(404, "route_not_found", None));
            }
            bench.goes_on(path);
        }
    }
    bench.log_tells_nothing();
}

#[test]
fn a_length_that_lies_harms_nobody() {
    let mut bench = Bench::new();
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n",
        secret(TARGET),
        bench.token
    );
    let body = r#"{"value":"m4rker hush"}"#;
    for (what, framing, expected) in [
        ("too short", format!("Content-Length: 5\r\n\r\n{body}"), Some(400)),
        ("not a number", format!("Content-Length: five\r\n\r\n{body}"), Some(400)),
        ("negative", format!("Content-Length: -1\r\n\r\n{body}"), Some(400)),
        ("signed", format!("Content-Length: +23\r\n\r\n{body}"), Some(400)),
        (
            "beyond 64 bits",
            format!("Content-Length: 99999999999999999999\r\n\r\n{body}"),
            Some(400),
        ),
        ("huge", format!("Content-Length: 9999999999\r\n\r\n{body}"), Some(413)),
        (
            "two of them",
            format!("Content-Length: 23\r\nContent-Length: 5\r\n\r\n{body}"),
            Some(400),
        ),
        (
            "with chunks",
            format!(
                "Content-Length: 23\r\nTransfer-Encoding: chunked\r\n\r\n17\r\n{body}\r\n0\r\n\r\n"
            ),
            Some(400),
        ),
        (
            "garbled chunks",
            format!("Transfer-Encoding: chunked\r\n\r\nm4rker\r\n{body}"),
            Some(400),
        ),
        ("an unknown coding", format!("Transfer-Encoding: odd\r\n\r\n{body}"), Some(400)),
        // Nobody is left to answer, or is told so.
        ("too long", format!("Content-Length: 100\r\n\r\n{body}"), None),
        ("chunks that end early", format!("Transfer-Encoding: chunked\r\n\r\n17\r\n{body}"), None),
    ] {
        let (status, rest) = until_closed(&bench.dev, format!("{head}{framing}").as_bytes());
        match expected {
            Some(expected) => assert_eq!(status, Some(expected), "{what}: {rest}"),
            None => assert!(matches!(status, None | Some(400)), "{what}: {rest}"),
        }
        bench.goes_on(what);
        assert_eq!(bench.status(TARGET), 404, "{what} was stored");
    }
    let chunked = format!(
        "{head}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{{\"val\r\n12\r\nue\":\"m4rker hush\"}}\r\n0\r\n\r\n"
    );
    assert_eq!(until_closed(&bench.dev, chunked.as_bytes()).0, Some(204));
    assert_eq!(bench.status(TARGET), 200);
    bench.log_tells_nothing();
}

/// Sends all, ends its own side, and reads to the end; the first answer's status.
fn until_closed(dev: &Dev, bytes: &[u8]) -> (Option<u16>, String) {
    let mut stream = TcpStream::connect(dev.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the connection ends");
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status, answer)
}

#[test]
fn a_body_that_does_not_arrive_is_given_up() {
    let inside = Inside::start_with(|options| {
        options.body_timeout = Duration::from_millis(200);
        options.keep_alive = Duration::from_millis(200);
        options.header_timeout = Duration::from_secs(1);
    });
    inside.create_tenant("dev");
    let token = inside.mint("dev", &["*"]);
    let put = |length: &str, body: &str| {
        format!(
            "PUT /api/dev/secrets/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\n{length}\r\n\r\n{body}"
        )
    };
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunk = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    for (length, body, late) in [
        ("Content-Length: 100", "", smuggled),
        ("Content-Length: 100", r#"{"value":"#, smuggled),
        ("Transfer-Encoding: chunked", "5\r\n{\"val\r\n", &chunk),
    ] {
        let mut stream = TcpStream::connect(inside.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(put(length, body).as_bytes()).unwrap();
        let mut first = [0; 4096];
        let read = stream.read(&mut first).unwrap();
        let first = String::from_utf8_lossy(&first[..read]).into_owned();
        assert!(first.starts_with("HTTP/1.1 408") && first.contains("body_timeout"), "{first}");
        // What arrives after all is not taken for a request.
        let _ = stream.write_all(late.as_bytes());
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        let rest = String::from_utf8_lossy(&rest);
        assert!(!rest.contains("HTTP/1.1 200"), "{length}: {rest}");
    }
    let get = Request::get("/api/dev/secrets/x").bearer(&token);
    assert_eq!(inside.send(&get).status, 404);
}
