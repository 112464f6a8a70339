//! An HTTP/1.1 client that sends just the bytes it is told to: a library would
//! mend the malformed requests that these tests are about.

use std::io::ErrorKind::{
    BrokenPipe, ConnectionRefused, ConnectionReset, Interrupted, UnexpectedEof,
};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// For hangs, not for speed.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, target: impl Into<String>) -> Self {
        let (method, target) = (method.to_owned(), target.into());
        Self { method, target, headers: Vec::new(), body: Vec::new() }
    }

    pub fn get(target: impl Into<String>) -> Self {
        Self::new("GET", target)
    }

    pub fn put(target: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::new("PUT", target).body(body).header("Content-Type", "application/json")
    }

    pub fn delete(target: impl Into<String>) -> Self {
        Self::new("DELETE", target)
    }

    pub fn post(target: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", target).body(body).header("Content-Type", "application/json")
    }

    pub fn api_key(self, key: &str) -> Self {
        self.header("X-API-KEY", key)
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// As it goes over the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: tenure.test\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let carries_body = !self.body.is_empty() || matches!(self.method.as_str(), "PUT" | "POST");
        if carries_body && !head.to_ascii_lowercase().contains("\r\ncontent-length:") {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body is UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The `code` of a problem, whose media type and status are checked.
    pub fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        problem["code"].as_str().expect("a problem has a code").to_owned()
    }

    /// What every answer past routing has.
    ///
    /// # Panics
    /// If it lacks it.
    pub fn assert_proper(&self) {
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{self:?}");
        let id = self.header("x-request-id").unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        assert!((1..=64).contains(&id.len()) && id.chars().all(plain), "{self:?}");
        assert_eq!(self.status == 401, self.header("www-authenticate").is_some(), "{self:?}");
        assert_eq!(self.status == 405, self.header("allow").is_some(), "{self:?}");
        if self.status >= 400 && !self.body.is_empty() {
            let (code, problem) = (self.code(), self.json());
            assert_eq!(problem["type"], format!("urn:tenure:problem:{code}"));
            assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
            assert!(problem["instance"].as_str().is_some_and(|path| path.starts_with('/')));
        }
    }

    /// Everything that may tell two refusals apart, so all but the request id
    /// and the date. Headers in one order: each worker of the server has its own,
    /// whatever it answers.
    pub fn comparable(&self) -> Self {
        let mut answer = self.clone();
        answer.headers.retain(|(name, _)| name != "x-request-id" && name != "date");
        answer.headers.sort();
        answer
    }
}

/// One kept-alive connection, opened again where the server closed it.
pub struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    /// Sends and receives.
    ///
    /// # Panics
    /// If the server does not answer; see [`Client::try_send`].
    pub fn send(&mut self, request: &Request) -> Answer {
        self.try_send(request).expect("the server answers")
    }

    pub fn try_send(&mut self, request: &Request) -> std::io::Result<Answer> {
        self.exchange(&request.encode(), request.method == "HEAD")
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> std::io::Result<Answer> {
        self.exchange(bytes, false)
    }

    /// As [`Client::send`]; `None` where the connection was closed, or never made,
    /// without an answer.
    ///
    /// # Panics
    /// If an answer breaks off, or nothing happens for a minute.
    pub fn send_unless_closed(&mut self, request: &Request) -> Option<Answer> {
        match self.try_send(request) {
            Ok(answer) => Some(answer),
            Err(error) => {
                let closed = [UnexpectedEof, ConnectionReset, ConnectionRefused, BrokenPipe];
                assert!(closed.contains(&error.kind()), "{error}");
                None
            }
        }
    }

    /// The answer to a further request among the bytes sent before.
    ///
    /// # Panics
    /// If there is none.
    pub fn receive(&mut self) -> Answer {
        let connection = self.connection.as_mut().expect("the connection stays open");
        receive(connection, false).expect("the server answers")
    }

    fn exchange(&mut self, bytes: &[u8], head_only: bool) -> std::io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                BufReader::new(stream)
            }
        };
        // A server that refuses early stops reading; its answer is there still.
        let _ = connection.get_mut().write_all(bytes);
        // A connection that ends here ends between two answers; later, within one.
        if begins(&mut connection)? == Begun::Nothing {
            return Err(UnexpectedEof.into());
        }
        let answer = receive(&mut connection, head_only)
            .map_err(|error| std::io::Error::other(format!("the answer breaks off: {error}")))?;
        if answer.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

#[derive(PartialEq, Eq)]
enum Begun {
    Answer,
    Nothing,
}

/// Waits for an answer's first byte, or the connection's end.
fn begins(connection: &mut BufReader<TcpStream>) -> std::io::Result<Begun> {
    loop {
        match connection.fill_buf() {
            Ok([]) => return Ok(Begun::Nothing),
            Ok(_) => return Ok(Begun::Answer),
            // A signal to this process, such as the end of a child, is no end of
            // the connection.
            Err(error) if error.kind() == Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn receive(connection: &mut BufReader<TcpStream>, head_only: bool) -> std::io::Result<Answer> {
    let status_line = line(connection)?;
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("not HTTP: {status_line}")))?;
    let mut headers = Vec::new();
    loop {
        let header = line(connection)?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    if head_only || status == 204 || status == 304 {
        return Ok(answer);
    }
    if answer.header("transfer-encoding") == Some("chunked") {
        receive_chunks(connection, &mut answer.body)?;
    } else if let Some(length) = answer.header("content-length") {
        answer.body = vec![0; length.parse().expect("a length is a number")];
        connection.read_exact(&mut answer.body)?;
    } else {
        connection.read_to_end(&mut answer.body)?;
    }
    Ok(answer)
}

fn receive_chunks(
    connection: &mut BufReader<TcpStream>,
    body: &mut Vec<u8>,
) -> std::io::Result<()> {
    loop {
        let length = usize::from_str_radix(&line(connection)?, 16).expect("a chunk has a length");
        let mut chunk = vec![0; length];
        connection.read_exact(&mut chunk)?;
        body.extend(chunk);
        line(connection)?;
        if length == 0 {
            return Ok(());
        }
    }
}

fn line(connection: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 || !line.ends_with('\n') {
        return Err(UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
