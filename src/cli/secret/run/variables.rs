//! Which secret becomes which environment variable.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::super::super::failure::CliError;
use super::super::get;
use super::super::target::Names;
use super::secrets::Secrets;
use crate::cli::failure::Exit;
use crate::domain::{SecretName, SecretValue};

/// The name of an environment variable that shells can have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) struct Variable(String);

impl Variable {
    fn parse(text: &str) -> Option<Self> {
        let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let holds = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (starts && holds).then(|| Self(text.to_owned()))
    }

    /// `db-password` is `DB_PASSWORD`.
    pub(in crate::cli) fn of_secret(shown: &str) -> Option<Self> {
        Self::parse(&shown.to_ascii_uppercase().replace('-', "_"))
    }

    pub(in crate::cli) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it changes what programs run or load, or where this command line sends a
    /// credential. Who may write a secret would decide that for who runs the command.
    pub(in crate::cli) fn steers_programs(&self) -> bool {
        STEERING.contains(&self.as_str())
            || STEERING_BEGINNINGS.iter().any(|beginning| self.0.starts_with(beginning))
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Of the loader, the C library, shells and interpreters.
#[rustfmt::skip]
const STEERING: &[&str] = &[
    "PATH", "HOME", "SHELL", "IFS", "ENV", "BASH_ENV", "BASHOPTS", "SHELLOPTS", "PS4",
    "PROMPT_COMMAND", "CDPATH", "ZDOTDIR", "FPATH", "EDITOR", "VISUAL", "PAGER", "BROWSER",
    "TMPDIR", "GCONV_PATH", "GETCONF_DIR", "GLIBC_TUNABLES", "HOSTALIASES", "LOCALDOMAIN",
    "LOCPATH", "NLSPATH", "RESOLV_HOST_CONF", "RES_OPTIONS", "TERMINFO", "TERMINFO_DIRS",
    "PYTHONHOME", "PYTHONINSPECT", "PYTHONPATH", "PYTHONSTARTUP", "NODE_OPTIONS", "NODE_PATH",
    "PERL5DB", "PERL5LIB", "PERL5OPT", "PERLLIB", "RUBYLIB", "RUBYOPT", "CLASSPATH",
    "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "DOTNET_STARTUP_HOOKS",
    "GIT_ASKPASS", "GIT_DIR", "GIT_EDITOR", "GIT_EXEC_PATH", "GIT_EXTERNAL_DIFF", "GIT_PAGER",
    "GIT_SSH", "GIT_SSH_COMMAND", "LESSOPEN", "LESSCLOSE", "MANPAGER", "OPENSSL_CONF",
    "OPENSSL_ENGINES", "OPENSSL_MODULES", "SSL_CERT_DIR", "SSL_CERT_FILE",
];
const STEERING_BEGINNINGS: &[&str] =
    &["LD_", "DYLD_", "MALLOC_", "BASH_FUNC", "GIT_CONFIG", "TENURE_"];

/// `NAME=SECRET`, of `--env`.
#[derive(Debug, Clone)]
pub(in crate::cli) struct EnvArg {
    variable: Variable,
    secret: String,
}

impl FromStr for EnvArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (variable, secret) = text
            .split_once('=')
            .ok_or("must be VARIABLE=SECRET, such as DB_PASSWORD=db-password")?;
        let variable = Variable::parse(variable)
            .ok_or("a variable is letters, digits and _, and begins with no digit")?;
        Ok(Self { variable, secret: secret.to_owned() })
    }
}

/// Whether secrets that are not named are given too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    Given,
    LeftOut,
}

/// What was asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) named: BTreeMap<Variable, SecretName>,
    pub(super) others: Others,
}

impl Wanted {
    pub(super) fn new(args: &[EnvArg], others: Others, names: &Names) -> Result<Self, CliError> {
        let mut named = BTreeMap::new();
        for EnvArg { variable, secret } in args {
            if named.insert(variable.clone(), names.whole(secret)?).is_some() {
                return Err(CliError::usage(format!("--env names {variable} twice")));
            }
        }
        Ok(Self { named, others })
    }

    /// What each variable is to hold, of these secrets, in the order of variables.
    pub(super) fn variables<'s>(
        &self,
        secrets: &'s Secrets,
        names: &Names,
    ) -> Result<BTreeMap<Variable, &'s SecretValue>, CliError> {
        let mut chosen: BTreeMap<Variable, (&str, &SecretValue)> = BTreeMap::new();
        for (variable, name) in &self.named {
            let found = secrets.get_key_value(name);
            let (name, secret) = found.ok_or_else(|| get::missing(names, names.shown(name)))?;
            let shown = names.shown(name);
            let value = secret.value.as_ref().ok_or_else(|| null(shown))?;
            chosen.insert(variable.clone(), (shown, value));
        }
        if self.others == Others::Given {
            self.add_others(&mut chosen, secrets, names)?;
        }
        for (shown, value) in chosen.values() {
            if value.expose().contains('\0') {
                return Err(CliError::usage(format!(
                    "the value of '{shown}' holds a NUL character, which no variable can; store \
                     it as base64, or leave it out by naming the others with --env"
                )));
            }
        }
        Ok(chosen.into_iter().map(|(variable, (_, value))| (variable, value)).collect())
    }

    /// Those that are named neither themselves nor by their variable. One that is null is
    /// no text, and left out.
    fn add_others<'s>(
        &self,
        chosen: &mut BTreeMap<Variable, (&'s str, &'s SecretValue)>,
        secrets: &'s Secrets,
        names: &Names,
    ) -> Result<(), CliError> {
        for (name, secret) in secrets {
            let Some(value) = &secret.value else { continue };
            if self.named.values().any(|named| named == name) {
                continue;
            }
            let shown = names.shown(name);
            let variable = Variable::of_secret(shown).ok_or_else(|| unmappable(shown))?;
            if self.named.contains_key(&variable) {
                continue;
            }
            if variable.steers_programs() {
                return Err(steering(shown, &variable));
            }
            if let Some((other, _)) = chosen.insert(variable.clone(), (shown, value)) {
                return Err(collision(other, shown, &variable));
            }
        }
        Ok(())
    }
}

fn null(shown: &str) -> CliError {
    CliError {
        exit: Exit::NotFound,
        message: format!("the value of '{shown}' is null, which no variable can hold"),
    }
}

fn unmappable(shown: &str) -> CliError {
    let name = if shown.is_empty() { "the prefix itself".to_owned() } else { format!("'{shown}'") };
    CliError::usage(format!(
        "the name of a secret, {name}, makes no variable; name one for it: --all --env \
         VARIABLE='{shown}'"
    ))
}

fn steering(shown: &str, variable: &Variable) -> CliError {
    CliError::usage(format!(
        "the secret '{shown}' would set {variable}, which decides what programs do; if that is \
         meant: --all --env {variable}={shown}"
    ))
}

fn collision(one: &str, other: &str, variable: &Variable) -> CliError {
    CliError::usage(format!(
        "the secrets '{one}' and '{other}' both make the variable {variable}; say which: --all \
         --env {variable}={one}"
    ))
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::super::secrets::Held;
    use super::*;
    use crate::domain::ValidityWindow;

    fn names() -> Names {
        Names::of_tests("shop-")
    }

    fn secrets(all: &[(&str, Option<&str>)]) -> Secrets {
        let held = |value: Option<&str>| Held {
            value: value.map(|value| SecretValue::new(Zeroizing::new(value.to_owned()))),
            window: ValidityWindow::default(),
            version: None,
        };
        all.iter().map(|(name, value)| (SecretName::parse(name).unwrap(), held(*value))).collect()
    }

    fn wanted(args: &[&str], others: Others) -> Wanted {
        let args: Vec<EnvArg> = args.iter().map(|arg| arg.parse().unwrap()).collect();
        Wanted::new(&args, others, &names()).unwrap()
    }

    fn shown(wanted: &Wanted, of: &[(&str, Option<&str>)]) -> Result<String, CliError> {
        let secrets = secrets(of);
        let variables = wanted.variables(&secrets, &names())?;
        let line = |(variable, value): (&Variable, &&SecretValue)| {
            format!("{variable}={}", value.expose())
        };
        Ok(variables.iter().map(line).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn names_become_upper_snake_without_the_prefix() {
        let of = [("shop-db-password", Some("a")), ("shop-aPi_Key2", Some("b")), ("shop-n", None)];
        assert_eq!(shown(&wanted(&[], Others::Given), &of).unwrap(), "API_KEY2=b DB_PASSWORD=a");
    }

    #[test]
    fn what_is_named_is_renamed_and_wins() {
        let of = [("shop-a", Some("1")), ("shop-b", Some("2")), ("shop-c", Some("3"))];
        let named = ["x=a", "C=b", "y=a"];
        assert_eq!(shown(&wanted(&named, Others::Given), &of).unwrap(), "C=2 x=1 y=1");
        assert_eq!(shown(&wanted(&["B=a"], Others::LeftOut), &of).unwrap(), "B=1");
    }

    #[test]
    fn what_cannot_be_a_variable_is_refused_and_can_be_named() {
        for (of, words) in [
            (&[("shop-a-b", Some("1")), ("shop-a_B", Some("2"))][..], &["a-b", "a_B", "A_B"][..]),
            (&[("shop-1st", Some("1"))], &["'1st'", "--env VARIABLE="]),
            (&[("shop-", Some("1"))], &["the prefix itself"]),
            (&[("shop-path", Some("1"))], &["--all --env PATH=path"]),
            (&[("shop-ld-preload", Some("1"))], &["LD_PRELOAD"]),
            (&[("shop-tenure-addr", Some("1"))], &["TENURE_ADDR"]),
            (&[("shop-nul", Some("hunter2\0"))], &["'nul'", "NUL"]),
        ] {
            let refused = shown(&wanted(&[], Others::Given), of).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage);
            for word in words {
                assert!(refused.message.contains(word), "{word}: {refused:?}");
            }
            assert!(!refused.message.contains("hunter2"), "{refused:?}");
        }
        let of = [("shop-path", Some("1")), ("shop-1st", Some("2"))];
        let named = wanted(&["PATH=path", "FIRST=1st"], Others::Given);
        assert_eq!(shown(&named, &of).unwrap(), "FIRST=2 PATH=1");
    }

    #[test]
    fn what_is_named_must_be_there_and_be_text() {
        for (of, word) in [(&[][..], "no secret 'a'"), (&[("shop-a", None)], "is null")] {
            let refused = shown(&wanted(&["A=a"], Others::LeftOut), of).unwrap_err();
            assert_eq!(refused.exit, Exit::NotFound);
            assert!(refused.message.contains(word), "{refused:?}");
        }
    }

    #[test]
    fn the_words_of_env_are_checked() {
        for text in ["A", "=a", "1A=a", "A-B=a", "Ä=a"] {
            assert!(text.parse::<EnvArg>().is_err(), "{text}");
        }
        let twice = ["A=a".parse().unwrap(), "A=b".parse().unwrap()];
        let refused = Wanted::new(&twice, Others::LeftOut, &names()).unwrap_err();
        assert!(refused.message.contains("A twice"), "{refused:?}");
    }
}
