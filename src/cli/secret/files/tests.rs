use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::domain::Timestamp;

fn item(name: &str, value: Option<&str>, window: ValidityWindow) -> Item {
    let value = value.map(|value| SecretValue::new(Zeroizing::new(value.to_owned())));
    Item { name: SecretName::parse(name).unwrap(), value, window }
}

type Plain = (String, Option<String>, ValidityWindow);

fn plain(items: &[Item]) -> Vec<Plain> {
    let plain = |Item { name, value, window }: &Item| {
        let value = value.as_ref().map(|value| value.expose().to_owned());
        (name.as_str().to_owned(), value, *window)
    };
    items.iter().map(plain).collect()
}

/// Values of what quoting goes wrong with.
fn values() -> impl Strategy<Value = String> {
    let tricky = prop::sample::select(vec![
        "'", "\"", "\\", "$", "${X}", "$X", "`", "#", " #", "\n", "\r", "\r\n", "\t", "\0",
        "\u{1b}", "\u{7f}", "\u{85}", "\u{2028}", "\u{feff}", "\u{ffff}", "ä", "😀", " ", "=", ":",
        "- ", "null", "~", "no", "1e3", "a", "{", "}", "[", "&x", "*x", "!x", "|", ">", "%", "@",
    ]);
    let mixed = prop::collection::vec(tricky, 0..12).prop_map(|parts| parts.concat());
    prop_oneof![mixed, any::<String>()]
}

fn windows() -> impl Strategy<Value = ValidityWindow> {
    let at = |micros: i64| Timestamp::from_unix_micros(1_900_000_000_000_000 + micros);
    let ends = (prop::option::of(0..1_000_000_i64), prop::option::of(1_000_000..9_000_000_i64));
    ends.prop_map(move |(from, to)| ValidityWindow::new(from.map(at), to.map(at)).unwrap())
}

fn secrets() -> impl Strategy<Value = Vec<Plain>> {
    secrets_called(prop_oneof!["[A-Za-z0-9_-]{1,12}", "no|on|1e3|null|-|---|_|0x1"])
}

fn secrets_called(names: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<Plain>> {
    let secret = (prop::option::weighted(0.9, values()), windows());
    prop::collection::btree_map(names, secret, 0..6).prop_map(|all| {
        all.into_iter().map(|(name, (value, window))| (name, value, window)).collect()
    })
}

fn round_trip(secrets: &[Plain], format: Format, detail: Detail) -> Vec<Plain> {
    let items: Vec<_> = secrets.iter().map(|(n, v, w)| item(n, v.as_deref(), *w)).collect();
    let text = write(&items, format, detail).unwrap();
    plain(&read(&text, format).unwrap_or_else(|fault| panic!("{fault} in {:?}", *text)))
}

fn without_windows(secrets: &[Plain]) -> Vec<Plain> {
    let open = ValidityWindow::default();
    secrets.iter().map(|(name, value, _)| (name.clone(), value.clone(), open)).collect()
}

proptest! {
    #[test]
    fn what_goes_out_as_json_comes_in_unchanged(secrets in secrets()) {
        prop_assert_eq!(round_trip(&secrets, Format::Json, Detail::WithWindows), secrets.clone());
        let values = round_trip(&secrets, Format::Json, Detail::Values);
        prop_assert_eq!(values, without_windows(&secrets));
    }

    #[test]
    fn what_goes_out_as_yaml_comes_in_unchanged(secrets in secrets()) {
        prop_assert_eq!(round_trip(&secrets, Format::Yaml, Detail::WithWindows), secrets.clone());
        let values = round_trip(&secrets, Format::Yaml, Detail::Values);
        prop_assert_eq!(values, without_windows(&secrets));
    }

    #[test]
    fn what_goes_out_as_dotenv_comes_in_unchanged(secrets in secrets_called("_[A-Z0-9_]{0,12}")) {
        let said: Vec<_> = secrets.into_iter().filter(|(_, value, _)| value.is_some()).collect();
        let values = round_trip(&said, Format::Dotenv, Detail::Values);
        prop_assert_eq!(values, without_windows(&said));
    }

    /// What is refused is refused with a sentence, and no value in it.
    #[test]
    fn no_text_is_too_strange_to_be_judged(text in any::<String>()) {
        for format in [Format::Dotenv, Format::Json, Format::Yaml] {
            let _ = read(&text, format);
        }
    }
}

#[test]
fn the_name_of_a_file_says_its_format() {
    for (name, format) in [
        (".env", Some(Format::Dotenv)),
        ("a/.env.local", Some(Format::Dotenv)),
        (".env.json", Some(Format::Dotenv)),
        ("shop.env", Some(Format::Dotenv)),
        ("shop.json", Some(Format::Json)),
        ("shop.yaml", Some(Format::Yaml)),
        ("shop.yml", Some(Format::Yaml)),
        ("shop", None),
        ("env", None),
        (".envrc", None),
        ("-", None),
    ] {
        assert_eq!(Format::of(Path::new(name)), format, "{name}");
    }
}

#[test]
fn a_mark_of_byte_order_is_passed_over() {
    for (text, format) in [
        ("\u{feff}a=x", Format::Dotenv),
        ("\u{feff}{\"a\": \"x\"}", Format::Json),
        ("\u{feff}a: x", Format::Yaml),
    ] {
        let items = read(text, format).unwrap();
        assert_eq!(
            plain(&items),
            [("a".to_owned(), Some("x".to_owned()), ValidityWindow::default())]
        );
    }
}

#[test]
fn what_is_too_much_is_refused() {
    let many: String = (0..=MOST_SECRETS).map(|n| format!("n{n}=x\n")).collect();
    assert!(read(&many, Format::Dotenv).unwrap_err().to_string().contains("split it"));
    let large = format!("a={}", "x".repeat(SecretValue::HARD_MAX_BYTES + 1));
    let fault = read(&large, Format::Dotenv).unwrap_err().to_string();
    assert!(fault.contains("'a' is larger than a secret can be"), "{fault}");
}
