//! Copies of the audit as messages of syslog: the entry, as it stands in a file of copies,
//! behind the header that the daemon expects.
//!
//! An entry is taken when the socket took it. What a daemon does with it, it does by itself.

use std::path::PathBuf;
use std::{fmt, io};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use super::datagram;
use crate::api::audit::CopiedEntry;
use crate::config::{AuditSyslog, SyslogFormat};
use crate::vault::CopyTaker;

/// "Informational": an entry is no alarm, whatever was done.
const SEVERITY: u8 = 6;
const HOST_MAX_BYTES: usize = 255;

pub(super) struct Syslog {
    socket: PathBuf,
    priority: u8,
    format: SyslogFormat,
    host: String,
}

impl Syslog {
    /// `None` where no socket is configured.
    pub(super) fn new(config: &AuditSyslog) -> Option<Self> {
        let AuditSyslog { socket, facility, format } = config;
        let socket = socket.clone()?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Some(Self {
            socket,
            priority: facility.code() * 8 + SEVERITY,
            format: *format,
            host: host_name(host),
        })
    }

    fn message(&self, copy: &CopiedEntry) -> io::Result<Vec<u8>> {
        let mut message = self.header(copy).into_bytes();
        serde_json::to_writer(&mut message, copy)?;
        Ok(message)
    }

    fn header(&self, copy: &CopiedEntry) -> String {
        let Self { priority, host, .. } = self;
        let (at, op) = (&copy.entry.entry.at, copy.entry.entry.op.word());
        let pid = std::process::id();
        match self.format {
            SyslogFormat::Local => format!("<{priority}>{}tenure[{pid}]: ", stamp(at)),
            SyslogFormat::Rfc5424 => format!("<{priority}>1 {at} {host} tenure {pid} {op} - "),
        }
    }
}

/// The time as syslog(3) writes it, `Jan  2 03:04:05 `, which has neither year nor zone. It is
/// UTC, as with musl's; glibc's has the zone of the machine. rsyslog and journald look past it
/// and tell when the message came, so that both are right whichever it is, and without it
/// some others find no message. What has no such time is sent without: a daemon has its own.
fn stamp(at: &str) -> String {
    let shape =
        format_description!("[month repr:short] [day padding:space] [hour]:[minute]:[second] ");
    let moment = OffsetDateTime::parse(at, &Rfc3339).ok();
    moment.and_then(|moment| moment.format(shape).ok()).unwrap_or_default()
}

/// What a header may hold, or that it is not known.
fn host_name(name: String) -> String {
    let fits = (1..=HOST_MAX_BYTES).contains(&name.len());
    if fits && name.bytes().all(|byte| byte.is_ascii_graphic()) { name } else { "-".to_owned() }
}

impl fmt::Display for Syslog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "syslog at {}", self.socket.display())
    }
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
    use crate::config::SyslogFacility;
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;

    fn syslog(socket: &Path, format: SyslogFormat) -> Syslog {
        let (socket, facility) = (Some(socket.to_owned()), SyslogFacility::AUTHPRIV);
        Syslog::new(&AuditSyslog { socket, facility, format }).unwrap()
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = vec![0; 65_536];
        let bytes = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..bytes].to_vec()).unwrap()
    }

    #[test]
    fn a_message_is_as_the_standard_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut syslog = syslog(&path, SyslogFormat::Rfc5424);
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

    /// What journald makes of what comes to /dev/log (syslog_skip_timestamp and
    /// syslog_parse_identifier in its source): program, process and text.
    fn as_journald_reads(message: &str) -> Option<(&str, &str, &str)> {
        let (_, behind) = message.strip_prefix('<')?.split_once('>')?;
        let shape = b"AAA 00 00:00:00 ";
        let (stamp, behind) = behind.split_at_checked(shape.len())?;
        let fits = |(is, wanted): (u8, &u8)| match wanted {
            b'A' => is.is_ascii_alphabetic(),
            b'0' => is.is_ascii_digit() || is == b' ',
            other => is == *other,
        };
        assert!(stamp.bytes().zip(shape).all(fits), "{message}");
        let (tag, text) = behind.split_once(' ')?;
        let (program, pid) = tag.strip_suffix("]:")?.split_once('[')?;
        Some((program, pid, text))
    }

    #[test]
    fn a_message_is_as_daemons_know_it_from_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let socket = UnixDatagram::bind(&path).unwrap();
        syslog(&path, SyslogFormat::Local).take(&[copy(7)]).unwrap();
        let (pid, message) = (std::process::id().to_string(), received(&socket));
        assert!(message.starts_with("<86>Jan  2 03:04:05 tenure["), "{message}");
        let json = serde_json::to_string(&copy(7)).unwrap();
        let read = as_journald_reads(&message);
        assert_eq!(read, Some(("tenure", pid.as_str(), json.as_str())));
    }

    #[test]
    fn a_time_without_a_calendar_is_left_to_the_daemon() {
        assert_eq!(stamp("2030-12-31T23:59:59.123456Z"), "Dec 31 23:59:59 ");
        assert_eq!(stamp("253402300800s since 1970"), "");
    }

    #[test]
    fn whoever_takes_them_may_be_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut syslog = syslog(&path, SyslogFormat::Local);
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
        let mut syslog = syslog(&path, SyslogFormat::Local);
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
