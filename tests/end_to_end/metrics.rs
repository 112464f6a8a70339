//! Metrics: what they say, what they never say, and that Prometheus reads them.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::support::{Client, Output, Request, Serve, eventually, init, tenure};
use super::tls::Place;

fn config(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(file)
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A server whose metrics are at an address of their own.
struct Measured {
    server: Serve,
    metrics: SocketAddr,
    token: String,
}

impl Measured {
    fn start(folder: &Path, adapt: impl FnOnce(&mut Command)) -> Self {
        let data = init(folder);
        let metrics = free_address();
        let server = Serve::start_with(&data, |command| {
            command.arg("--data").arg(&data).env("TENURE_METRICS_LISTEN", metrics.to_string());
            adapt(command);
        });
        assert_eq!(server.run(&["tenant", "create", "acme"]).code, Some(0));
        let minted = ["token", "mint", "--tenant", "acme", "--scope", "*", "--ttl", "1h"];
        let token = server.run(&minted).stdout.trim().to_owned();
        Self { server, metrics, token }
    }

    fn server_admin(&self) -> String {
        let mint = ["token", "mint", "--server-admin", "--ttl", "1h", "--subject", "prometheus"];
        let minted = self.server.run(&mint);
        assert_eq!(minted.code, Some(0), "{minted:?}");
        minted.stdout.trim().to_owned()
    }

    fn text(&self) -> String {
        let answer = Client::new(self.metrics).send(&Request::get("/metrics"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text()
    }

    /// The value of a sample, by its name and labels as they are written.
    fn value(&self, sample: &str) -> Option<f64> {
        let text = self.text();
        let line =
            text.lines().find(|line| line.rsplit_once(' ').is_some_and(|l| l.0 == sample))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    fn client(&self) -> Client {
        Client::new(self.server.address)
    }

    fn send(&self, client: &mut Client, request: Request) -> u16 {
        client.send(&request.bearer(&self.token)).status
    }
}

fn secret(name: &str) -> String {
    format!("/api/acme/secrets/{name}")
}

fn put(name: &str) -> Request {
    Request::put(secret(name), r#"{"value":"treasure","expiresOn":"2100-01-01T00:00:00Z"}"#)
}

/// Everything before the value of each sample.
fn series(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

#[test]
fn requests_are_counted_by_route_status_and_credential() {
    let folder = tempfile::tempdir().unwrap();
    let measured = Measured::start(folder.path(), |_| {});
    let mut client = measured.client();
    assert_eq!(measured.send(&mut client, put("one")), 204);
    for status in [200, 200] {
        assert_eq!(measured.send(&mut client, Request::get(secret("one"))), status);
    }
    assert_eq!(measured.send(&mut client, Request::get(secret("none"))), 404);
    assert_eq!(client.send(&Request::get(secret("one"))).status, 401);
    assert_eq!(client.send(&Request::get(secret("one")).api_key("wrong")).status, 401);
    assert_eq!(client.send(&Request::new("BREW", "/coffee/acme")).status, 404);
    let route = r#"method="GET",route="/api/{tenantId}/secrets/{key}""#;
    for (labels, count) in [
        (format!(r#"{route},status="200",credential="biscuit""#), 2.0),
        (format!(r#"{route},status="404",credential="biscuit""#), 1.0),
        (format!(r#"{route},status="401",credential="none""#), 1.0),
        (format!(r#"{route},status="401",credential="api_key""#), 1.0),
        (r#"method="other",route="none",status="404",credential="none""#.to_owned(), 1.0),
    ] {
        let sample = format!("tenure_http_requests_total{{{labels}}}");
        assert_eq!(measured.value(&sample), Some(count), "{sample} in {}", measured.text());
    }
    for (sample, count) in [
        (format!("tenure_http_request_duration_seconds_count{{{route}}}"), 5.0),
        (r#"tenure_authentication_failures_total{reason="api_key"}"#.to_owned(), 1.0),
        (r#"tenure_token_lookups_total{result="miss"}"#.to_owned(), 1.0),
        (r#"tenure_token_lookups_total{result="hit"}"#.to_owned(), 3.0),
        ("tenure_ready".to_owned(), 1.0),
        ("tenure_tenants".to_owned(), 1.0),
    ] {
        assert_eq!(measured.value(&sample), Some(count), "{sample}");
    }
    assert!(measured.value("tenure_store_sync_duration_seconds_count") >= Some(1.0));
}

/// Nothing that a client sends is a label; so no name is shown, and what is shown does
/// not grow.
#[test]
fn names_paths_and_credentials_neither_show_nor_add_series() {
    let (names, paths) = (100_000, 10_000);
    let folder = tempfile::tempdir().unwrap();
    let measured = Measured::start(folder.path(), |_| {});
    assert_eq!(measured.send(&mut measured.client(), put("nm-stored")), 204);
    for shown_later in [
        r#"tenure_secrets{state="valid"}"#,
        "tenure_last_sweep_timestamp_seconds",
        "tenure_oldest_dek_timestamp_seconds",
        "tenure_kek_timestamp_seconds",
    ] {
        eventually(shown_later, || measured.value(shown_later));
    }
    let mut client = measured.client();
    let mut ask = |number: usize| {
        assert_eq!(measured.send(&mut client, Request::get(secret(&format!("nm{number}")))), 404);
    };
    ask(0);
    let stray = |client: &mut Client, number: usize| {
        let request = match number % 4 {
            0 => Request::get(format!("/stray{number}/x")),
            1 => Request::get(format!("/api/stray{number}/secrets/x")).bearer("stray"),
            2 => Request::new("STRAY", format!("/api/stray{number}/secrets/x")),
            _ => Request::get(secret("x")).api_key(&format!("stray{number}")),
        };
        assert!((400..500).contains(&client.send(&request).status));
    };
    // Enough for some to be refused for their number alone.
    let mut strays = measured.client();
    (0..2_000).for_each(|number| stray(&mut strays, number));
    for shown_later in
        ["tenure_http_connections", r#"tenure_authentication_failures_total{reason="limited"}"#]
    {
        eventually(shown_later, || measured.value(shown_later));
    }
    let before = series(&measured.text());
    (0..names).for_each(ask);
    // The other connection may have been closed for its idleness.
    let mut strays = measured.client();
    (0..paths).for_each(|number| stray(&mut strays, number));
    let text = measured.text();
    assert_eq!(series(&text), before);
    assert!(before.len() < 1_000, "{} series", before.len());
    for word in ["nm", "stray", "STRAY", "acme", "treasure", &measured.token] {
        assert!(!text.contains(&format!("\"{word}")), "{word} is in {text}");
    }
    for word in ["stray", "STRAY", "treasure", "nm-stored", measured.token.as_str()] {
        assert!(!text.contains(word), "{word} is in {text}");
    }
}

#[test]
fn metrics_are_there_while_sealed_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let measured = Measured::start(folder.path(), |_| {});
    assert_eq!(measured.value("tenure_sealed"), Some(0.0));
    assert_eq!(measured.server.run(&["seal", "--yes"]).code, Some(0));
    assert_eq!(measured.value("tenure_sealed"), Some(1.0));
    assert_eq!(measured.value("tenure_ready"), Some(0.0));
    let mut client = Client::new(measured.metrics);
    assert_eq!(client.send(&Request::get(secret("x")).bearer(&measured.token)).status, 404);
    assert_eq!(client.send(&Request::put("/metrics", "x")).status, 405);
    assert_eq!(measured.client().send(&Request::get(ON_MAIN)).status, 503);
}

const ON_MAIN: &str = "/metrics";

#[test]
fn metrics_are_read_where_secrets_are_with_a_token_for_the_server_alone() {
    let folder = tempfile::tempdir().unwrap();
    let measured = Measured::start(folder.path(), |_| {});
    let token = measured.server_admin();
    let mut client = measured.client();
    let answer = client.send(&Request::get(ON_MAIN).bearer(&token));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.assert_proper();
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    // A request is counted when it is answered.
    let again = client.send(&Request::get(ON_MAIN).bearer(&token)).text();
    let sample = r#"tenure_http_requests_total{method="GET",route="/metrics",status="200",credential="biscuit"} 1"#;
    assert!(again.lines().any(|line| line == sample), "{again}");
    assert!(!again.contains(&token));
    for (request, status) in [
        (Request::get(ON_MAIN), 401),
        (Request::get(ON_MAIN).bearer(&measured.token), 403),
        (Request::get(secret("one")).bearer(&token), 403),
        (Request::get("/api/acme/secrets").bearer(&token), 403),
        (put("one").bearer(&token), 403),
        (Request::put(ON_MAIN, "x").bearer(&token), 405),
    ] {
        let answer = client.send(&request);
        assert_eq!(answer.status, status, "{answer:?}");
    }
    let mut revoke = tenure();
    revoke.args(["token", "revoke", "--token", "-", "--data"]).arg(&measured.server.data);
    let revoked = Output::with_input(&mut revoke, &token);
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    assert_eq!(client.send(&Request::get(ON_MAIN).bearer(&token)).status, 401);
}

#[test]
fn metrics_that_are_not_to_be_where_secrets_are_leave_no_trace_there() {
    let folder = tempfile::tempdir().unwrap();
    let measured = Measured::start(folder.path(), |command| {
        command.env("TENURE_METRICS_ON_MAIN", "false");
    });
    let token = measured.server_admin();
    let mut client = measured.client();
    let mut ask = |method: &str, path: &str| {
        let answer = client.send(&Request::new(method, path).bearer(&token)).comparable();
        (answer.status, answer.text().replace(path, "PATH"))
    };
    for method in ["GET", "DELETE"] {
        let nothing = ask(method, "/nothing");
        assert_eq!(nothing.0, 404, "{nothing:?}");
        assert_eq!(ask(method, ON_MAIN), nothing);
    }
    assert_eq!(measured.value("tenure_ready"), Some(1.0), "the other listener has them");
}

#[test]
fn a_token_for_the_server_is_minted_with_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let measured = Measured::start(folder.path(), |_| {});
    let server = &measured.server;
    let mint = ["token", "mint", "--server-admin"];
    for more in [["--tenant", "acme"], ["--scope", "Secret.Read"]] {
        let refused = server.run(&[&mint[..], &more].concat());
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
        assert!(refused.stderr.contains(more[0]), "{refused:?}");
    }
    let of_tenant = ["token", "mint", "--tenant", "acme", "--scope", "Server.Admin"];
    server.run(&of_tenant).assert_fails(2, &["'Server.Admin' is not a scope"]);
    let nothing = server.run(&["token", "mint"]);
    assert_eq!(nothing.code, Some(2), "{nothing:?}");
    assert!(nothing.stderr.contains("--tenant") && nothing.stderr.contains("--scope"));
    let token = measured.server_admin();
    let said = Output::with_input(tenure().args(["token", "inspect"]), &token);
    assert_eq!(said.code, Some(0), "{said:?}");
    for line in ["none: it is for the server itself", "prometheus", "the server's metrics"] {
        assert!(said.stdout.contains(line), "{said:?}");
    }
    let narrow = |args: &[&str]| Output::with_input(tenure().args(args), &token);
    narrow(&["token", "attenuate", "--read-only"]).assert_fails(2, &["times alone"]);
    let narrowed = narrow(&["token", "attenuate", "--ttl", "10m"]);
    let get = Request::get(ON_MAIN).bearer(narrowed.stdout.trim());
    assert_eq!(measured.client().send(&get).status, 200);
}

#[test]
fn metrics_off_loopback_must_be_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let data = init(folder.path());
    let serve = |listen: &str| {
        let mut command = tenure();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
        Output::of(command.env("TENURE_METRICS_LISTEN", listen))
    };
    serve("0.0.0.0:0").assert_fails(2, &["metrics.listen", "metrics.allow_remote = true"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    serve(&address).assert_fails(5, &[&address, "metrics.listen"]);
}

#[test]
fn promtool_finds_no_fault_with_metrics_and_alerts() {
    let rules =
        Output::of(promtool().args(["check", "rules"]).arg(config("prometheus/alerts.yml")));
    assert_eq!(rules.code, Some(0), "{rules:?}");
    assert!(rules.stdout.contains("6 rules found"), "{rules:?}");
    let folder = tempfile::tempdir().unwrap();
    let measured = Measured::start(folder.path(), |_| {});
    assert_eq!(measured.send(&mut measured.client(), put("one")), 204);
    let mut check = promtool();
    let lint = Output::with_input(check.args(["check", "metrics"]), &measured.text());
    assert_eq!((lint.code, lint.stderr.as_str()), (Some(0), ""), "{lint:?}");
}

/// As long as one place fails, and of that place alone.
#[test]
fn copies_of_the_audit_that_fail_raise_an_alert() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.yml");
    let firing = |to: &str| {
        format!(
            "ALERTS{{alertname=\"TenureAuditCopiesFail\", alertstate=\"firing\", instance=\"a\", \
             severity=\"warning\", to=\"{to}\"}}"
        )
    };
    let expected = |at: &str, samples: &str| {
        let fires = r#"ALERTS{alertname="TenureAuditCopiesFail", alertstate="firing"}"#;
        format!("  - {{ eval_time: {at}, expr: '{fires}', exp_samples: [{samples}] }}\n")
    };
    let text = format!(
        "rule_files: [ {:?} ]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n  \
         - {{ series: 'tenure_audit_copies_failing{{instance=\"a\", to=\"file\"}}', values: 0 1x20 0x20 }}\n  \
         - {{ series: 'tenure_audit_copies_failing{{instance=\"a\", to=\"syslog\"}}', values: 0 1x5 0x35 }}\n  \
         promql_expr_test:\n{}{}{}",
        config("prometheus/alerts.yml"),
        expected("10m", ""),
        expected("15m", &format!("{{ labels: '{}', value: 1 }}", firing("file"))),
        expected("25m", "")
    );
    fs::write(&file, text).unwrap();
    let tested = Output::of(promtool().args(["test", "rules"]).arg(&file));
    assert_eq!(tested.code, Some(0), "{tested:?}");
}

fn promtool() -> Command {
    Command::new("promtool")
}

/// The real Prometheus, as long as this lives.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    /// `main`: the listener for secrets, and a token for the server that has it.
    fn scraping(targets: [SocketAddr; 2], main: (SocketAddr, &str), folder: &Path) -> Self {
        let token = folder.join("prometheus.token");
        fs::write(&token, main.1).unwrap();
        let file = folder.join("prometheus.yml");
        let targets = targets.map(|target| target.to_string());
        let alerts = config("prometheus/alerts.yml");
        let text = format!(
            "global: {{ scrape_interval: 250ms, evaluation_interval: 250ms }}\n\
             rule_files: [ \"{}\" ]\n\
             scrape_configs:\n- job_name: tenure\n  static_configs: [ {{ targets: {targets:?} }} ]\n\
             - job_name: tenure-main\n  authorization: {{ credentials_file: \"{}\" }}\n  \
             static_configs: [ {{ targets: [\"{}\"] }} ]\n",
            alerts.display(),
            token.display(),
            main.0
        );
        fs::write(&file, text).unwrap();
        let address = free_address();
        let log = fs::File::create(folder.join("prometheus.log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("tests/run installs prometheus");
        Self { child, address }
    }

    /// What a query answers; `None` while there is nothing.
    fn query(&self, query: &str) -> Option<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let target = format!("/api/v1/query?query={encoded}");
        std::net::TcpStream::connect(self.address).ok()?;
        let answer = Client::new(self.address).try_send(&Request::get(target)).ok()?;
        if answer.status == 503 {
            return None;
        }
        let json = answer.json();
        assert_eq!(json["status"], "success", "{query}: {json}");
        let result = json["data"]["result"].clone();
        result.as_array().is_some_and(|rows| !rows.is_empty()).then_some(result)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn queries_of_the_dashboard() -> Vec<String> {
    let dashboard = fs::read_to_string(config("grafana/tenure.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn prometheus_answers_every_query_of_the_dashboard() {
    let folder = tempfile::tempdir().unwrap();
    let measured = Measured::start(folder.path(), |command| {
        command.env("TENURE_SWEEP_EVERY", "100ms").env("TENURE_SWEEP_RETAIN", "0s");
    });
    // Of which the dashboard shows when its certificate expires.
    let (place, metrics_of_tls) = (Place::new(), free_address());
    let _with_tls = place.serve_with(|command| {
        command.env("TENURE_METRICS_LISTEN", metrics_of_tls.to_string());
    });
    let main = (measured.server.address, &*measured.server_admin());
    let targets = [measured.metrics, metrics_of_tls];
    let prometheus = Prometheus::scraping(targets, main, folder.path());
    let mut client = measured.client();
    let queries = queries_of_the_dashboard();
    assert!(queries.len() > 30, "{queries:?}");
    for query in queries {
        let query = query.replace("$__rate_interval", "1m").replace("[1h]", "[1m]");
        eventually(&query, || {
            assert_eq!(measured.send(&mut client, put("one")), 204);
            let refused = client.send(&Request::get(secret("one")).bearer("wrong")).status;
            // Some of them for their number.
            assert!([401, 429].contains(&refused), "{refused}");
            prometheus.query(&query)
        });
    }
    for job in ["tenure", "tenure-main"] {
        let up = format!("min(up{{job=\"{job}\"}}) == 1");
        eventually(&up, || prometheus.query(&up));
    }
    let alerts = eventually("alerts to be evaluated", || {
        let answer =
            Client::new(prometheus.address).try_send(&Request::get("/api/v1/rules")).ok()?;
        let rules = answer.json()["data"]["groups"][0]["rules"].clone();
        let rules = rules.as_array()?.clone();
        rules.iter().all(|rule| rule["health"] == "ok").then_some(rules)
    });
    assert_eq!(alerts.len(), 6);
}

#[test]
fn the_document_has_every_series_of_the_program() {
    let document = fs::read_to_string(config("../docs/metrics.md")).unwrap();
    for series in tenure::measure::SERIES {
        let row = document.lines().find(|line| line.starts_with(&format!("| `{}` |", series.name)));
        let row = row.unwrap_or_else(|| panic!("docs/metrics.md has no {}", series.name));
        let help = series.help.trim_end_matches('.');
        assert!(row.contains(help), "{row}: {help}");
        for label in series.labels {
            assert!(row.contains(&format!("`{label}`")), "{row}: {label}");
        }
    }
    let rows =
        document.lines().filter(|l| l.starts_with("| `tenure_") || l.starts_with("| `process_"));
    assert_eq!(rows.count(), tenure::measure::SERIES.len());
}
