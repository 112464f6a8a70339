use std::path::{Path, PathBuf};

use super::*;

const DOCUMENTED: &str = include_str!("../../config/tenure.toml");

/// A key, a value that differs from its default in the words of the file, and
/// the same in the words of a variable.
const OTHER_VALUES: &[(&str, &str, &str)] = &[
    ("data", "'/srv/tenure'", "/srv/tenure"),
    ("listen", "'127.0.0.1:7301'", "127.0.0.1:7301"),
    ("tls.certificate", "'/tls/certificate.pem'", "/tls/certificate.pem"),
    ("tls.key", "'/tls/key.pem'", "/tls/key.pem"),
    ("tls.terminated_elsewhere", "true", "true"),
    ("http.trusted_proxies", "['10.0.0.0/8', '::1']", "10.0.0.0/8, ::1"),
    ("http.max_connections", "100", "100"),
    ("http.header_timeout", "'5s'", "5s"),
    ("http.body_timeout", "'5s'", "5s"),
    ("http.keep_alive", "'0s'", "0s"),
    ("http.workers", "3", "3"),
    ("http.shutdown_timeout", "'5s'", "5s"),
    ("secrets.max_value_bytes", "'1MiB'", "1MiB"),
    ("kek.source", "'env'", "env"),
    ("kek.file", "'/keys/kek'", "/keys/kek"),
    ("kek.env", "'OTHER_KEK'", "OTHER_KEK"),
    ("kek.credential", "'store.kek'", "store.kek"),
    ("kek.passphrase_fd", "3", "3"),
    ("kek.command", "['age', \"--decrypt\", '/keys/a b']", "['age', \"--decrypt\", '/keys/a b']"),
    ("kek.command_timeout", "'1m'", "1m"),
    ("kek.start_sealed", "true", "true"),
    ("store.cache_bytes", "'1GiB'", "1GiB"),
    ("store.queue_bytes", "33554432", "32MiB"),
    ("store.full_floor_bytes", "'2GiB'", "2GiB"),
    ("store.hard_floor_bytes", "'1MiB'", "1MiB"),
    ("store.list_cache_bytes", "'1MiB'", "1MiB"),
    ("store.compact_after", "'1GiB'", "1GiB"),
    ("sweep.every", "'0s'", "0s"),
    ("sweep.retain", "'30d'", "30d"),
    ("backup.every", "'6h'", "6h"),
    ("backup.folder", "'/backup'", "/backup"),
    ("backup.keep", "30", "30"),
    ("tokens.cache_entries", "16", "16"),
    ("limits.address_rate", "100", "100"),
    ("limits.address_burst", "200", "200"),
    ("limits.credential_rate", "100", "100"),
    ("limits.credential_burst", "200", "200"),
    ("limits.failure_rate", "0", "0"),
    ("limits.failure_burst", "1", "1"),
    ("limits.new_token_rate", "0", "0"),
    ("limits.new_token_burst", "1", "1"),
    ("limits.tenant.secrets", "1000", "1000"),
    ("limits.tenant.bytes", "'100MiB'", "100MiB"),
    ("limits.tenant.requests_per_second", "50", "50"),
    ("api_keys.max_per_tenant", "7", "7"),
    ("dek.rotate_after", "'90d'", "90d"),
    ("dek.rewrite", "true", "true"),
    ("dek.rewrite_rate", "50", "50"),
    ("notify.url", "'https://ops.example/hook'", "https://ops.example/hook"),
    ("notify.secret_file", "'/keys/notify'", "/keys/notify"),
    ("notify.ca_file", "'/keys/ca.pem'", "/keys/ca.pem"),
    ("notify.expiring_within", "['14d', '36h']", "14d, 36h"),
    ("notify.events", "['expired']", "expired"),
    ("notify.tenants", "['acme']", "['acme']"),
    ("notify.names", "'hashed'", "hashed"),
    ("notify.every", "'5m'", "5m"),
    ("memory.lock", "'off'", "off"),
    ("log.level", "'debug'", "debug"),
    ("log.format", "'json'", "json"),
    ("log.requests", "true", "true"),
    ("metrics.listen", "'127.0.0.1:9464'", "127.0.0.1:9464"),
    ("metrics.allow_remote", "true", "true"),
    ("metrics.on_main", "false", "false"),
    ("audit.reads", "'durable'", "durable"),
    ("audit.queue_bytes", "'1MiB'", "1MiB"),
    ("audit.keep", "'400d'", "400d"),
    ("audit.archive", "'/archive'", "/archive"),
    ("audit.names", "'hashed'", "hashed"),
    ("audit.file.path", "'/log/audit'", "/log/audit"),
    ("audit.syslog.socket", "'/dev/log'", "/dev/log"),
    ("audit.syslog.facility", "'local3'", "local3"),
    ("audit.syslog.format", "'rfc5424'", "rfc5424"),
    ("audit.journal.enabled", "true", "true"),
];

/// The two halves of one certificate are only valid together.
const TLS: [(&str, &str); 2] =
    [("tls.certificate", "/tls/certificate.pem"), ("tls.key", "/tls/key.pem")];

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.0.path().join("tenure.toml");
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn load(
    text: &str,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Config, ConfigError> {
    let folder = Folder::new();
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let flags: Vec<_> = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    Config::load(Some(&folder.file(text)), environment, &flags)
}

fn problem(text: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    load(text, environment, flags).expect_err("it was accepted").to_string()
}

fn show(config: &Config, key: &str) -> String {
    keys().iter().find(|setting| setting.path() == key).unwrap().show(config)
}

/// What must be said beside `key`: the other half of a certificate, where backups and old
/// entries of the audit go, and what signs notices.
fn flags_beside(key: &str) -> Vec<(&'static str, &'static str)> {
    if key == "audit.keep" {
        return vec![("audit.archive", "/archive")];
    }
    if key == "backup.every" {
        return vec![("backup.folder", "/backup")];
    }
    if key == "notify.url" {
        return vec![("notify.secret_file", "/keys/notify")];
    }
    let is_half = TLS.iter().any(|(half, _)| *half == key);
    TLS.into_iter().filter(|(half, _)| is_half && *half != key).collect()
}

#[test]
fn copies_of_the_audit_go_where_a_service_finds_them() {
    for (key, path, remedy) in [
        ("audit.file.path", "audit.jsonl", "write the whole path"),
        ("audit.syslog.socket", "log", "write the whole path"),
        ("audit.syslog.socket", &format!("/{}", "x".repeat(107)), "name a shorter one"),
    ] {
        let said = problem("", &[], &[(key, path)]);
        assert!(said.contains(key) && said.contains(remedy), "{said}");
    }
    load("", &[], &[("audit.syslog.socket", &format!("/{}", "x".repeat(106)))]).unwrap();
}

#[test]
fn entries_of_the_audit_need_a_folder_to_go_to() {
    let said = problem("[audit]\nkeep = '400d'", &[], &[]);
    assert!(said.contains("line 2: `audit.keep` is set without `audit.archive`"), "{said}");
    load("[audit]\nkeep = '400d'\narchive = '/archive'", &[], &[]).unwrap();
}

#[test]
fn backups_need_a_folder_to_go_to() {
    let said = problem("[backup]\nevery = '1d'", &[], &[]);
    assert!(said.contains("line 2: `backup.every` is set without `backup.folder`"), "{said}");
    load("[backup]\nevery = '1d'\nfolder = '/backup'", &[], &[]).unwrap();
    assert!(problem("backup.keep = 0", &[], &[]).contains("out of range"));
}

#[test]
fn notices_need_a_key_and_go_to_nobody_in_the_clear() {
    let said = problem("notify.url = 'https://ops.example/hook'", &[], &[]);
    assert!(said.contains("`notify.url` is set without `notify.secret_file`"), "{said}");
    let said = problem("notify.url = 'http://ops.example/hook-t0ken'", &[], &[]);
    assert!(said.contains("must begin with https://") && !said.contains("t0ken"), "{said}");
    let key = "secret_file = '/keys/notify'";
    load(&format!("[notify]\nurl = 'http://127.0.0.1:9000/hook'\n{key}"), &[], &[]).unwrap();
    assert!(problem("notify.tenants = ['a/b']", &[], &[]).contains("no name of a tenant"));
    assert!(problem("notify.expiring_within = ['0s']", &[], &[]).contains("out of range"));
    assert!(problem("notify.events = ['read']", &[], &[]).contains("\"swept\""));
}

#[test]
fn a_rate_of_zero_is_no_limit_and_a_burst_of_zero_a_mistake() {
    load("[limits]\nfailure_rate = 0\nfailure_burst = 1", &[], &[]).unwrap();
    for key in ["address", "credential", "failure", "new_token"] {
        let said = problem(&format!("[limits]\n{key}_burst = 0"), &[], &[]);
        assert!(said.contains("out of range") && said.contains("from 1 to"), "{said}");
        let said = problem(&format!("[limits]\n{key}_rate = 10000001"), &[], &[]);
        assert!(said.contains("line 2") && said.contains("out of range"), "{said}");
    }
}

#[test]
fn without_anything_said_the_defaults_hold() {
    let config = Config::load(None, std::iter::empty(), &[]).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.exposure().unwrap(), Exposure::Loopback);
    assert_eq!(load("", &[], &[]).unwrap(), config);
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let (file, variable, flag) =
        ("[http]\nworkers = 1", ("TENURE_HTTP_WORKERS", "2"), ("http.workers", "3"));
    let workers =
        |text, environment: &[_], flags: &[_]| load(text, environment, flags).unwrap().http.workers;
    assert_eq!(workers("", &[], &[]), 0);
    assert_eq!(workers(file, &[], &[]), 1);
    assert_eq!(workers(file, &[variable], &[]), 2);
    assert_eq!(workers(file, &[], &[flag]), 3);
    assert_eq!(workers(file, &[variable], &[flag]), 3);
}

#[test]
fn every_key_can_be_set_in_the_file_by_a_variable_and_by_a_flag() {
    let known: Vec<_> = keys().iter().map(Setting::path).collect();
    let tried: Vec<_> = OTHER_VALUES.iter().map(|(key, ..)| *key).collect();
    assert_eq!(known, tried, "a key without a row in OTHER_VALUES");

    let default = Config::default();
    for (key, in_file, as_text) in OTHER_VALUES {
        let variable = format!("TENURE_{}", key.replace('.', "_").to_uppercase());
        let beside = flags_beside(key);
        let mut flags = beside.clone();
        flags.push((key, as_text));
        let by_file = load(&format!("{key} = {in_file}"), &[], &beside).unwrap();
        let by_variable = load("", &[(&variable, as_text)], &beside).unwrap();
        let by_flag = load("", &[], &flags).unwrap();
        assert_ne!(show(&by_file, key), show(&default, key), "{key} did not change");
        assert_eq!(by_file, by_variable, "{key}");
        assert_eq!(by_variable, by_flag, "{key}");
    }
}

#[test]
fn every_key_refuses_nonsense_by_its_name_and_place() {
    for setting in keys().iter().filter(|setting| setting.show(&Config::default()) != "\"\"") {
        let key = setting.path();
        let said = problem(&format!("\n{key} = 1979-05-27"), &[], &[]);
        assert!(said.contains(key) && said.contains("tenure.toml, line 2"), "{said}");
        assert!(said.contains("must be"), "{said}");
        if matches!(key, "data" | "kek.file") {
            continue;
        }
        let said = problem("", &[(&setting.environment(), "=?=")], &[]);
        assert!(said.contains(key) && said.contains(&setting.environment()), "{said}");
        let said = problem("", &[], &[(key, "=?=")]);
        assert!(said.contains(key) && said.contains("command line"), "{said}");
    }
}

#[test]
fn an_error_says_what_was_said_instead() {
    let said = problem("[http]\nworkers = \"many\"", &[], &[]);
    assert!(
        said.ends_with(
            "line 2: `http.workers` must be a whole number, without quotes, not \"many\""
        ),
        "{said}"
    );
    let said = problem("", &[("TENURE_SWEEP_EVERY", "1 hour")], &[]);
    assert!(
        said.starts_with("environment variable TENURE_SWEEP_EVERY: `sweep.every` must be"),
        "{said}"
    );
    assert!(said.ends_with("not \"1 hour\""), "{said}");
}

#[test]
fn an_error_never_repeats_what_may_be_a_key() {
    let pasted = "c2VjcmV0IHBhc3RlZCBieSBtaXN0YWtl";
    for said in [
        problem(&format!("kek.env = '{pasted}='"), &[], &[]),
        problem("", &[("TENURE_KEK_ENV", &format!("{pasted}="))], &[]),
        problem(&format!("kek.file = ['{pasted}']"), &[], &[]),
        problem(&format!("kek.credential = '{pasted}='"), &[], &[]),
        problem(&format!("kek.command = '{pasted}'"), &[], &[]),
        problem("", &[("TENURE_KEK_COMMAND", pasted)], &[]),
        problem(&format!("kek.key = '{pasted}'"), &[], &[]),
        problem("", &[("TENURE_KEY", pasted)], &[]),
        problem("", &[], &[("kek.key", pasted)]),
        problem(&format!("kek.file = '{pasted}"), &[], &[]),
        problem(&format!("kek.file = {pasted}"), &[], &[]),
    ] {
        assert!(!said.contains(pasted), "{said}");
    }
}

#[test]
fn a_misspelt_key_is_refused_with_the_one_it_resembles() {
    for (text, meant) in [
        ("lissten = '127.0.0.1:1'", "listen"),
        ("[tls]\ncertificat = 'x'", "tls.certificate"),
        ("[htpp]\nworkers = 1", "config/tenure.toml lists them"),
        ("workers = 1", "http.workers"),
        ("[http.workers]\nnumber = 1", "must be a whole number"),
        ("tls = 'x'", "there is no key `tls`"),
        ("'tls.key' = 'x'", "tls.key"),
        ("colour = 'red'", "config/tenure.toml lists them"),
    ] {
        let said = problem(text, &[], &[]);
        assert!(said.contains(meant), "{said}");
        assert!(said.contains("line "), "{said}");
    }
    let said = problem("", &[("TENURE_LISSTEN", "127.0.0.1:1")], &[]);
    assert!(said.contains("did you mean `TENURE_LISTEN`?"), "{said}");
    let said = problem("", &[], &[("lissten", "127.0.0.1:1")]);
    assert!(said.contains("did you mean `listen`?"), "{said}");
}

#[test]
fn variables_of_the_client_and_of_the_key_are_no_configuration() {
    let names = ["ADDR", "TENANT", "TOKEN", "API_KEY", "CONFIG", "KEK", "TEST_LONG"];
    let names = names.map(|name| format!("TENURE_{name}"));
    let client: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
    assert_eq!(load("", &client, &[]).unwrap(), Config::default());

    let own_name = load("kek.env = 'TENURE_OWN_KEK'", &[("TENURE_OWN_KEK", "x")], &[]);
    assert_eq!(own_name.unwrap().kek.env, "TENURE_OWN_KEK");
    load("", &[("HOME", "/"), ("TENUREX", "x")], &[]).unwrap();
}

#[test]
fn a_path_in_the_file_is_relative_to_the_files_folder() {
    let folder = Folder::new();
    let file = folder.file("data = 'data'\nkek.file = 'keys/kek'\ntls.certificate = ''");
    let config = Config::load(Some(&file), std::iter::empty(), &[]).unwrap();
    assert_eq!(config.data, folder.0.path().join("data"));
    assert_eq!(config.kek.file, Some(folder.0.path().join("keys/kek")));
    assert_eq!(config.tls.certificate, None);

    let by_variable = load("", &[("TENURE_DATA", "data")], &[]).unwrap();
    assert_eq!(by_variable.data, Path::new("data"));
}

#[test]
fn a_variable_can_take_back_an_optional_key_of_the_file() {
    let file = "[tls]\ncertificate = 'c.pem'\nkey = 'k.pem'";
    let taken_back = [("TENURE_TLS_CERTIFICATE", ""), ("TENURE_TLS_KEY", "")];
    assert_eq!(load(file, &taken_back, &[]).unwrap().tls, Tls::default());
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = Path::new("/nowhere/tenure.toml");
    let error = Config::load(Some(missing), std::iter::empty(), &[]).unwrap_err();
    assert!(error.to_string().contains("/nowhere/tenure.toml"), "{error}");
    let said = problem("listen = '127.0.0.1:1'\nlisten = '127.0.0.1:2'", &[], &[]);
    assert!(said.contains("tenure.toml, line 2: this is not TOML"), "{said}");
}

#[test]
fn values_that_cannot_stand_together_are_refused_with_a_remedy() {
    for (text, key, remedy) in [
        ("tls.certificate = 'c.pem'", "`tls.certificate`", "set tls.key too"),
        ("tls.key = 'k.pem'", "`tls.key`", "set tls.certificate too"),
        ("kek.file = ''", "`kek.file`", "kek.source to \"env\""),
        ("kek.env = ''", "`kek.env`", "the variable's name"),
        ("kek.env = '1KEK'", "`kek.env`", "the variable's name"),
        ("kek.credential = ''", "`kek.credential`", "write its name alone"),
        ("kek.credential = '../kek'", "`kek.credential`", "write its name alone"),
        ("kek.credential = '/etc/kek'", "`kek.credential`", "write its name alone"),
        ("kek.credential = 'a..b'", "`kek.credential`", "write its name alone"),
        ("kek.source = 'command'", "`kek.source`", "name the program"),
        ("store.hard_floor_bytes = '1GiB'", "`store.hard_floor_bytes`", "lower it"),
        ("data = ''", "`data`", "must not be empty"),
    ] {
        let said = problem(text, &[], &[]);
        assert!(said.contains(key) && said.contains(remedy), "{said}");
        assert!(said.contains("tenure.toml, line 1"), "{said}");
    }
    load("kek.file = ''\nkek.source = 'env'", &[], &[]).unwrap();
}

#[test]
fn every_limit_is_held_from_both_sides() {
    for (key, too_little, too_much) in [
        ("kek.command_timeout", Some("99ms"), "61m"),
        ("http.max_connections", Some("0"), "1000001"),
        ("http.header_timeout", Some("9ms"), "61m"),
        ("http.body_timeout", Some("0s"), "61m"),
        ("http.keep_alive", None, "61m"),
        ("http.workers", None, "1025"),
        ("http.shutdown_timeout", None, "61m"),
        ("secrets.max_value_bytes", Some("0"), "1048577"),
        ("store.cache_bytes", Some("1048575"), "2TiB"),
        ("store.queue_bytes", Some("20971519"), "2TiB"),
        ("store.list_cache_bytes", Some("1048575"), "2TiB"),
        ("store.compact_after", Some("16777215"), "2048TiB"),
        ("store.full_floor_bytes", Some("0"), "2048TiB"),
        ("store.hard_floor_bytes", Some("0"), "2048TiB"),
        ("sweep.every", Some("99ms"), "3651d"),
        ("sweep.retain", None, "3651d"),
        ("tokens.cache_entries", Some("15"), "10000001"),
    ] {
        for value in too_little.into_iter().chain([too_much]) {
            let said = problem("", &[], &[(key, value)]);
            assert!(said.contains(key) && said.contains("set it to something from"), "{said}");
        }
    }
}

#[test]
fn the_cache_has_a_size_of_its_own_or_follows_the_memory() {
    let cache = |text: &str| load(text, &[], &[]).unwrap().store.cache_bytes;
    assert_eq!(cache(""), CacheSize::Auto);
    assert_eq!(cache("store.cache_bytes = 'auto'"), CacheSize::Auto);
    for size in ["'3MiB'", "3145728"] {
        let text = format!("store.cache_bytes = {size}");
        assert_eq!(cache(&text), CacheSize::Bytes(ByteSize::mib(3)));
    }
    let said = problem("store.cache_bytes = 'much'", &[], &[]);
    assert!(said.contains("64KiB") && said.contains("\"auto\""), "{said}");
}

#[test]
fn plain_http_off_loopback_is_refused() {
    for address in ["0.0.0.0:7300", "192.0.2.1:7300", "[::]:7300", "[2001:db8::1]:7300"] {
        let plain = load("", &[], &[("listen", address)]).unwrap();
        let said = plain.exposure().unwrap_err().to_string();
        assert!(said.contains(address) && said.contains("tls.certificate"), "{said}");

        let elsewhere = [("listen", address), ("tls.terminated_elsewhere", "true")];
        let elsewhere = load("", &[], &elsewhere).unwrap();
        assert_eq!(elsewhere.exposure().unwrap(), Exposure::TerminatedElsewhere);

        let flags: Vec<_> = TLS.into_iter().chain([("listen", address)]).collect();
        let with_tls = load("", &[], &flags).unwrap();
        assert!(matches!(with_tls.exposure().unwrap(), Exposure::Tls { .. }));
    }
    for address in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:7300", "[::ffff:127.0.0.1]:1"] {
        let plain = load("", &[], &[("listen", address)]).unwrap();
        assert_eq!(plain.exposure().unwrap(), Exposure::Loopback, "{address}");
    }
}

#[test]
fn a_kek_inside_the_data_folder_is_refused() {
    let folder = Folder::new();
    let data = folder.0.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let link = folder.0.path().join("link");
    std::os::unix::fs::symlink(&data, &link).unwrap();
    let with_kek = |path: &Path| {
        let kek = Kek { file: Some(path.to_owned()), ..Config::default().kek };
        Config { data: data.clone(), kek, ..Config::default() }
    };
    for inside in [data.join("kek"), data.join("a/b/kek"), link.join("kek")] {
        let said = with_kek(&inside).require_kek_apart_from_data().unwrap_err().to_string();
        assert!(said.contains("kek.file") && said.contains("move it out"), "{said}");
    }
    for apart in [folder.0.path().join("kek"), folder.0.path().join("data-kek")] {
        with_kek(&apart).require_kek_apart_from_data().unwrap();
    }
}

/// `config/tenure.toml` with its commented keys made live.
fn uncommented() -> String {
    let live = |line: &str| {
        let key = line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line);
        format!("{key}\n")
    };
    DOCUMENTED.lines().map(live).collect()
}

#[test]
fn the_documented_file_says_the_defaults() {
    for text in [DOCUMENTED, &uncommented()] {
        assert_eq!(load(text, &[], &[]).unwrap(), Config::default());
    }
}

/// Each key stands as `# key = default` below `## TENURE_KEY` and prose.
#[test]
fn every_key_is_documented_with_its_default_and_variable() {
    let default = Config::default();
    let mut section = String::new();
    let mut prose = Vec::new();
    let mut documented = Vec::new();
    for line in DOCUMENTED.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some(text) = line.strip_prefix("## ") {
            prose.push(text);
        } else if let Some((name, value)) =
            line.strip_prefix("# ").and_then(|rest| rest.split_once(" = "))
        {
            let key = format!("{section}{name}");
            let setting = keys().iter().find(|setting| setting.path() == key);
            let setting = setting.unwrap_or_else(|| panic!("`{key}` is no key"));
            assert_eq!(value, setting.show(&default), "the default of `{key}`");
            let variable = format!("Environment variable: {}", setting.environment());
            assert!(prose.contains(&variable.as_str()), "`{key}` lacks `## {variable}`");
            assert!(prose.len() > 1, "`{key}` lacks what follows from it");
            documented.push(setting.path());
        }
        if line.is_empty() {
            prose.clear();
        }
    }
    let known: Vec<_> = keys().iter().map(Setting::path).collect();
    assert_eq!(documented, known);
}

// Issuers: tables of the file alone.

const ISSUER: &str = "[[oidc]]\nissuer = 'https://login.example.org'\naudience = 'tenure'\n\
                      tenants = { acme-corp = 'acme' }\nscopes = { r = 'Secret.Read' }\n";

/// [`ISSUER`] with one key more, or another value for one it has.
fn issuer_with(key: &str, value: &str) -> String {
    let others = ISSUER.lines().filter(|line| !line.starts_with(&format!("{key} =")));
    others.chain([format!("{key} = {value}").as_str()]).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_issuer_has_defaults_for_what_it_need_not_say() {
    let Config { oidc, .. } = load(ISSUER, &[], &[]).unwrap();
    let [issuer] = &oidc[..] else { panic!("one issuer: {oidc:?}") };
    assert_eq!(
        issuer,
        &Oidc {
            issuer: "https://login.example.org".parse().unwrap(),
            audience: "tenure".to_owned(),
            tenant_claim: "tenant".to_owned(),
            tenants: [("acme-corp".to_owned(), "acme".parse().unwrap())].into(),
            every_tenant: false,
            scopes: [("r".to_owned(), crate::domain::Scope::SecretRead)].into(),
            jwks_uri: None,
            ca_file: None,
            refresh: TimeSpan::seconds(600),
            client_id: None,
        }
    );
}

#[test]
fn every_key_of_an_issuer_can_be_said() {
    let plain = load(ISSUER, &[], &[]).unwrap();
    for (key, value) in [
        ("issuer", "'http://127.0.0.1:8080/realm'"),
        ("audience", "'other'"),
        ("tenant_claim", "'https://example.org/tenant'"),
        ("tenants", "{ '*' = '*', a = 'b' }"),
        ("scopes", "{ w = '*' }"),
        ("jwks_uri", "'https://login.example.org/keys?v=1'"),
        ("ca_file", "'ca.pem'"),
        ("refresh", "'1s'"),
        ("client_id", "'docs'"),
    ] {
        let said = load(&issuer_with(key, value), &[], &[]).unwrap();
        assert_ne!(said, plain, "{key}");
    }
    for optional in ["jwks_uri", "ca_file", "client_id"] {
        assert_eq!(load(&issuer_with(optional, "''"), &[], &[]).unwrap(), plain, "{optional}");
    }
    let folder = Folder::new();
    let file = folder.file(&issuer_with("ca_file", "'ca.pem'"));
    let config = Config::load(Some(&file), std::iter::empty(), &[]).unwrap();
    assert_eq!(config.oidc[0].ca_file, Some(folder.0.path().join("ca.pem")));
    let wild = load(&issuer_with("tenants", "{ '*' = '*', a = 'b' }"), &[], &[]).unwrap();
    assert!(wild.oidc[0].every_tenant && wild.oidc[0].tenants.len() == 1);
}

#[test]
fn there_may_be_several_issuers_and_none_twice() {
    let other = ISSUER.replace("login.", "other.");
    assert_eq!(load(&format!("{ISSUER}{other}"), &[], &[]).unwrap().oidc.len(), 2);
    let said = problem(&format!("{ISSUER}{ISSUER}"), &[], &[]);
    assert!(said.contains("line 6: `oidc.issuer` is that of another"), "{said}");
}

#[test]
fn what_an_issuer_lacks_is_refused_with_a_remedy() {
    for (key, remedy) in [
        ("issuer", "to the letter"),
        ("audience", "stands in `aud`"),
        ("tenants", "acme = \"acme\""),
        ("scopes", "Secret.Read"),
    ] {
        let lines = ISSUER.lines().filter(|line| !line.starts_with(&format!("{key} =")));
        let said = problem(&lines.collect::<Vec<_>>().join("\n"), &[], &[]);
        assert!(said.contains(&format!("line 1: `oidc.{key}` ")), "{said}");
        assert!(said.contains(remedy), "{said}");
    }
    for empty in ["tenants", "scopes"] {
        let said = problem(&issuer_with(empty, "{}"), &[], &[]);
        assert!(said.contains(&format!("`oidc.{empty}` names no")), "{said}");
    }
}

#[test]
fn what_an_issuer_cannot_be_told_is_refused_by_its_key() {
    for (key, value, meant) in [
        ("issuer", "'login.example.org'", "must be an absolute address"),
        ("issuer", "'http://login.example.org'", "must begin with https://"),
        ("issuer", "'https://login.example.org/?a=b'", "must not have a query"),
        ("issuer", "'https://me@login.example.org'", "must be an absolute address"),
        ("issuer", "7", "must be a string"),
        ("audience", "''", "must be 1 to 512"),
        ("audience", "['a', 'b']", "must be a string"),
        ("tenant_claim", "\"a\\nb\"", "must be 1 to 512"),
        ("tenants", "['acme']", "must be a table"),
        ("tenants", "{ a = 1 }", "must be a table"),
        ("tenants", "{ a = 'a/b' }", "a tenant's name that"),
        ("tenants", "{ '*' = 'acme' }", "on one side only"),
        ("tenants", "{ acme = '*' }", "on one side only"),
        ("scopes", "{ r = 'secret.read' }", "Secret.Read, Secret.Write or *"),
        ("scopes", "{ r = 'Server.Admin' }", "no other scope can come from an issuer"),
        ("jwks_uri", "'http://login.example.org/keys'", "must begin with https://"),
        ("jwks_uri", "'http://127.0.0.1/keys'", "plain http, and the issuer is not"),
        ("refresh", "'500ms'", "must be from 1s to 6h"),
        ("refresh", "'7h'", "must be from 1s to 6h"),
        ("refresh", "'often'", "must be a whole number"),
        ("client_id", "true", "must be a string"),
        ("colour", "'red'", "there is no key `oidc.colour`"),
        ("tenant_clam", "'t'", "did you mean `oidc.tenant_claim`?"),
    ] {
        let said = problem(&issuer_with(key, value), &[], &[]);
        assert!(said.contains(meant) && said.contains("line "), "{said}");
    }
    for table in
        ["[oidc]\nissuer = 'https://a.example'", "oidc = 'https://a.example'", "oidc = [1]"]
    {
        assert!(problem(table, &[], &[]).contains("write [[oidc]], with two brackets"));
    }
}

#[test]
fn an_issuer_is_said_in_the_file_alone() {
    let said = problem("", &[("TENURE_OIDC_ISSUER", "https://a.example")], &[]);
    assert!(said.contains("TENURE_OIDC_ISSUER"), "{said}");
    let said = problem("", &[], &[("oidc.issuer", "https://a.example")]);
    assert!(said.contains("oidc.issuer"), "{said}");
}

/// Its table stands at the end of the documented file, behind a `#` on each line.
#[test]
fn every_key_of_an_issuer_is_documented_and_the_example_holds() {
    let begin = DOCUMENTED.find("#[[oidc]]").unwrap();
    let live: String = DOCUMENTED[begin..]
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix('#').unwrap_or(line)))
        .collect();
    let keys = live.lines().filter(|line| !line.starts_with('#'));
    let documented: Vec<_> =
        keys.filter_map(|line| Some(format!("oidc.{}", line.split_once(" = ")?.0))).collect();
    assert_eq!(documented, oidc_keys().iter().map(OidcKey::path).collect::<Vec<_>>());
    let config = load(&live, &[], &[]).unwrap();
    let [issuer] = &config.oidc[..] else { panic!("one issuer") };
    assert_eq!((issuer.refresh, issuer.tenant_claim.as_str()), (TimeSpan::seconds(600), "tenant"));
    let prose: Vec<_> = live.split("\n\n").filter(|part| part.contains(" = ")).collect();
    assert!(prose.iter().all(|part| part.starts_with("# ")), "a key without what follows from it");
}

#[test]
fn metrics_are_not_shown_to_the_network_unasked() {
    let off = "[metrics]\nlisten = '0.0.0.0:9464'\n";
    let refused = load(off, &[], &[]).unwrap_err().to_string();
    for word in ["metrics.listen", "0.0.0.0:9464", "metrics.allow_remote = true"] {
        assert!(refused.contains(word), "{refused}");
    }
    assert!(load(&format!("{off}allow_remote = true\n"), &[], &[]).is_ok());
    for loopback in ["127.0.0.2:1", "[::1]:9464", "[::ffff:127.0.0.1]:9464", ""] {
        let listens = format!("[metrics]\nlisten = '{loopback}'\n");
        assert!(load(&listens, &[], &[]).is_ok(), "{loopback}");
    }
}
