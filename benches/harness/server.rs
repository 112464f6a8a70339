//! The servers, each in a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tenure::api::admin;
use tenure::http::AdminClient;

use super::{Outcome, client, machine};

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    data: PathBuf,
    pub caller: Caller,
}

/// Who calls it, and where: makes requests.
#[derive(Clone)]
pub struct Caller {
    pub address: SocketAddr,
    tenant: Arc<str>,
    token: Arc<str>,
}

/// Of a million secrets after a crash, on a slow disk.
const PATIENCE: Duration = Duration::from_secs(600);

/// The build that is measured.
pub fn this_build() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tenure"))
}

impl Server {
    /// The bare handler.
    pub fn bare() -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--bench", "--serve-bare"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or("the bare server has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let caller = Caller::new(line.trim().parse()?, "dev", "");
        Ok(Self { child, data: PathBuf::new(), caller })
    }

    /// `tenure dev` on `data`, and how long it took to its first answer to an
    /// authorized request.
    pub fn tenure(program: &Path, data: &Path) -> Outcome<(Self, Duration)> {
        let settings = data.join("dev.env");
        if settings.exists() {
            std::fs::remove_file(&settings)?;
        }
        let start = Instant::now();
        let child = Command::new(program)
            .args(["dev", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdout(Stdio::null())
            .spawn()?;
        let caller = Caller::new(SocketAddr::from(([127, 0, 0, 1], 0)), "", "");
        let mut server = Self { child, data: data.to_owned(), caller };
        while !server.answers(&settings)? {
            if start.elapsed() > PATIENCE {
                return Err("`tenure dev` did not answer within ten minutes".into());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok((server, start.elapsed()))
    }

    pub fn cpu_micros(&self) -> u64 {
        machine::cpu_micros(self.child.id())
    }

    pub fn memory(&self) -> u64 {
        machine::memory(self.child.id())
    }

    /// Asks it to end, and waits until it did.
    pub fn stop(mut self) -> Outcome<()> {
        let process = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &process]).status()?;
        self.child.wait()?;
        Ok(())
    }

    /// As a crash does.
    pub fn kill(mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub fn admin(&self) -> Outcome<AdminClient> {
        Ok(AdminClient::connect(&self.data)?.ok_or("the server has no admin socket")?)
    }

    /// A caller with all rights in another tenant.
    pub fn caller_in(&self, admin: &AdminClient, tenant: &str) -> Outcome<Caller> {
        let mint = admin::Command::TokenMint {
            tenant: tenant.to_owned(),
            scopes: vec!["*".to_owned()],
            ttl_seconds: 24 * 60 * 60,
            subject: "bench".to_owned(),
        };
        match admin.send(&mint, None, None, &mut |_| {})? {
            admin::Reply::Token { token, .. } => {
                Ok(Caller::new(self.caller.address, tenant, &token))
            }
            _ => Err("the mint answered with something else".into()),
        }
    }

    /// Whether `dev.env` is complete and the server behind it looks a secret up.
    fn answers(&mut self, settings: &Path) -> Outcome<bool> {
        if let Some(status) = self.child.try_wait()? {
            return Err(format!("`tenure dev` ended at once: {status}").into());
        }
        let text = std::fs::read_to_string(settings).unwrap_or_default();
        let setting = |name: &str| {
            let line = text.lines().find_map(|line| {
                line.trim_start_matches("export ").strip_prefix(name)?.strip_prefix('=')
            });
            line.map(|value| value.trim_matches(['"', '\'']).to_owned())
        };
        let (Some(address), Some(tenant), Some(token)) =
            (setting("TENURE_ADDR"), setting("TENURE_TENANT"), setting("TENURE_TOKEN"))
        else {
            return Ok(false);
        };
        let address = address.trim_start_matches("http://").trim_end_matches('/').parse()?;
        self.caller = Caller::new(address, &tenant, &token);
        let status = client::send(address, &self.caller.get("none-of-this-name"));
        Ok(status.is_ok_and(|status| status == 404))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either may fail where the process has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Caller {
    fn new(address: SocketAddr, tenant: &str, token: &str) -> Self {
        Self { address, tenant: tenant.into(), token: token.into() }
    }

    pub fn get(&self, name: &str) -> Vec<u8> {
        self.request("GET", &format!("/{name}"), "")
    }

    /// `query` is empty or begins with a question mark.
    pub fn list(&self, query: &str) -> Vec<u8> {
        self.request("GET", query, "")
    }

    pub fn put(&self, name: &str, value: &str) -> Vec<u8> {
        // With a window, so that it changes the expiry index too.
        let window = "\"expiresOn\":\"2100-01-01T00:00:00Z\"";
        self.request("PUT", &format!("/{name}"), &format!("{{\"value\":\"{value}\",{window}}}"))
    }

    fn request(&self, verb: &str, path: &str, body: &str) -> Vec<u8> {
        let Self { tenant, token, address } = self;
        let content = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
        };
        format!(
            "{verb} /api/{tenant}/secrets{path} HTTP/1.1\r\nHost: {address}\r\n\
             Authorization: Bearer {token}\r\n{content}\r\n{body}"
        )
        .into_bytes()
    }
}
