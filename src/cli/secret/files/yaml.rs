//! YAML mappings, of what all its versions and readers agree on. The only file that names
//! the parser.
//!
//! A plain scalar is text only where no version of YAML takes it for anything else: `no`,
//! `on`, `1e3`, `12:30` or a date must be quoted. Anchors, aliases, tags, merge keys and a
//! second document are refused, so nothing grows beyond the file.

use std::borrow::Cow;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use zeroize::Zeroizing;

use super::json::quote;
use super::tree::{MOST_DEEP, Member, Node};
use super::{Detail, Fault, Item};
use crate::domain::SecretValue;

pub(super) fn read(text: &str) -> Result<Node, Fault> {
    let mut reader = Reader { events: Parser::new_from_str(text) };
    reader.document()
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, usize), Fault> {
        match self.events.next_event() {
            Some(Ok((event, Span { start, .. }))) => Ok((event, start.line())),
            // The library's sentence may repeat what it met.
            Some(Err(error)) => Err(at_line(
                error.marker().line(),
                "it is not YAML; is a quote missing, or is it indented otherwise?",
            )),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    /// The one that there may be.
    fn document(&mut self) -> Result<Node, Fault> {
        let mut root = Node::Object(Vec::new());
        let mut documents = 0;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(root),
                (Event::DocumentStart(_), line) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(at_line(line, "a second document begins; one is read"));
                    }
                    root = match self.next()? {
                        // Comments alone.
                        (Event::Scalar(text, ScalarStyle::Plain, 0, None), _)
                            if text.is_empty() =>
                        {
                            root
                        }
                        (event, line) => self.node(event, line, 0)?,
                    };
                }
                _ => {}
            }
        }
    }

    fn node(&mut self, event: Event<'t>, line: usize, depth: usize) -> Result<Node, Fault> {
        match event {
            Event::Scalar(text, style, 0, None) => scalar(text, style, line),
            Event::MappingStart(0, None) if depth < MOST_DEEP => self.mapping(depth),
            Event::MappingStart(0, None) => self.rest_of_node().map(|()| Node::Other("an object")),
            Event::SequenceStart(0, None) => self.rest_of_node().map(|()| Node::Other("a list")),
            Event::Alias(_) => Err(at_line(line, "aliases (*) are not read; write the value out")),
            _ => Err(at_line(line, "anchors (&) and tags (!) are not read; quote what is text")),
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Node, Fault> {
        let mut members = Vec::new();
        loop {
            let (event, line) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Node::Object(members));
            }
            let name = match self.node(event, line, MOST_DEEP)? {
                Node::Text(name) => name,
                _ => return Err(at_line(line, "a name is text; quote it")),
            };
            let (event, at) = self.next()?;
            let node = self.node(event, at, depth + 1)?;
            members.push(Member { place: format!("line {line}"), name, node });
        }
    }

    /// Passes over what is in a list or an object that has begun.
    fn rest_of_node(&mut self) -> Result<(), Fault> {
        let mut open = 1_usize;
        while open > 0 {
            match self.next()?.0 {
                Event::MappingStart(..) | Event::SequenceStart(..) => open += 1,
                Event::MappingEnd | Event::SequenceEnd | Event::StreamEnd => open -= 1,
                _ => {}
            }
        }
        Ok(())
    }
}

fn at_line(line: usize, what: &str) -> Fault {
    Fault::at(format_args!("line {line}"), what)
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, line: usize) -> Result<Node, Fault> {
    let text = Zeroizing::new(text.into_owned());
    if style != ScalarStyle::Plain {
        return Ok(Node::Text(text));
    }
    match text.as_str() {
        "null" | "~" => Ok(Node::Null),
        "" => Err(at_line(line, "there is no value; write null, or \"\" for an empty one")),
        plain if is_text(plain) => Ok(Node::Text(text)),
        _ => Err(at_line(
            line,
            "readers of YAML may take this for a number, a date, true, false or null; quote it",
        )),
    }
}

/// To every version of YAML.
fn is_text(plain: &str) -> bool {
    const OTHERS: [&str; 15] = [
        "true", "false", "yes", "no", "on", "off", "y", "n", "null", "~", "nan", "inf", "<<", "=",
        "",
    ];
    let word = plain.trim_start_matches(['+', '-']).trim_start_matches('.');
    !OTHERS.iter().any(|other| other.eq_ignore_ascii_case(word))
        && !looks_like_a_number(word)
        && !looks_like_a_date(plain)
}

fn looks_like_a_number(unsigned: &str) -> bool {
    let digits = unsigned.replace(['_', ','], "");
    let radix = ["0x", "0o", "0b"].iter().find_map(|prefix| digits.strip_prefix(prefix));
    let of_radix = radix.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    // Of base 60, such as times of day.
    let mut parts = digits.split([':', '.']);
    let in_parts = parts.all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    of_radix || in_parts || digits.parse::<f64>().is_ok()
}

fn looks_like_a_date(plain: &str) -> bool {
    let begins = plain.bytes().zip("dddd-d".bytes()).filter(|(byte, kind)| match kind {
        b'd' => byte.is_ascii_digit(),
        literal => byte == literal,
    });
    begins.count() == 6
}

pub(super) fn write(items: &[Item], detail: Detail) -> Zeroizing<String> {
    if items.is_empty() {
        return Zeroizing::new("{}\n".to_owned());
    }
    let mut text = Zeroizing::new(String::new());
    for item in items {
        let name = item.name.as_str();
        match name.starts_with(|c: char| c.is_ascii_alphabetic()) && is_text(name) {
            true => text.push_str(name),
            false => quote(name, &mut text),
        }
        write_item(item, detail, &mut text);
    }
    text
}

fn write_item(Item { name: _, value, window }: &Item, detail: Detail, text: &mut String) {
    text.push_str(if detail == Detail::Values { ": " } else { ":\n  value: " });
    match value.as_ref().map(SecretValue::expose) {
        Some(value) => quote(value, text),
        None => text.push_str("null"),
    }
    text.push('\n');
    if detail == Detail::Values {
        return;
    }
    let ends = [("notBefore", window.not_before()), ("expiresOn", window.expires_on())];
    for (property, end) in ends {
        if let Some(end) = end {
            *text += &format!("  {property}: \"{end}\"\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Format, Item, read};
    use super::is_text;

    fn all(text: &str) -> Vec<Item> {
        read(text, Format::Yaml).unwrap_or_else(|fault| panic!("{text}: {fault}"))
    }

    #[test]
    fn strings_of_every_style_are_values() {
        let text = "# said\na: plain words\nb: 'it''s'\nc: \"\\u00e4\\n\"\nd: |\n  one\n  two\n\
                    e: >-\n  one\n  two\nf: null\ng: {value: x, ExpiresOn: \"2030-01-01T00:00:00Z\"}\n";
        let items = all(text);
        let values: Vec<_> =
            items.iter().map(|item| item.value.as_ref().map(|value| value.expose())).collect();
        let expected = ["plain words", "it's", "ä\n", "one\ntwo\n", "one two"].map(Some);
        assert_eq!(values[..5], expected);
        assert_eq!(values[5..], [None, Some("x")]);
        assert!(items[6].window.expires_on().is_some());
        assert_eq!(all("# nothing\n").len() + all("").len() + all("{}").len(), 0);
        assert_eq!(all("---\r\na: x\r\n...\r\n").len(), 1);
    }

    #[test]
    fn what_some_reader_takes_for_no_text_is_none() {
        for plain in [
            "no",
            "No",
            "on",
            "OFF",
            "y",
            "true",
            "null",
            "~",
            "NULL",
            "1",
            "-1",
            "+1",
            "1e3",
            "1_000",
            "1,000",
            "0x1f",
            "0o17",
            "0b1",
            "017",
            "1.5",
            ".5",
            "5.",
            "-.inf",
            ".NaN",
            "12:30",
            "12:30:45.5",
            "2030-01-01",
            "2030-1-1 12:00:00",
            "<<",
            "=",
            "1.2.3",
        ] {
            assert!(!is_text(plain), "{plain}");
        }
        for plain in
            ["none", "1password", "0xyz", "10.0.0.1/8", "a1", "no way", "2030-x", "-", "x:y"]
        {
            // A lone sign is a list in YAML, and never a plain scalar.
            assert!(is_text(plain) || plain == "-", "{plain}");
        }
    }

    #[test]
    fn what_readers_differ_on_is_refused_by_its_line_and_without_its_value() {
        for (text, word) in [
            ("a: x\nb: no\n", "line 2: readers of YAML"),
            ("a: 81972\n", "line 1: readers of YAML"),
            ("a:\n", "line 1: there is no value"),
            ("on: hunter2\n", "line 1: readers of YAML"),
            ("a: &x hunter2\nb: *x\n", "line 1: anchors"),
            ("a: !vault hunter2\n", "line 1: anchors (&) and tags"),
            ("a: !!str 81972\n", "line 1: anchors (&) and tags"),
            ("a: [hunter2]\n", "'a': it is a list"),
            ("a: {value: {x: {hunter2: x}}}\n", "'a'.value: it is an object"),
            ("? {hunter2: x}\n: x\n", "line 1: a name is text"),
            ("- hunter2\n", "one object"),
            ("hunter2\n", "one object"),
            ("a: x\n---\na: hunter2\n", "a second document"),
            ("a: 'hunter2\n", "it is not YAML"),
            ("a: x\na: hunter2\n", "'a' more than once"),
            ("a: x\nhunter2/: x\n", "line 2: the name"),
        ] {
            let fault = read(text, Format::Yaml).expect_err(text).to_string();
            assert!(fault.contains(word), "{text}: {fault}");
            assert!(!fault.contains("hunter2") && !fault.contains("81972"), "{fault}");
        }
    }

    #[test]
    fn what_would_grow_is_refused() {
        let mut bomb = "a: &a [x]\n".to_owned();
        for (before, name) in ('a'..='y').zip('b'..='z') {
            bomb += &format!("{name}: &{name} [*{before}, *{before}, *{before}]\n");
        }
        assert!(read(&bomb, Format::Yaml).is_err());
        let deep = format!("a: {}", "[".repeat(100_000));
        assert!(read(&deep, Format::Yaml).is_err());
        let deep = format!("a: {}x{}", "[".repeat(5_000), "]".repeat(5_000));
        assert!(read(&deep, Format::Yaml).is_err());
    }
}
