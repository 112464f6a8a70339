//! The log: to standard error, in the form that whoever reads it there wants.
//!
//! Guaranteed here: a message is one line where a line is what is read (JSON and the
//! journal), whatever it holds, and what follows a line break in text cannot be taken
//! for a message of its own.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use env_logger::fmt::Formatter;
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Record};
use serde_json::{Map, Value as Json};

use crate::config::{Log, LogFormat, LogLevel};

/// Of a command that somebody waits for: what went wrong, in text.
pub(super) fn of_a_command() {
    begin(LevelFilter::Warn, write_text);
}

/// Of a server, as it is configured.
pub(super) fn of_a_server(log: &Log) {
    let Log { level, format, requests: _ } = log;
    let write = match format {
        LogFormat::Auto if leads_to_the_journal() => write_for_the_journal,
        LogFormat::Auto | LogFormat::Text => write_text,
        LogFormat::Json => write_json,
        LogFormat::Journal => write_for_the_journal,
    };
    begin(filter(*level), write);
}

type WriteLine = fn(&mut Formatter, &Record<'_>) -> io::Result<()>;

/// `RUST_LOG` is heeded in place of `level`: it is what somebody says who looks for a
/// fault now.
fn begin(level: LevelFilter, write: WriteLine) {
    let mut builder = env_logger::Builder::new();
    if std::env::var_os("RUST_LOG").is_some() {
        builder.parse_default_env();
    } else {
        // Of libraries, only what went wrong.
        builder.filter_level(LevelFilter::Warn).filter_module("tenure", LevelFilter::Trace);
    }
    builder.format(write);
    // A second logger in one process is not worth stopping for.
    let _ = builder.try_init();
    limit(level);
}

/// Beside the logger's filter, so that it can be changed while a server runs.
pub(super) fn set_level(level: LogLevel) {
    limit(filter(level));
}

fn limit(level: LevelFilter) {
    if std::env::var_os("RUST_LOG").is_none() {
        log::set_max_level(level);
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::Off,
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}

/// systemd says which file it gave a service as standard error: device and inode. Where
/// it was redirected since, it is another one.
fn leads_to_the_journal() -> bool {
    let Some(said) = std::env::var_os("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|stat| said.as_bytes() == format!("{}:{}", stat.st_dev, stat.st_ino).as_bytes())
}

fn write_text(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let time = out.timestamp_millis();
    writeln!(out, "{time} {:5} {}", record.level(), indented(&message(record)))
}

/// The journal has the time.
fn write_for_the_journal(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    writeln!(out, "<{}>{}", priority(record.level()), on_one_line(&message(record)))
}

fn write_json(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let time = out.timestamp_millis().to_string();
    writeln!(out, "{}", object(record, time))
}

/// As syslog(3) counts them.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// The message, and its fields behind it.
fn message(record: &Record<'_>) -> String {
    let mut text = Text(record.args().to_string());
    // Only the visitor could fail, and this one does not.
    let _ = record.key_values().visit(&mut text);
    text.0
}

fn indented(message: &str) -> String {
    message.trim_end().replace('\n', "\n    ")
}

fn on_one_line(message: &str) -> String {
    message.trim_end().replace('\n', "; ")
}

struct Text(String);

impl<'kvs> VisitSource<'kvs> for Text {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.0 += &format!(" {key}={value}");
        Ok(())
    }
}

/// A field cannot take the place of one that every line has.
fn object(record: &Record<'_>, time: String) -> Json {
    let mut fields = Fields(Map::new());
    let _ = record.key_values().visit(&mut fields);
    let mut object = fields.0;
    let level = record.level().as_str().to_lowercase();
    object.insert("time".to_owned(), time.into());
    object.insert("level".to_owned(), level.into());
    object.insert("target".to_owned(), record.target().into());
    object.insert("message".to_owned(), record.args().to_string().into());
    Json::Object(object)
}

struct Fields(Map<String, Json>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let json = match (value.to_u64(), value.to_f64()) {
            (Some(whole), _) => Json::from(whole),
            (None, Some(number)) => Json::from(number),
            (None, None) => Json::from(value.to_string()),
        };
        self.0.insert(key.to_string(), json);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded<T>(
        message: &str,
        fields: &dyn kv::Source,
        look: impl FnOnce(&Record<'_>) -> T,
    ) -> T {
        let mut record = Record::builder();
        let record = record.level(Level::Warn).target("tenure::x").key_values(&fields);
        look(&record.args(format_args!("{message}")).build())
    }

    const HOSTILE: &str = "a \"b\"\n{\"level\":\"error\"}\r\u{1b}[2J\u{2028}\0\\";

    #[test]
    fn any_message_is_one_object_on_one_line() {
        let fields = [("id", Value::from(HOSTILE)), ("message", Value::from("other"))];
        let line =
            recorded(HOSTILE, &fields, |record| object(record, "now".to_owned()).to_string());
        assert_eq!(line.lines().count(), 1, "{line}");
        let read: Json = serde_json::from_str(&line).unwrap();
        assert_eq!(read["message"], HOSTILE, "a field took its place");
        assert_eq!((&read["id"], &read["level"]), (&HOSTILE.into(), &"warn".into()));
    }

    #[test]
    fn numbers_stay_numbers() {
        let fields = [("status", Value::from(204_u16)), ("seconds", Value::from(0.5))];
        let object = recorded("m", &fields, |record| object(record, String::new()));
        assert_eq!((&object["status"], &object["seconds"]), (&204.into(), &0.5.into()));
    }

    #[test]
    fn a_line_break_begins_no_message_of_its_own() {
        let fields: [(&str, Value<'_>); 1] = [("id", Value::from("7"))];
        let said = recorded("first\nsecond\n", &fields, message);
        assert_eq!(indented("first\nsecond\n"), "first\n    second");
        assert_eq!(on_one_line(&said).lines().count(), 1, "{said}");
        assert!(said.ends_with(" id=7"), "{said}");
    }
}
