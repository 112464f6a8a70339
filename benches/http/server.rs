//! The two servers, each in a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Outcome, client, machine};

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    tenant: String,
    token: String,
}

const PATIENCE: Duration = Duration::from_secs(30);

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
        let address = line.trim().parse()?;
        Ok(Self { child, address, tenant: "dev".to_owned(), token: String::new() })
    }

    /// `tenure dev` on `data`, and how long it took to its first answer to an
    /// authorized request.
    pub fn tenure(data: &Path) -> Outcome<(Self, Duration)> {
        let settings = data.join("dev.env");
        if settings.exists() {
            std::fs::remove_file(&settings)?;
        }
        let start = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_tenure"))
            .args(["dev", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdout(Stdio::null())
            .spawn()?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { child, address, tenant: String::new(), token: String::new() };
        while !server.answers(&settings)? {
            if start.elapsed() > PATIENCE {
                return Err("`tenure dev` did not answer within 30 s".into());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok((server, start.elapsed()))
    }

    pub fn cpu_micros(&self) -> u64 {
        machine::cpu_micros(self.child.id())
    }

    /// Asks it to end, and waits until it did.
    pub fn stop(mut self) -> Outcome<()> {
        let process = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &process]).status()?;
        self.child.wait()?;
        Ok(())
    }

    pub fn get(&self, name: &str) -> Vec<u8> {
        self.request("GET", &format!("/{name}"), "")
    }

    pub fn list(&self) -> Vec<u8> {
        self.request("GET", "", "")
    }

    pub fn put(&self, name: &str, value: &str) -> Vec<u8> {
        // With a window, so that it changes the expiry index too.
        let window = "\"expiresOn\":\"2100-01-01T00:00:00Z\"";
        self.request("PUT", &format!("/{name}"), &format!("{{\"value\":\"{value}\",{window}}}"))
    }

    fn request(&self, verb: &str, path: &str, body: &str) -> Vec<u8> {
        let Self { tenant, token, address, .. } = self;
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

    /// Whether `dev.env` is complete and the server behind it lists.
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
        self.address = address.trim_start_matches("http://").trim_end_matches('/').parse()?;
        (self.tenant, self.token) = (tenant, token);
        Ok(client::send(self.address, &[self.list()]).is_ok_and(|statuses| statuses == [200]))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either may fail where the process has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
