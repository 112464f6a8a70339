//! Lines of `NAME=value`, as Node's dotenv reads them, but for what other readers (shells,
//! Docker Compose, Ruby, Python) would take for something else: that is refused.
//!
//! - `NAME=value`, `export NAME=value`, blanks around `=`; empty lines and lines that begin
//!   with `#` are passed over.
//! - Unquoted: to the end of the line, without blanks around it and without a comment, which
//!   begins with a blank and `#`.
//! - `'single'`: literal, over several lines too.
//! - `"double"`: over several lines too, with `\n \r \t \" \\ \$` and `` \` ``.
//! - `${X}`, `$X`, `$(x)` and `` ` `` outside of single quotes are refused.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::super::run::Variable;
use super::{Fault, Item};
use crate::domain::{SecretName, SecretValue, ValidityWindow};

pub(super) fn read(text: &str) -> Result<Vec<Item>, Fault> {
    let mut reader = Reader { rest: text, line: 1 };
    let mut items = Vec::new();
    while reader.pass_over_to_a_name() {
        items.push(reader.item()?);
    }
    Ok(items)
}

struct Reader<'t> {
    rest: &'t str,
    /// Of what comes next, from 1.
    line: usize,
}

impl<'t> Reader<'t> {
    /// Whether there is one.
    fn pass_over_to_a_name(&mut self) -> bool {
        loop {
            self.pass_over(|c| c.is_ascii_whitespace());
            if !self.rest.starts_with('#') {
                return !self.rest.is_empty();
            }
            self.rest_of_line();
        }
    }

    fn item(&mut self) -> Result<Item, Fault> {
        let line = self.line;
        let fault = |what: &str| Fault::at(format_args!("line {line}"), what);
        let before = self.rest;
        let (name, after) = before
            .split_once('=')
            .filter(|(name, _)| !name.contains('\n'))
            .ok_or_else(|| fault("a line is NAME=value, or begins with #"))?;
        self.rest = after;
        let name = name.trim_end();
        let exported = name.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
        let name = SecretName::parse(exported.unwrap_or(name).trim_start())
            .map_err(|error| fault(&format!("the name of a secret {error}")))?;
        self.pass_over(is_blank);
        let value = self.value().map_err(fault)?;
        Ok(Item { name, value: Some(SecretValue::new(value)), window: ValidityWindow::default() })
    }

    fn value(&mut self) -> Result<Zeroizing<String>, &'static str> {
        let value = match self.rest.chars().next() {
            Some('\'') => self.single_quoted()?,
            Some('"') => self.double_quoted()?,
            _ => return self.unquoted(),
        };
        let rest = self.rest_of_line();
        match rest.trim_start_matches(is_blank) {
            "" => Ok(value),
            comment if comment.starts_with('#') => Ok(value),
            _ => Err("there is more after the closing quote; a quote within a value is \\\" \
                      between double quotes"),
        }
    }

    fn single_quoted(&mut self) -> Result<Zeroizing<String>, &'static str> {
        let inner = self.rest.get(1..).unwrap_or_default();
        let (value, _) = inner.split_once('\'').ok_or("the single quote is not closed")?;
        self.take(value.len() + 2);
        Ok(Zeroizing::new(value.replace("\r\n", "\n")))
    }

    fn double_quoted(&mut self) -> Result<Zeroizing<String>, &'static str> {
        let mut value = Zeroizing::new(String::new());
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            let after = self.rest.get(at + c.len_utf8()..).unwrap_or_default();
            match c {
                '"' => {
                    self.take(at + 1);
                    return Ok(value);
                }
                '\\' => value.push(match chars.next().map(|(_, escaped)| escaped) {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some(literal @ ('"' | '\\' | '$' | '`')) => literal,
                    _ => return Err(ESCAPE),
                }),
                '\r' if after.starts_with('\n') => {}
                _ if expands(c, after) => return Err(EXPANSION),
                _ => value.push(c),
            }
        }
        Err("the double quote is not closed")
    }

    fn unquoted(&mut self) -> Result<Zeroizing<String>, &'static str> {
        let line = self.rest_of_line();
        let comment = line.char_indices().find(|(at, c)| {
            *c == '#'
                && line
                    .get(..*at)
                    .is_none_or(|before| before.is_empty() || before.ends_with(is_blank))
        });
        let value = comment.map_or(line, |(at, _)| line.get(..at).unwrap_or_default());
        let value = value.trim_end_matches(is_blank);
        for (at, c) in value.char_indices() {
            if expands(c, value.get(at + c.len_utf8()..).unwrap_or_default()) {
                return Err(EXPANSION);
            }
        }
        Ok(Zeroizing::new(value.to_owned()))
    }

    fn pass_over(&mut self, what: impl Fn(char) -> bool) {
        let kept = self.rest.trim_start_matches(what).len();
        self.take(self.rest.len() - kept);
    }

    /// What was left of it, without its line break.
    fn rest_of_line(&mut self) -> &'t str {
        let line = self.rest.split('\n').next().unwrap_or_default();
        self.take(line.len());
        line.strip_suffix('\r').unwrap_or(line)
    }

    fn take(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += taken.matches('\n').count();
        self.rest = rest;
    }
}

const EXPANSION: &str = "a $ before a name, { or (, and a `, mean different things to different \
                         readers; put the value in single quotes";
const ESCAPE: &str = "between double quotes a \\ stands before one of n r t \" \\ $ `; put the \
                      value in single quotes where it is meant as it is";

/// Whether some reader would put something else in its place.
fn expands(c: char, after: &str) -> bool {
    let next = after.chars().next();
    let named = next.is_some_and(|next| next.is_ascii_alphabetic() || "_{(".contains(next));
    c == '`' || (c == '$' && named)
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// In names and quotes that a shell reads as well, but for carriage returns: each under the
/// variable that `tenure run` makes of its name.
pub(super) fn write(items: &[Item]) -> Result<Zeroizing<String>, Fault> {
    let mut text = Zeroizing::new(String::new());
    let mut written = BTreeMap::new();
    for Item { name, value, .. } in items {
        let name = name.as_str();
        let unsaid = |why: String| Fault::of_all(format!("{why}; say --format json or yaml"));
        let value = value
            .as_ref()
            .ok_or_else(|| unsaid(format!("'{name}' is null, which dotenv cannot say")))?;
        let variable = variable(name).map_err(unsaid)?;
        text.push_str(variable.as_str());
        text.push('=');
        quote(value.expose(), &mut text);
        text.push('\n');
        if let Some(other) = written.insert(variable, name) {
            return Err(unsaid(format!("'{other}' and '{name}' are one variable in dotenv")));
        }
    }
    Ok(text)
}

fn variable(name: &str) -> Result<Variable, String> {
    let variable = Variable::of_secret(name)
        .ok_or_else(|| format!("'{name}' makes no variable, and dotenv has no other names"))?;
    if variable.steers_programs() {
        return Err(format!(
            "'{name}' would be {variable} in dotenv, which decides what programs do"
        ));
    }
    Ok(variable)
}

fn quote(value: &str, text: &mut String) {
    if !value.contains(['\'', '\r']) {
        text.push('\'');
        text.push_str(value);
        text.push('\'');
        return;
    }
    text.push('"');
    for c in value.chars() {
        match c {
            '\r' => text.push_str("\\r"),
            '"' | '\\' | '$' | '`' => text.extend(['\\', c]),
            _ => text.push(c),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        let items = read(text).unwrap_or_else(|fault| panic!("{text:?}: {fault}"));
        let pair = |item: &Item| {
            (item.name.as_str().to_owned(), item.value.as_ref().unwrap().expose().to_owned())
        };
        items.iter().map(pair).collect()
    }

    fn value(text: &str) -> String {
        let [(name, value)] = values(text).try_into().expect("one");
        assert_eq!(name, "A");
        value
    }

    #[test]
    fn lines_are_names_and_values_and_the_rest_is_passed_over() {
        let text = "# first\n\nA=1\r\n  export B = two words  # said\n\texport\tC=\nD='#'\n#end";
        let expected = [("A", "1"), ("B", "two words"), ("C", ""), ("D", "#")];
        assert_eq!(values(text), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        assert!(values("").is_empty());
        assert_eq!(values("exported=1")[0].0, "exported");
    }

    #[test]
    fn each_way_to_write_a_value_has_one_meaning() {
        for (text, expected) in [
            ("A=a#b", "a#b"),
            ("A=a #b", "a"),
            ("A= # nothing", ""),
            ("A=#", ""),
            ("A=it's \"so\"", "it's \"so\""),
            (r"A=C:\new", r"C:\new"),
            ("A=5$ $1 $", "5$ $1 $"),
            (r"A='$X ${X} `x` \n' # said", r"$X ${X} `x` \n"),
            ("A='one\ntwo'", "one\ntwo"),
            ("A='one\r\ntwo'\r\n", "one\ntwo"),
            ("A=\"one\r\ntwo\"\r\n", "one\ntwo"),
            (r#"A="\n\r\t\"\\\$X\`" "#, "\n\r\t\"\\$X`"),
            ("A=\"it's # one $\"", "it's # one $"),
            ("A=''", ""),
            ("A==", "="),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_readers_differ_on_is_refused_by_its_line_and_without_its_value() {
        for (text, line, word) in [
            ("A=hunter2$X", 1, "single quotes"),
            ("\nA=hunter2${X}", 2, "single quotes"),
            ("A=\"hunter2$(x)\"", 1, "single quotes"),
            ("A=`hunter2`", 1, "single quotes"),
            ("A='x\ny'\nB=\"hunter2\\d\"", 3, "one of n r t"),
            ("A='hunter2", 1, "not closed"),
            ("A=\"hunter2\\\"", 1, "not closed"),
            ("A=\"hunter2\\", 1, "one of n r t"),
            ("A='hunter2'x", 1, "after the closing quote"),
            ("A=1\nhunter2", 2, "NAME=value"),
            ("hunter2\nA=1", 1, "NAME=value"),
            ("hunter2/=1", 1, "A-Z a-z 0-9 - _"),
            ("=hunter2", 1, "must not be empty"),
        ] {
            let fault = read(text).expect_err(text).to_string();
            assert!(fault.starts_with(&format!("line {line}: ")), "{text:?}: {fault}");
            assert!(fault.contains(word) && !fault.contains("hunter2"), "{text:?}: {fault}");
        }
    }

    #[test]
    fn what_is_written_is_in_single_quotes_where_it_can_be() {
        let item = |value: &str| Item {
            name: SecretName::parse("A").unwrap(),
            value: Some(SecretValue::new(Zeroizing::new(value.to_owned()))),
            window: ValidityWindow::default(),
        };
        for (value, line) in [
            ("$X \"#\n", "A='$X \"#\n'\n"),
            ("it's $X", "A=\"it's \\$X\"\n"),
            ("\r\n", "A=\"\\r\n\"\n"),
        ] {
            assert_eq!(write(&[item(value)]).unwrap().as_str(), line);
        }
    }

    #[test]
    fn null_is_refused_by_name() {
        let null = Item {
            name: SecretName::parse("none").unwrap(),
            value: None,
            window: ValidityWindow::default(),
        };
        assert!(write(&[null]).unwrap_err().to_string().contains("'none' is null"));
    }

    #[test]
    fn names_are_those_of_variables_or_are_refused() {
        let written = |names: &[&str]| {
            let item = |name: &&str| Item {
                name: SecretName::parse(name).unwrap(),
                value: Some(SecretValue::new(Zeroizing::new("hunter2".to_owned()))),
                window: ValidityWindow::default(),
            };
            let items: Vec<_> = names.iter().map(item).collect();
            write(&items).map(|text| text.to_string()).map_err(|fault| fault.to_string())
        };
        let text = "DB_PASSWORD='hunter2'\nX='hunter2'\n_1='hunter2'\n";
        assert_eq!(written(&["db-password", "x", "_1"]).as_deref(), Ok(text));
        for (names, word) in [
            (&["a-b", "c", "A_B"][..], "'a-b' and 'A_B' are one variable"),
            (&["1st"], "'1st' makes no variable"),
            (&["ld-preload"], "LD_PRELOAD"),
        ] {
            let fault = written(names).unwrap_err();
            assert!(fault.contains(word) && fault.ends_with("--format json or yaml"), "{fault}");
            assert!(!fault.contains("hunter2"), "{fault}");
        }
    }
}
