//! A real identity provider: npm's oidc-provider, as a process on loopback
//! (tests/identity_provider), shared by all tests of this binary.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::http::{Client, Request};

/// Where `tests/run` installs what npm brings.
pub fn tools() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/identity_provider");
    let installed = fs::read(tools.join("installed.json")).ok();
    let wanted = fs::read(script("package-lock.json")).expect("it is in the repository");
    assert!(
        installed == Some(wanted),
        "the identity provider of the tests is not installed, or another version of it; run \
         ./tests/run, which installs it"
    );
    tools
}

/// A script of tests/identity_provider.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/identity_provider").join(name)
}

struct Process {
    control: SocketAddr,
    /// Its end is the process's end, so that it does not outlive this one.
    _alive: ChildStdin,
}

fn process() -> &'static Process {
    static PROCESS: OnceLock<Process> = OnceLock::new();
    PROCESS.get_or_init(|| {
        let log = tools().join("provider.log");
        let mut command = Command::new("node");
        command.arg(script("provider.mjs")).current_dir(tools());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(fs::File::create(&log).expect("a log"));
        let mut child = command.spawn().expect("node is there; ./tests/run installs it");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the provider says where it is");
        let address = line.trim().strip_prefix("http://").and_then(|at| at.parse().ok());
        let control = address.unwrap_or_else(|| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            panic!("the identity provider did not start: {line}{said} ({:?})", child.wait())
        });
        Process { control, _alive: child.stdin.take().expect("it is piped") }
    })
}

/// Whom the provider gives tokens to.
pub struct Registered {
    pub id: &'static str,
    /// `client_credentials`, `implicit`, `code`, or `both` of the last two.
    pub flow: &'static str,
    pub alg: &'static str,
    /// What stands in the claim `tenant`.
    pub tenant: &'static str,
}

/// One issuer of the provider, with keys of its own.
pub struct RealIssuer {
    /// As in `iss`.
    pub name: String,
    at: String,
}

impl RealIssuer {
    /// Tokens last for `ttl` seconds.
    pub fn new(clients: &[Registered], ttl: u32) -> Self {
        let client = |Registered { id, flow, alg, tenant }: &Registered| json!({"id": id, "flow": flow, "alg": alg, "tenant": tenant});
        let clients: Vec<_> = clients.iter().map(client).collect();
        let made = control("/issuers", &json!({ "clients": clients, "ttl": ttl }));
        let text = |name: &str| made[name].as_str().expect("an address").to_owned();
        Self { name: text("issuer"), at: text("at") }
    }

    /// By client credentials.
    pub fn token(&self, client: &str, scope: &str) -> String {
        self.ask("token", client, scope)
    }

    /// As a user signs in: by the implicit flow, or by code and PKCE, whichever the
    /// client is registered for.
    pub fn sign_in(&self, client: &str, scope: &str) -> String {
        self.ask("sign-in", client, scope)
    }

    /// These are its keys from now on, and the first one signs.
    pub fn use_keys(&self, names: &[&str]) {
        control(&format!("{}/keys", self.at), &json!({ "names": names }));
    }

    fn ask(&self, what: &str, client: &str, scope: &str) -> String {
        let said = json!({ "client": client, "scope": scope });
        let answer = control(&format!("{}/{what}", self.at), &said);
        answer["token"].as_str().expect("a token").to_owned()
    }
}

fn control(path: &str, said: &Value) -> Value {
    let request = Request::new("POST", path).body(said.to_string());
    let answer = Client::new(process().control).send(&request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}
