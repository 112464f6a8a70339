//! Copies of the audit as messages of syslog, as RFC 5424 has them: the entry, as it stands
//! in a file of copies, behind a header that says when and of which operation it is.
//!
//! An entry is taken when the socket took it. What a daemon does with it, it does by itself.

use std::io;
use std::path::PathBuf;

use super::datagram;
use crate::api::audit::CopiedEntry;
use crate::config::SyslogFacility;
use crate::vault::CopyTaker;

/// "Informational": an entry is no alarm, whatever was done.
const SEVERITY: u8 = 6;
const HOST_MAX_BYTES: usize = 255;

pub(super) struct Syslog {
    socket: PathBuf,
    priority: u8,
    host: String,
}

impl Syslog {
    pub(super) fn new(socket: PathBuf, facility: SyslogFacility) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { socket, priority: facility.code() * 8 + SEVERITY, host: host_name(host) }
    }

    fn message(&self, copy: &CopiedEntry) -> io::Result<Vec<u8>> {
        let Self { priority, host, .. } = self;
        let (at, op) = (&copy.entry.entry.at, copy.entry.entry.op.word());
        let pid = std::process::id();
        let mut message = format!("<{priority}>1 {at} {host} tenure {pid} {op} - ").into_bytes();
        serde_json::to_writer(&mut message, copy)?;
        Ok(message)
    }
}

/// What a header may hold, or that it is not known.
fn host_name(name: String) -> String {
    let fits = (1..=HOST_MAX_BYTES).contains(&name.len());
    if fits && name.bytes().all(|byte| byte.is_ascii_graphic()) { name } else { "-".to_owned() }
}

impl CopyTaker for Syslog {
    fn take(&mut self, entries: &[CopiedEntry]) -> io::Result<()> {
        let messages: io::Result<Vec<_>> = entries.iter().map(|copy| self.message(copy)).collect();
        datagram::send_all(&self.socket, messages?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::copy;
    use super::*;
    use std::os::unix::net::UnixDatagram;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = vec![0; 65_536];
        let bytes = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..bytes].to_vec()).unwrap()
    }

    #[test]
    fn a_message_is_as_the_standard_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut syslog = Syslog::new(path.clone(), SyslogFacility::AUTHPRIV);
        syslog.host = "host.example.org".to_owned();
        let absent = syslog.take(&[copy(7)]).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
        let socket = UnixDatagram::bind(&path).unwrap();
        syslog.take(&[copy(7), copy(8)]).unwrap();
        let (first, second) = (received(&socket), received(&socket));
        let pid = std::process::id();
        let header =
            format!("<86>1 2030-01-02T03:04:05Z host.example.org tenure {pid} secret.write - ");
        let text = first.strip_prefix(&header).unwrap_or_else(|| panic!("{first}"));
        assert_eq!(text, serde_json::to_string(&copy(7)).unwrap());
        assert!(second.contains("\"number\":8"), "{second}");
    }

    #[test]
    fn whoever_takes_them_may_be_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut syslog = Syslog::new(path.clone(), SyslogFacility::AUTHPRIV);
        let first = UnixDatagram::bind(&path).unwrap();
        syslog.take(&[copy(1)]).unwrap();
        drop(first);
        let refused = syslog.take(&[copy(2)]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        std::fs::remove_file(&path).unwrap();
        let second = UnixDatagram::bind(&path).unwrap();
        syslog.take(&[copy(2)]).unwrap();
        assert!(received(&second).contains("\"number\":2"));
    }

    #[test]
    fn who_reads_nothing_is_not_waited_for_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let _socket = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::new(path, SyslogFacility::AUTHPRIV);
        let full = (0..100_000).find_map(|number| syslog.take(&[copy(number)]).err()).unwrap();
        assert_eq!(full.to_string(), "it is full");
    }

    #[test]
    fn a_host_name_that_is_none_is_not_told() {
        for (name, told) in [("db-1.example.org", "db-1.example.org"), ("", "-"), ("a b", "-")] {
            assert_eq!(host_name(name.to_owned()), told);
        }
        assert_eq!(host_name("x".repeat(256)), "-");
    }
}
