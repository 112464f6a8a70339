//! The servers, each in a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tenure::api::admin;
use tenure::http::AdminClient;

use super::client::Target;
use super::tls::Certificate;
use super::{Outcome, client, machine};

const CONFIG: &str = "data = \"data\"\nlisten = \"127.0.0.1:0\"\n[kek]\nfile = \"kek\"\n";
const RELOADED: &str = "read the configuration again";

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
    /// The header line that carries it.
    credential: Arc<str>,
}

/// Of a million secrets after a crash, on a slow disk.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long it is watched whether a server is busy.
const LOOK: Duration = Duration::from_secs(2);

/// The build that is measured.
pub fn this_build() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tenure"))
}

impl Server {
    /// The bare handler.
    pub fn bare(tls: Option<&Certificate>) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--bench", "--serve-bare"])
            .args(tls.map(|tls| [&tls.chain, &tls.key]).into_iter().flatten())
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
        Self::tenure_with(program, data, &[])
    }

    /// The same with variables of the environment that configure it.
    pub fn tenure_with(
        program: &Path,
        data: &Path,
        variables: &[(&str, String)],
    ) -> Outcome<(Self, Duration)> {
        let settings = data.join("dev.env");
        if settings.exists() {
            std::fs::remove_file(&settings)?;
        }
        let start = Instant::now();
        let child = Command::new(program)
            .args(["dev", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .envs(variables.iter().map(|(name, value)| (name, value)))
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

    /// `tenure serve` with a new store, a tenant `dev`, and `tables` at the end of its
    /// configuration.
    pub fn serve(folder: &Path, tables: &str) -> Outcome<Self> {
        std::fs::create_dir_all(folder)?;
        let (data, config) = (folder.join("data"), folder.join("tenure.toml"));
        std::fs::write(&config, format!("{CONFIG}{tables}"))?;
        let program = |word: &str| {
            let mut command = Command::new(this_build());
            command.arg(word).arg("--config").arg(&config).stdout(Stdio::null());
            command
        };
        if !program("init").status()?.success() {
            return Err("`tenure init` failed".into());
        }
        let (start, log) = (Instant::now(), folder.join("log"));
        let child = program("serve").stderr(std::fs::File::create(&log)?).spawn()?;
        let caller = Caller::new(SocketAddr::from(([127, 0, 0, 1], 0)), "", "");
        let mut server = Self { child, data, caller };
        let address = loop {
            let text = std::fs::read_to_string(&log)?;
            let line = text.lines().find(|line| line.contains(" serving "));
            if let Some((_, address)) = line.and_then(|line| line.rsplit_once("://")) {
                break address.parse()?;
            }
            if server.child.try_wait()?.is_some() || start.elapsed() > PATIENCE {
                return Err(format!("`tenure serve` does not serve: {text}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        server.caller.address = address;
        let admin = server.admin()?;
        let create = admin::Command::TenantCreate { name: "dev".to_owned() };
        admin.send(&create, None, None, &mut |_| {})?;
        server.caller = server.caller_in(&admin, "dev")?;
        Ok(server)
    }

    /// With other tables in the configuration that it was started by.
    pub fn reconfigure(&self, tables: &str) -> Outcome<()> {
        let folder = self.data.parent().ok_or("a server of no configuration")?;
        std::fs::write(folder.join("tenure.toml"), format!("{CONFIG}{tables}"))?;
        let reloads = || -> Outcome<usize> {
            let log = std::fs::read_to_string(folder.join("log"))?;
            Ok(log.matches(RELOADED).count())
        };
        let (before, start) = (reloads()?, Instant::now());
        Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status()?;
        while reloads()? == before {
            if start.elapsed() > PATIENCE {
                return Err("`tenure serve` does not read its configuration again".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// What a command prints that is run on its data, with `input` for it.
    pub fn command(&self, words: &[&str], token: &str) -> Outcome<String> {
        let mut command = Command::new(this_build());
        command.args(words).env("TENURE_TOKEN", token);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("`tenure {}` failed", words.join(" ")).into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    pub fn data(&self) -> Outcome<&str> {
        Ok(self.data.to_str().ok_or("a folder with a name that is no text")?)
    }

    pub fn target(&self, tls: Option<&Certificate>) -> Target {
        Target { address: self.caller.address, tls: tls.map(Certificate::connector) }
    }

    pub fn cpu_micros(&self) -> u64 {
        machine::cpu_micros(self.child.id())
    }

    /// Returns when it does nothing any more that it was not asked for: after a start it
    /// counts all secrets.
    pub fn wait_until_idle(&self) -> Outcome<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let before = self.cpu_micros();
            std::thread::sleep(LOOK);
            if Duration::from_micros(self.cpu_micros().saturating_sub(before)) < LOOK / 20 {
                return Ok(());
            }
        }
        Err("a server that nobody calls is busy after ten minutes".into())
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
        Ok(Caller::new(self.caller.address, tenant, &Self::token_in(admin, tenant)?))
    }

    /// One with all rights in it.
    pub fn token_in(admin: &AdminClient, tenant: &str) -> Outcome<String> {
        let mint = admin::Command::TokenMint {
            tenant: tenant.to_owned(),
            scopes: vec!["*".to_owned()],
            ttl_seconds: 24 * 60 * 60,
            subject: "bench".to_owned(),
        };
        match admin.send(&mint, None, None, &mut |_| {})? {
            admin::Reply::Token { token, .. } => Ok(token.clone()),
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
        let credential = format!("Authorization: Bearer {token}").into();
        Self { address, tenant: tenant.into(), credential }
    }

    pub fn with_token(&self, token: &str) -> Self {
        Self::new(self.address, &self.tenant, token)
    }

    pub fn with_api_key(&self, key: &str) -> Self {
        Self { credential: format!("X-API-KEY: {key}").into(), ..self.clone() }
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
        let Self { tenant, credential, address } = self;
        let content = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
        };
        format!(
            "{verb} /api/{tenant}/secrets{path} HTTP/1.1\r\nHost: {address}\r\n\
             {credential}\r\n{content}\r\n{body}"
        )
        .into_bytes()
    }
}
