//! Copies of the audit as entries of the journal, in its native protocol: a field for each
//! member, so that `journalctl TENURE_TENANT=acme` finds them.
//!
//! An entry is taken when the socket took it. The journal may drop some by its own limits.

use std::io;
use std::path::PathBuf;

use super::datagram;
use crate::api::audit::{AuditEntry, CopiedEntry, NumberedEntry};
use crate::vault::CopyTaker;

const SOCKET: &str = "/run/systemd/journal/socket";

pub(super) struct Journal {
    socket: PathBuf,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self { socket: SOCKET.into() }
    }
}

impl CopyTaker for Journal {
    fn take(&mut self, entries: &[CopiedEntry]) -> io::Result<()> {
        let messages: io::Result<Vec<_>> = entries.iter().map(message).collect();
        datagram::send_all(&self.socket, messages?)
    }
}

fn message(copy: &CopiedEntry) -> io::Result<Vec<u8>> {
    let CopiedEntry { chain, chain_id, entry: NumberedEntry { number, entry } } = copy;
    let AuditEntry {
        at,
        op,
        tenant,
        name,
        result,
        by,
        credential,
        subject,
        issuer,
        from,
        request,
        detail,
    } = entry;
    let by = serde_json::to_value(by)?;
    let about = tenant.as_ref().or(chain.as_ref());
    let mut fields = Fields(Vec::with_capacity(1024));
    fields.say("MESSAGE", Some(&sentence(op.word(), name.as_deref(), about, result)));
    fields.say("PRIORITY", Some("6"));
    fields.say("SYSLOG_IDENTIFIER", Some("tenure"));
    fields.say("TENURE_CHAIN", chain.as_deref());
    fields.say("TENURE_CHAIN_ID", chain_id.as_deref());
    fields.say("TENURE_NUMBER", Some(&number.to_string()));
    fields.say("TENURE_AT", Some(at));
    fields.say("TENURE_OP", Some(op.word()));
    fields.say("TENURE_TENANT", about.map(String::as_str));
    fields.say("TENURE_NAME", name.as_deref());
    fields.say("TENURE_RESULT", Some(result));
    fields.say("TENURE_BY", by.as_str());
    fields.say("TENURE_CREDENTIAL", credential.as_deref());
    fields.say("TENURE_SUBJECT", subject.as_deref());
    fields.say("TENURE_ISSUER", issuer.as_deref());
    fields.say("TENURE_FROM", from.as_deref());
    fields.say("TENURE_REQUEST", request.as_deref());
    fields.say("TENURE_DETAIL", detail.as_deref());
    Ok(fields.0)
}

/// `audit: secret.write db-password of acme: ok`
fn sentence(op: &str, name: Option<&str>, about: Option<&String>, result: &str) -> String {
    let name = name.map(|name| format!(" {name}")).unwrap_or_default();
    let about = about.map(|tenant| format!(" of {tenant}")).unwrap_or_default();
    format!("audit: {op}{name}{about}: {result}")
}

struct Fields(Vec<u8>);

impl Fields {
    /// With its length in front, which every text may have, whatever it holds: no line of
    /// it can become a field.
    fn say(&mut self, name: &str, text: Option<&str>) {
        let Some(text) = text else { return };
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'\n');
        self.0.extend_from_slice(&(text.len() as u64).to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::copy;
    use super::*;
    use std::collections::BTreeMap;
    use std::os::unix::net::UnixDatagram;

    /// As the journal reads it.
    fn parse(mut bytes: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
            let name = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let (length, rest) = bytes[end + 1..].split_first_chunk::<8>().unwrap();
            let (text, rest) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
            fields.insert(name, String::from_utf8(text.to_vec()).unwrap());
            bytes = rest.strip_prefix(b"\n").unwrap();
        }
        fields
    }

    #[test]
    fn each_member_is_a_field() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut one = copy(7);
        one.entry.entry.detail = Some("two\nTENURE_BY=lines".to_owned());
        Journal { socket: path }.take(&[one]).unwrap();
        let mut buffer = vec![0; 65_536];
        let bytes = socket.recv(&mut buffer).unwrap();
        let fields = parse(&buffer[..bytes]);
        for (field, text) in [
            ("MESSAGE", "audit: secret.write db-password of acme: ok"),
            ("PRIORITY", "6"),
            ("SYSLOG_IDENTIFIER", "tenure"),
            ("TENURE_CHAIN", "acme"),
            ("TENURE_NUMBER", "7"),
            ("TENURE_AT", "2030-01-02T03:04:05Z"),
            ("TENURE_OP", "secret.write"),
            ("TENURE_TENANT", "acme"),
            ("TENURE_NAME", "db-password"),
            ("TENURE_RESULT", "ok"),
            ("TENURE_BY", "token"),
            ("TENURE_SUBJECT", "ci"),
            ("TENURE_DETAIL", "two\nTENURE_BY=lines"),
        ] {
            assert_eq!(fields.get(field).map(String::as_str), Some(text), "{field}");
        }
        assert!(!fields.contains_key("TENURE_ISSUER"), "what is not said is no field");
    }
}
