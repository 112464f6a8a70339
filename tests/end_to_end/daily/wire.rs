//! What goes over the wire, and what does not: requests that are sent again and those that
//! never are, proxies, and whom a certificate convinces.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use tenure::client::{Client, ClientError, Condition, Credential, NewSecret, Server};
use tenure::domain::{SecretName, TenantName, ValidityWindow, WebAddress};
use zeroize::Zeroizing;

use super::Desk;
use crate::support::{Output, Serve, init, maintain, tenure};

/// What a server does with a request that it has read whole.
#[derive(Clone, Copy)]
enum Step {
    Answer(&'static str),
    /// The connection ends without a word.
    Cut,
}

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nConnection: close\r\n\
    Content-Type: application/problem+json\r\nContent-Length: 119\r\n\r\n\
    {\"type\":\"urn:tenure:problem:unavailable\",\"title\":\"x\",\"status\":503,\
    \"detail\":\"Busy.\",\"instance\":\"/\",\"code\":\"unavailable\"}";
const VALUE: &str = "HTTP/1.1 200 OK\r\nETag: \"7\"\r\nConnection: close\r\n\
    Content-Type: application/json\r\nContent-Length: 9\r\n\r\n\"hunter2\"";
const STORED: &str =
    "HTTP/1.1 204 No Content\r\nETag: \"8\"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// A server that does one step after the other, and notes what it was asked.
struct Scripted {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    fn start(steps: &'static [Step]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = asked.clone();
        std::thread::spawn(move || {
            for step in steps {
                let (mut stream, _) = listener.accept().expect("a client");
                noted.lock().expect("a list").push(request(&stream));
                if let Step::Answer(text) = step {
                    stream.write_all(text.as_bytes()).expect("a client");
                }
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("a list").clone()
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn get(&self) -> Output {
        let mut command = tenure();
        command.args(["get", "db", "--tenant", "dev", "--addr", &self.url()]);
        Output::of(command.env("TENURE_TOKEN", "x").current_dir("/"))
    }

    fn client(&self) -> Client {
        let server = Server {
            address: WebAddress::parse(&self.url()).unwrap(),
            tenant: TenantName::parse("dev").unwrap(),
            credential: Credential::Token(Zeroizing::new("x".to_owned())),
            ca: None,
        };
        Client::new(server).unwrap()
    }
}

/// Its first line; all of it is read.
fn request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a request");
        let line = line.trim_end().to_owned();
        if let Some(said) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = said.parse().expect("a length");
        }
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    reader.read_exact(&mut vec![0; length]).expect("a body");
    lines.remove(0)
}

const GET: &str = "GET /api/dev/secrets/db HTTP/1.1";
const PUT: &str = "PUT /api/dev/secrets/db HTTP/1.1";

async fn put(client: &Client) -> Result<(), ClientError> {
    let new = NewSecret { value: None, window: ValidityWindow::default() };
    let name = SecretName::parse("db").unwrap();
    client.write(&name, &new, &Condition::None).await.map(drop)
}

#[test]
fn what_changes_nothing_is_asked_again_until_there_is_an_answer() {
    let server = Scripted::start(&[Step::Cut, Step::Answer(BUSY), Step::Answer(VALUE)]);
    let output = server.get();
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "hunter2"), "{output:?}");
    assert_eq!(server.asked(), [GET, GET, GET]);
}

#[test]
fn patience_ends_and_the_exit_code_says_that_nothing_was_heard() {
    let server = Scripted::start(&[Step::Cut; 4]);
    server.get().assert_fails(5, &["gave no answer"]);
    assert_eq!(server.asked().len(), 4);
    let server = Scripted::start(&[Step::Answer(BUSY); 4]);
    server.get().assert_fails(5, &["Busy"]);
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_never_sent_again() {
    let server = Scripted::start(&[Step::Cut, Step::Answer(STORED)]);
    let lost = put(&server.client()).await.unwrap_err();
    assert!(matches!(lost, ClientError::Unknown { .. }), "{lost}");
    assert!(lost.to_string().contains("look before you do it again"), "{lost}");
    assert_eq!(server.asked(), [PUT]);
}

#[test]
fn a_change_whose_answer_was_lost_ends_with_a_code_of_its_own() {
    let server = Scripted::start(&[Step::Cut, Step::Answer(STORED)]);
    let mut command = tenure();
    command.args(["put", "db", "--tenant", "dev", "--addr", &server.url()]).current_dir("/");
    let output = Output::with_input(command.env("TENURE_TOKEN", "x"), "hunter2");
    output.assert_fails(9, &["it may have been done", "look before you do it again"]);
    assert_eq!(server.asked(), [PUT]);
}

#[tokio::test]
async fn a_write_that_was_refused_for_now_is_sent_again() {
    let server = Scripted::start(&[Step::Answer(BUSY), Step::Answer(STORED)]);
    put(&server.client()).await.unwrap();
    assert_eq!(server.asked(), [PUT, PUT]);
}

#[test]
fn an_answer_of_another_kind_of_server_is_told_from_ours() {
    const OTHER: &str =
        "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
    let server = Scripted::start(&[Step::Answer(OTHER)]);
    server.get().assert_fails(5, &["not as Tenure does"]);
    const ELSEWHERE: &str = "HTTP/1.1 302 Found\r\nLocation: https://hunter2.example/\r\n\
        Connection: close\r\nContent-Length: 0\r\n\r\n";
    let server = Scripted::start(&[Step::Answer(ELSEWHERE)]);
    // The credential goes nowhere else.
    server.get().assert_fails(5, &["status 302"]);
}

/// A server with TLS, for loopback and for `tenure.example`, and a token for it.
struct Secured {
    _folder: tempfile::TempDir,
    serve: Serve,
    certificate: PathBuf,
    token: String,
}

impl Secured {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = init(folder.path());
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let names = vec!["127.0.0.1".to_owned(), "tenure.example".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        fs::write(&certificate, made.cert.pem()).expect("a file");
        fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&key, private).expect("ours");
        let serve = Serve::start_with(&data, |command| {
            command.arg("--data").arg(&data).env("TENURE_TLS_CERTIFICATE", &certificate);
            command.env("TENURE_TLS_KEY", &key);
        });
        assert_eq!(maintain(&data, &["tenant", "create", "acme"]).code, Some(0));
        let mint = ["token", "mint", "--tenant", "acme", "--scope", "*"];
        let token = maintain(&data, &mint).stdout.trim().to_owned();
        Self { _folder: folder, serve, certificate, token }
    }

    /// `tenure whoami` at this address of it, with nothing else said.
    fn whoami(&self, address: &str, adapt: impl FnOnce(&mut Command)) -> Output {
        let mut command = tenure();
        command.args(["whoami", "--tenant", "acme", "--addr", address]);
        command.env("TENURE_TOKEN", &self.token).current_dir("/");
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"]
        {
            command.env_remove(name);
        }
        adapt(&mut command);
        Output::of(&mut command)
    }

    fn on_loopback(&self) -> String {
        format!("https://{}", self.serve.address)
    }
}

#[test]
fn a_certificate_is_trusted_by_its_ca_or_by_those_of_the_system() {
    let secured = Secured::start();
    let address = secured.on_loopback();
    let ca = |file: &PathBuf| {
        let file = file.clone();
        secured.whoami(&address, |command| {
            command.arg("--ca").arg(file);
        })
    };
    assert_eq!(ca(&secured.certificate).code, Some(0));
    let by_variable = secured.whoami(&address, |command| {
        command.env("TENURE_CA", &secured.certificate);
    });
    assert_eq!(by_variable.code, Some(0), "{by_variable:?}");
    let of_system = secured.whoami(&address, |command| {
        command.env("SSL_CERT_FILE", &secured.certificate);
    });
    assert_eq!(of_system.code, Some(0), "{of_system:?}");
    let unknown = secured.whoami(&address, |_| {});
    assert_eq!(unknown.code, Some(5), "{unknown:?}");
    for words in ["is not trusted", "--ca"] {
        assert!(unknown.stderr.contains(words), "{unknown:?}");
    }
    let empty = secured.certificate.with_file_name("empty.pem");
    let absent = ca(&empty);
    assert_eq!((absent.code, absent.stderr.contains("empty.pem cannot be read")), (Some(2), true));
    fs::write(&empty, "").unwrap();
    let empty = ca(&empty);
    assert_eq!((empty.code, empty.stderr.contains("no certificate")), (Some(2), true));
}

/// A proxy that leads wherever it is asked to one server, and notes where that was.
fn proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            noted.lock().expect("a list").push(request(&client));
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("a client");
            let server = TcpStream::connect(to).expect("a server");
            let pairs = [(&client, &server), (&server, &client)];
            for (from, to) in pairs.map(|(a, b)| (a.try_clone().unwrap(), b.try_clone().unwrap())) {
                std::thread::spawn(move || std::io::copy(&mut &from, &mut &to));
            }
        }
    });
    (address, asked)
}

#[test]
fn a_proxy_is_used_for_other_machines_and_never_for_loopback() {
    let secured = Secured::start();
    let (proxy, asked) = proxy(secured.serve.address);
    let by_proxy = |address: &str, no_proxy: &str| {
        secured.whoami(address, |command| {
            command.arg("--ca").arg(&secured.certificate);
            command.env("HTTPS_PROXY", format!("http://{proxy}")).env("NO_PROXY", no_proxy);
            command.env("HTTP_PROXY", format!("http://{proxy}"));
        })
    };
    let output = by_proxy("https://tenure.example", "");
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(*asked.lock().unwrap(), ["CONNECT tenure.example:443 HTTP/1.1"]);
    let output = by_proxy("https://tenure.example", "tenure.example");
    assert_eq!(output.code, Some(5), "{output:?}");
    let output = by_proxy(&secured.on_loopback(), "");
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(asked.lock().unwrap().len(), 1);
    // Plain HTTP is for loopback alone, so that it knows no proxy at all.
    let desk = Desk::new();
    let mut command = desk.tenure(&["list"]);
    let output = Output::of(command.env("HTTP_PROXY", format!("http://{proxy}")));
    assert_eq!((output.code, asked.lock().unwrap().len()), (Some(0), 1), "{output:?}");
}

/// A server is not to blame for it, and what the proxy is told of who asks is said to nobody.
#[test]
fn a_proxy_that_leads_nowhere_is_named() {
    let secured = Secured::start();
    let by_proxy = |proxy: &str| {
        secured.whoami("https://tenure.example", |command| {
            command.arg("--ca").arg(&secured.certificate).env("HTTPS_PROXY", proxy);
        })
    };
    let dead = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    const REFUSAL: Step =
        Step::Answer("HTTP/1.1 407 Proxy Authentication Required\r\nConnection: close\r\n\r\n");
    // It is asked again.
    let refusing = Scripted::start(&[REFUSAL; 4]);
    let refusing_at = refusing.url().replace("http://", "");
    for (at, cause) in
        [(dead.to_string(), "refused"), (refusing_at, "proxy authorization required")]
    {
        let output = by_proxy(&format!("http://someone:hunter2@hunter2@{at}"));
        let through =
            format!("https://tenure.example cannot be reached through the proxy http://{at}: ");
        assert_eq!(output.code, Some(5), "{output:?}");
        for words in [&through, cause, "HTTPS_PROXY", "NO_PROXY"] {
            assert!(output.stderr.contains(words), "{words}: {output:?}");
        }
        assert!(
            !output.stderr.contains("hunter2") && !output.stderr.contains("someone"),
            "{output:?}"
        );
    }
}

const LATER: &str = "HTTP/1.1 200 OK\r\nETag: \"8\"\r\nConnection: close\r\n\
    Content-Type: application/json\r\nContent-Length: 9\r\n\r\n\"hunter3\"";

#[test]
fn an_edit_whose_answer_was_lost_is_known_again() {
    let steps = &[Step::Answer(VALUE), Step::Cut, Step::Answer(LATER)];
    let server = Scripted::start(steps);
    let mut command = tenure();
    command.args(["edit", "db", "--tenant", "dev", "--addr", &server.url()]);
    let output = Output::of(
        command
            .env("TENURE_TOKEN", "x")
            .env("EDITOR", "sh -c 'printf hunter3 > \"$1\"' sh")
            .env_remove("VISUAL")
            .current_dir("/"),
    );
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.starts_with("stored 'db'"), "{output:?}");
    assert_eq!(server.asked(), [GET, PUT, GET]);
}

#[test]
fn a_change_that_something_between_answered_may_have_been_done() {
    const GATEWAY: &str = "HTTP/1.1 504 Gateway Timeout\r\nConnection: close\r\n\
        Content-Type: text/html\r\nContent-Length: 4\r\n\r\n<p/>";
    const NO_ETAG: &str =
        "HTTP/1.1 204 No Content\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    const CUT: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 90\r\n\r\n{";
    for answer in [&[Step::Answer(GATEWAY)], &[Step::Answer(NO_ETAG)], &[Step::Answer(CUT)]] {
        for args in [&["put", "db", "v"][..], &["rm", "db", "--yes"], &["import", "-", "--replace"]]
        {
            // Nothing tells ours from another answer of this kind.
            if args[0] == "rm" && matches!(answer, [Step::Answer(NO_ETAG)]) {
                continue;
            }
            let steps: &'static [Step] = match args[0] {
                "import" => Vec::leak([&[Step::Answer(EMPTY)][..], answer].concat()),
                _ => answer,
            };
            let server = Scripted::start(steps);
            let mut command = tenure();
            command.args(args).args(["--tenant", "dev", "--addr", &server.url()]);
            command.env("TENURE_TOKEN", "x").current_dir("/");
            let output = match args[0] {
                "import" => Output::with_input(command.args(["--format", "dotenv"]), "db=v\n"),
                _ => Output::of(&mut command),
            };
            assert_eq!(output.code, Some(9), "{args:?}: {output:?}");
            assert_eq!(server.asked().len(), steps.len(), "{args:?}: sent once");
        }
    }
}

const EMPTY: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\
    Content-Type: application/json\r\nContent-Length: 2\r\n\r\n[]";
