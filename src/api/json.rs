//! A strict reader of one JSON object (RFC 8259) with plaintext in it.
//!
//! It exists because serde_json unescapes strings into a buffer of its own, which
//! nobody wipes: a value with one `\n` in it would stay behind in freed memory.
//! Here every decoded string goes straight into memory that is wiped, allocated
//! once at a size that it cannot outgrow.
//!
//! Refused: anything after the object, invalid UTF-8, a byte order mark, lone
//! surrogates, control characters in strings, nesting beyond [`MAX_DEPTH`]. An
//! error never quotes the input. A test holds it against serde_json.

use zeroize::Zeroizing;

/// Arrays and objects within one another; nothing this API takes has two.
pub const MAX_DEPTH: usize = 32;

/// In an array that is read: more is none of what this API takes, and would let a
/// body take many times its size in memory.
pub const MAX_STRINGS: usize = 16;

/// In an array of objects, for the same reason.
pub const MAX_OBJECTS: usize = 100;

/// Of an object in an array; none that this API takes has so many.
pub const MAX_MEMBERS: usize = 16;

/// The members of an object, in their order.
pub type Members = Vec<(Zeroizing<String>, Value)>;

/// A value, as far as it matters here.
pub enum Value {
    Null,
    String(Zeroizing<String>),
    /// An array of strings and nothing else, [`MAX_STRINGS`] at most.
    Strings(Vec<Zeroizing<String>>),
    /// An array of objects and nothing else, [`MAX_OBJECTS`] at most, in the object at
    /// the top; `None` is one of more than [`MAX_MEMBERS`].
    Objects(Vec<Option<Members>>),
    /// A number, boolean, object or another array: well-formed, and passed over.
    Other,
}

/// What stands at the top of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Top {
    Object,
    Other,
}

/// The text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at line {line}, column {column}")]
pub struct Malformed {
    pub reason: &'static str,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

/// Reads all of `text`; each member of the object at its top goes to `member`.
pub fn read(text: &[u8], member: impl FnMut(Zeroizing<String>, Value)) -> Result<Top, Malformed> {
    let (valid, utf8) = match std::str::from_utf8(text) {
        Ok(all) => (all, true),
        Err(error) => {
            let valid = text.split_at_checked(error.valid_up_to()).map_or(&[][..], |(v, _)| v);
            (std::str::from_utf8(valid).unwrap_or_default(), false)
        }
    };
    if !utf8 {
        return Err(place(valid, valid.len(), "the body is not UTF-8"));
    }
    let mut reader = Reader { text: valid, at: 0 };
    reader.document(member).map_err(|reason| place(valid, reader.at, reason))
}

fn place(text: &str, at: usize, reason: &'static str) -> Malformed {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Malformed {
        reason,
        line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
        column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
    }
}

/// How deep an array stands that is a member of the object at the top.
const IN_TOP: usize = 2;

/// An array with one more element. It is told apart only while all are of one kind.
fn lengthened(array: Option<Value>, element: Value) -> Value {
    match (array, element) {
        (None, Value::String(text)) => Value::Strings(vec![text]),
        (None, Value::Objects(object)) => Value::Objects(object),
        (Some(Value::Strings(mut all)), Value::String(text)) if all.len() < MAX_STRINGS => {
            all.push(text);
            Value::Strings(all)
        }
        (Some(Value::Objects(mut all)), Value::Objects(object)) if all.len() < MAX_OBJECTS => {
            all.extend(object);
            Value::Objects(all)
        }
        _ => Value::Other,
    }
}

type Reason = &'static str;

struct Reader<'a> {
    text: &'a str,
    /// Always at a character's boundary.
    at: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self, member: impl FnMut(Zeroizing<String>, Value)) -> Result<Top, Reason> {
        if self.text.starts_with('\u{feff}') {
            return Err("the body begins with a byte order mark");
        }
        self.white_space();
        let top = match self.peek() {
            None => return Err("the body is empty"),
            Some(b'{') => {
                self.object(1, member)?;
                Top::Object
            }
            Some(_) => {
                self.value(0)?;
                Top::Other
            }
        };
        self.white_space();
        match self.peek() {
            None => Ok(top),
            Some(_) => Err("there is more after the end of the JSON value"),
        }
    }

    /// `depth`: how many arrays and objects this value stands in.
    fn value(&mut self, depth: usize) -> Result<Value, Reason> {
        if depth > MAX_DEPTH {
            return Err("the JSON value is nested too deeply");
        }
        match self.peek() {
            Some(b'"') => self.string().map(Value::String),
            Some(b'{') => self.object(depth + 1, |_, _| ()).map(|()| Value::Other),
            Some(b'[') => self.array(depth + 1),
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| Value::Other),
            _ if self.eat_word("null") => Ok(Value::Null),
            _ if self.eat_word("true") || self.eat_word("false") => Ok(Value::Other),
            _ => Err("a JSON value is missing"),
        }
    }

    fn object(
        &mut self,
        depth: usize,
        mut member: impl FnMut(Zeroizing<String>, Value),
    ) -> Result<(), Reason> {
        self.expect(b'{', "an object is missing")?;
        self.white_space();
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            self.white_space();
            let name = self.string()?;
            self.white_space();
            self.expect(b':', "a colon is missing")?;
            self.white_space();
            member(name, self.value(depth)?);
            self.white_space();
            if self.eat(b'}') {
                return Ok(());
            }
            self.expect(b',', "a comma or the end of the object is missing")?;
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, Reason> {
        self.expect(b'[', "an array is missing")?;
        self.white_space();
        if self.eat(b']') {
            return Ok(Value::Strings(Vec::new()));
        }
        let mut array = None;
        loop {
            self.white_space();
            let element = match self.peek() {
                Some(b'{') if depth == IN_TOP => Value::Objects(vec![self.members(depth + 1)?]),
                _ => self.value(depth)?,
            };
            array = Some(lengthened(array, element));
            self.white_space();
            if self.eat(b']') {
                return Ok(array.unwrap_or(Value::Other));
            }
            self.expect(b',', "a comma or the end of the array is missing")?;
        }
    }

    /// All of an object, unless it has too many members.
    fn members(&mut self, depth: usize) -> Result<Option<Members>, Reason> {
        let mut members = Some(Vec::new());
        self.object(depth, |name, value| match &mut members {
            Some(all) if all.len() < MAX_MEMBERS => all.push((name, value)),
            _ => members = None,
        })?;
        Ok(members)
    }

    fn string(&mut self) -> Result<Zeroizing<String>, Reason> {
        self.expect(b'"', "a string is missing")?;
        // No escape is shorter than what it stands for: this never grows.
        let mut plain = Zeroizing::new(String::with_capacity(self.length_of_string()?));
        loop {
            let run = self.length_of_run();
            plain.push_str(self.rest().get(..run).unwrap_or_default());
            self.at += run;
            match self.peek() {
                None => return Err("a string does not end"),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(plain);
                }
                Some(b'\\') => plain.push(self.escape()?),
                Some(_) => return Err("a control character in a string is not escaped"),
            }
        }
    }

    /// How many bytes stand for themselves before a quote, an escape or a control
    /// character. Most of a body is such bytes, so they are looked at in pieces
    /// that a processor compares at once.
    fn length_of_run(&self) -> usize {
        const PIECE: usize = 32;
        let special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
        let (pieces, _) = self.rest().as_bytes().as_chunks::<PIECE>();
        let plain = |piece: &&[u8; PIECE]| !piece.iter().fold(false, |s, b| s | special(*b));
        let start = pieces.iter().take_while(plain).count() * PIECE;
        let rest = self.rest().as_bytes().get(start..).unwrap_or_default();
        start + rest.iter().position(|byte| special(*byte)).unwrap_or(rest.len())
    }

    /// How many bytes lie before the quote that ends the string.
    fn length_of_string(&self) -> Result<usize, Reason> {
        let start = self.length_of_run();
        let mut escaped = false;
        for (length, byte) in self.rest().bytes().enumerate().skip(start) {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => return Ok(length),
                _ => {}
            }
        }
        Err("a string does not end")
    }

    fn escape(&mut self) -> Result<char, Reason> {
        self.expect(b'\\', "an escape is missing")?;
        let letter = self.peek().ok_or("a string does not end")?;
        let plain = match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err("an unknown escape in a string"),
        };
        self.at += 1;
        Ok(plain)
    }

    /// `uXXXX`, or two of them that form a surrogate pair.
    fn unicode(&mut self) -> Result<char, Reason> {
        const LONE: Reason = "a surrogate in a string stands alone";
        let first = self.code_unit()?;
        let code_point = match first {
            0xD800..=0xDBFF => {
                if !self.rest().starts_with("\\u") {
                    return Err(LONE);
                }
                self.at += 1;
                let second = self.code_unit()?;
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return Err(LONE);
                }
                0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            other => other,
        };
        char::from_u32(code_point).ok_or(LONE)
    }

    fn code_unit(&mut self) -> Result<u32, Reason> {
        const HEX: Reason = "an escape in a string needs four hexadecimal digits";
        self.expect(b'u', HEX)?;
        let digits = self.rest().get(..4).ok_or(HEX)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(HEX);
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| HEX)
    }

    fn number(&mut self) -> Result<(), Reason> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _sign = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Reason> {
        let count = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.at += count;
        if count == 0 { Err("a number lacks a digit") } else { Ok(()) }
    }

    fn white_space(&mut self) {
        let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += self.rest().bytes().take_while(space).count();
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let there = self.rest().starts_with(word);
        self.at += if there { word.len() } else { 0 };
        there
    }

    fn expect(&mut self, byte: u8, reason: Reason) -> Result<(), Reason> {
        if self.eat(byte) { Ok(()) } else { Err(reason) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(text: &str) -> Result<Option<String>, Malformed> {
        let mut found = None;
        read(text.as_bytes(), |_, value| {
            if let Value::String(text) = value {
                found = Some(text.to_string());
            }
        })?;
        Ok(found)
    }

    fn reason(text: impl AsRef<[u8]>) -> &'static str {
        read(text.as_ref(), |_, _| ()).unwrap_err().reason
    }

    #[test]
    fn every_escape_is_understood() {
        let text = r#"{"v":"\"\\\/\b\f\n\r\t\u0041\u00e4\ud83d\ude00"}"#;
        assert_eq!(value_of(text).unwrap().unwrap(), "\"\\/\u{8}\u{c}\n\r\tAä😀");
    }

    #[test]
    fn whatever_ends_a_run_is_found_at_every_place_of_it() {
        for place in 0..100 {
            let (before, after) = ("ä".repeat(place / 2) + &"x".repeat(place % 2), "y".repeat(70));
            let around = |piece: &str| format!("{{\"v\":\"{before}{piece}{after}\"}}");
            let plain = value_of(&around(r"\n\\")).unwrap().unwrap();
            assert_eq!(plain, format!("{before}\n\\{after}"), "at {place}");
            for control in ["\0", "\n", "\u{1f}"] {
                assert_eq!(
                    reason(around(control)),
                    "a control character in a string is not escaped",
                    "at {place}"
                );
            }
            let open = format!("{{\"v\":\"{before}");
            assert_eq!(reason(open), "a string does not end", "at {place}");
        }
    }

    #[test]
    fn an_array_of_a_few_strings_is_read() {
        let strings = |text: &str| {
            let mut found = None;
            read(format!("{{\"v\":{text}}}").as_bytes(), |_, value| {
                if let Value::Strings(all) = value {
                    found = Some(all.iter().map(|text| text.to_string()).collect::<Vec<_>>());
                }
            })
            .unwrap();
            found
        };
        assert_eq!(strings("[]"), Some(vec![]));
        assert_eq!(strings(r#"[ "a" , "\u0062" ]"#), Some(vec!["a".into(), "b".into()]));
        for other in [r#"["a",1]"#, r#"[1,"a"]"#, r#"[["a"]]"#, r#"["a",null]"#, "{}"] {
            assert_eq!(strings(other), None, "{other}");
        }
        let many = |count: usize| format!("[{}]", vec![r#""a""#; count].join(","));
        assert_eq!(strings(&many(MAX_STRINGS)).unwrap().len(), MAX_STRINGS);
        assert_eq!(strings(&many(MAX_STRINGS + 1)), None);
    }

    #[test]
    fn a_decoded_string_never_moves() {
        for text in [r#"{"v":"plain"}"#, r#"{"v":"\u0041\n\ud83d\ude00ä"}"#, r#"{"v":""}"#] {
            read(text.as_bytes(), |_, value| {
                let Value::String(value) = value else { panic!("a string") };
                // Grown strings double; this one has what it was given.
                assert!(value.capacity() <= text.len() && value.len() <= value.capacity());
            })
            .unwrap();
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        assert_eq!(reason(""), "the body is empty");
        assert_eq!(reason(" \n"), "the body is empty");
        assert_eq!(reason("\u{feff}{}"), "the body begins with a byte order mark");
        assert_eq!(reason(b"{\"v\":\"\xff\"}"), "the body is not UTF-8");
        assert_eq!(reason("{} {}"), "there is more after the end of the JSON value");
        assert_eq!(reason(r#"{"v":"\ud800"}"#), "a surrogate in a string stands alone");
        assert_eq!(reason(r#"{"v":"\ud800\u0041"}"#), "a surrogate in a string stands alone");
        assert_eq!(reason(r#"{"v":"\udc00"}"#), "a surrogate in a string stands alone");
        assert_eq!(reason(r#"{"v":"\x"}"#), "an unknown escape in a string");
        assert_eq!(reason("{\"v\":\"a\nb\"}"), "a control character in a string is not escaped");
        assert_eq!(reason(r#"{"v":"a"#), "a string does not end");
        assert_eq!(reason(r#"{"v":"a\"#), "a string does not end");
        assert_eq!(reason(r#"{"v":"\u00"#), "a string does not end");
        assert_eq!(reason(r#"{"v":01}"#), "a comma or the end of the object is missing");
        assert_eq!(reason(r#"{"v":}"#), "a JSON value is missing");
        assert_eq!(reason(r#"{"v":1,}"#), "a string is missing");
        assert_eq!(reason("{'v':1}"), "a string is missing");
    }

    #[test]
    fn a_bomb_of_brackets_is_refused_at_its_depth() {
        let bomb = format!("{{\"value\":{}", "[".repeat(100_000));
        assert_eq!(reason(&bomb), "the JSON value is nested too deeply");
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(read(deep(MAX_DEPTH).as_bytes(), |_, _| ()), Ok(Top::Other));
        assert_eq!(reason(deep(MAX_DEPTH + 2)), "the JSON value is nested too deeply");
    }

    #[test]
    fn an_error_says_where() {
        let error = read("{\n  \"ä\" 1}".as_bytes(), |_, _| ()).unwrap_err();
        assert_eq!((error.line, error.column), (2, 7));
        let error = read(b"{\"v\":\"a\xffb\"}", |_, _| ()).unwrap_err();
        assert_eq!((error.line, error.column), (1, 8));
    }
}
