//! HTTPS by the real program, seen by curl: a certificate from a file, replaced
//! while it serves.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{Output, Serve, eventually, init, tenure};

/// A store, and where its certificate and key are.
pub(super) struct Place {
    _folder: tempfile::TempDir,
    data: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Place {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = init(folder.path());
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let place = Self { _folder: folder, data, certificate, key };
        place.renew();
        place
    }

    /// A new certificate and its key.
    fn renew(&self) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]);
        let made = made.expect("a certificate");
        fs::write(&self.certificate, made.cert.pem()).expect("a file");
        fs::write(&self.key, made.signing_key.serialize_pem()).expect("a file");
        self.key_mode(0o600);
    }

    fn key_mode(&self, mode: u32) {
        fs::set_permissions(&self.key, fs::Permissions::from_mode(mode)).expect("ours");
    }

    /// What a client trusts from now on.
    fn trusted_copy(&self, name: &str) -> PathBuf {
        let copy = self.certificate.with_file_name(name);
        fs::copy(&self.certificate, &copy).expect("a copy");
        copy
    }

    fn configure(&self, command: &mut Command) {
        command.arg("--data").arg(&self.data);
        command.env("TENURE_TLS_CERTIFICATE", &self.certificate);
        command.env("TENURE_TLS_KEY", &self.key);
    }

    fn serve(&self) -> Serve {
        self.serve_with(|_| {})
    }

    pub(super) fn serve_with(&self, adapt: impl FnOnce(&mut Command)) -> Serve {
        Serve::start_with(&self.data, |command| {
            self.configure(command);
            adapt(command);
        })
    }
}

/// The answer to a new connection by who trusts `certificate` alone.
fn curl(serve: &Serve, certificate: &Path, path: &str) -> Output {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "30"]);
    curl.arg("--cacert").arg(certificate);
    Output::of(curl.arg(format!("https://{}{path}", serve.address)))
}

#[track_caller]
fn is_trusted(serve: &Serve, certificate: &Path) {
    let output = curl(serve, certificate, "/readyz");
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(0), r#"{"status":"ready"}"#),
        "{output:?}"
    );
}

#[track_caller]
fn is_not_trusted(serve: &Serve, certificate: &Path) {
    const PEER_FAILED_VERIFICATION: i32 = 60;
    let output = curl(serve, certificate, "/readyz");
    assert_eq!(output.code, Some(PEER_FAILED_VERIFICATION), "{output:?}");
}

/// All that comes back over plain TCP.
fn plainly(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    stream.write_all(request).expect("sent");
    let mut answer = Vec::new();
    // Closed with or without a reset.
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn with_a_certificate_https_is_served_and_plain_http_is_not() {
    let place = Place::new();
    let serve = place.serve();
    is_trusted(&serve, &place.certificate);
    let request = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = plainly(serve.address, request);
    assert!(!answer.starts_with(b"HTTP/"), "{:?}", String::from_utf8_lossy(&answer));
    is_trusted(&serve, &place.certificate);
    let token = serve.run(&["tenant", "create", "acme"]);
    assert_eq!(token.code, Some(0), "{token:?}");
    let (code, log) = serve.stop_by("TERM");
    assert_eq!(code, Some(0));
    assert!(log.contains("on https://127.0.0.1:"), "{log}");
}

#[test]
fn secrets_are_stored_and_read_over_https() {
    let place = Place::new();
    let serve = place.serve();
    assert_eq!(serve.run(&["tenant", "create", "acme"]).code, Some(0));
    let minted = serve.run(&["token", "mint", "--tenant", "acme", "--scope", "*"]);
    let header = format!("Authorization: Bearer {}", minted.stdout.trim());
    let url = format!("https://{}/api/acme/secrets/name", serve.address);
    let curl = |args: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "30"]);
        curl.arg("--cacert").arg(&place.certificate);
        Output::of(curl.args(["-H", &header]).args(args).arg(&url))
    };
    let json = "Content-Type: application/json";
    let put = curl(&["-X", "PUT", "-H", json, "-d", r#"{"value":"hello"}"#]);
    assert_eq!(put.code, Some(0), "{put:?}");
    assert_eq!(curl(&[]).stdout, r#""hello""#);
}

#[test]
fn a_hangup_takes_over_a_renewed_certificate_and_keeps_the_old_one_if_it_is_broken() {
    let place = Place::new();
    let serve = place.serve();
    let old = place.trusted_copy("old.pem");
    let log_has = |words: &str, times: usize| {
        let enough = || serve.log().matches(words).count() >= times;
        eventually(words, || enough().then_some(()));
    };
    place.renew();
    is_trusted(&serve, &old);
    serve.signal("HUP");
    log_has("read the TLS certificate again", 1);
    is_trusted(&serve, &place.certificate);
    is_not_trusted(&serve, &old);

    let good = place.trusted_copy("good.pem");
    let broken: [(&str, &dyn Fn()); 3] = [
        ("holds no certificate", &|| fs::write(&place.certificate, "not PEM").expect("a file")),
        ("does not belong to the certificate", &|| {
            let key = fs::read(&place.key).expect("a key");
            place.renew();
            fs::write(&place.key, key).expect("a file");
        }),
        ("run chmod 600", &|| place.key_mode(0o644)),
    ];
    for (at, (fault, breaks)) in broken.into_iter().enumerate() {
        breaks();
        serve.signal("HUP");
        log_has("ERROR nothing was changed: ", at + 1);
        assert!(serve.log().contains(fault), "{fault}: {}", serve.log());
        is_trusted(&serve, &good);
    }

    place.renew();
    serve.signal("HUP");
    log_has("read the TLS certificate again", 2);
    is_trusted(&serve, &place.certificate);
    is_not_trusted(&serve, &good);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
}

#[test]
fn files_that_cannot_be_served_with_are_refused_before_anything_listens() {
    let place = Place::new();
    let refused = |words: &[&str]| {
        let mut command = tenure();
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        place.configure(&mut command);
        let output = Output::of(&mut command);
        assert_eq!(output.code, Some(2), "{output:?}");
        for word in words {
            assert!(output.stderr.contains(word), "{word}: {output:?}");
        }
        assert!(!output.stderr.contains("PRIVATE KEY"), "{output:?}");
    };
    let key = place.key.display().to_string();
    place.key_mode(0o644);
    refused(&[&format!("chmod 600 {key}")]);
    place.key_mode(0o600);
    let text = fs::read_to_string(&place.key).expect("a key");
    fs::write(&place.key, &text[..text.len() / 2]).expect("a file");
    refused(&[&key, "no private key"]);
    fs::remove_file(&place.key).expect("ours");
    refused(&[&key, "cannot be read"]);
    place.renew();
    fs::remove_file(&place.certificate).expect("ours");
    refused(&["cert.pem cannot be read"]);
    let mut lone = tenure();
    lone.args(["serve", "--data"]).arg(&place.data).env("TENURE_TLS_KEY", &place.key);
    let lone = Output::of(&mut lone);
    assert_eq!(lone.code, Some(2), "{lone:?}");
    assert!(lone.stderr.contains("tls.certificate"), "{lone:?}");
}
