//! What a developer needs to go on, once the store serves.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::super::data::DataFolder;
use super::super::secret::ENV_FILE;
use super::home::Home;
use crate::domain::NamePrefix;

/// More names than these are only counted.
const NAMES: usize = 20;

/// What is in the store.
#[derive(Debug)]
pub(super) enum Holds {
    These(Names),
    /// So many that to list them would keep the developer waiting.
    Many,
}

#[derive(Debug, Default)]
pub(super) struct Names {
    count: usize,
    /// The first ones.
    names: Vec<String>,
}

impl Holds {
    fn text(&self) -> String {
        match self {
            Self::These(names) => names.text(),
            Self::Many => "thousands of secrets".to_owned(),
        }
    }

    fn count(&self) -> Option<usize> {
        match self {
            Self::These(names) => Some(names.count),
            Self::Many => None,
        }
    }
}

impl Names {
    pub(super) fn add(&mut self, name: &str) {
        self.count += 1;
        if self.names.len() < NAMES {
            self.names.push(name.to_owned());
        }
    }

    fn text(&self) -> String {
        let (names, others) = (self.names.join(", "), self.count - self.names.len());
        match (self.count, others) {
            (0, _) => "no secret yet".to_owned(),
            (1, _) => format!("1 secret: {names}"),
            (count, 0) => format!("{count} secrets: {names}"),
            (count, others) => format!("{count} secrets: {names} and {others} others"),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Welcome {
    address: String,
    tenant: String,
    #[serde(serialize_with = "shown")]
    token: Zeroizing<String>,
    /// `None` where it is kept in memory.
    data: Option<String>,
    #[serde(serialize_with = "counted")]
    secrets: Holds,
    #[serde(skip)]
    prefix: NamePrefix,
}

/// The one place where a token is printed besides the mint.
fn shown<S: Serializer>(token: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(token)
}

fn counted<S: Serializer>(holds: &Holds, serializer: S) -> Result<S::Ok, S::Error> {
    holds.count().serialize(serializer)
}

impl Welcome {
    pub(super) fn of(
        address: String,
        token: Zeroizing<String>,
        home: &Home,
        folder: Option<&DataFolder>,
        secrets: Holds,
    ) -> Self {
        let Home { data: _, tenant, prefix } = home;
        let data = folder.map(|folder| folder.path().display().to_string());
        Self { address, tenant: tenant.to_string(), token, data, secrets, prefix: prefix.clone() }
    }

    pub(super) fn environment(&self) -> Zeroizing<String> {
        let Self { address, tenant, token, .. } = self;
        Zeroizing::new(format!(
            "export TENURE_ADDR={address}\nexport TENURE_TENANT={tenant}\nexport \
             TENURE_TOKEN={}\n",
            token.as_str()
        ))
    }

    pub(super) fn text(&self) -> String {
        let Self { address: url, tenant, token, data, secrets, prefix } = self;
        let (token, prefix) = (token.as_str(), prefix.as_str());
        let (kept, load) = match data {
            Some(folder) => {
                let file = Path::new(folder).join(ENV_FILE);
                let file = std::path::absolute(&file).unwrap_or(file);
                (folder.clone(), format!(". {}", shell_quoted(&file)))
            }
            None => {
                let variables = self.environment().replace("export ", "").replace('\n', " ");
                ("memory, until it stops".to_owned(), format!("export {}", variables.trim()))
            }
        };
        let tenure = how_to_call_it();
        // Pasted elsewhere, no file of the project says it.
        let of_project =
            if prefix.is_empty() { String::new() } else { format!(" --prefix {prefix}") };
        let holds = secrets.text();
        format!(
            "tenure dev is ready\n\n  \
             address  {url}\n  tenant   {tenant}\n  data     {kept}\n  docs     {url}/api/docs\n  \
             token    {token}\n  holds    {holds}\n\n\
             Store a secret, read it, list the names (paste into another shell):\n\n  \
             {load} && {tenure} put{of_project} greeting hello\n  \
             {load} && {tenure} get{of_project} greeting\n  \
             {load} && {tenure} list{of_project}\n\n\
             The same secret over HTTP:\n\n  \
             {load} && curl -sS \"$TENURE_ADDR/api/$TENURE_TENANT/secrets/{prefix}greeting\" -H \
             \"Authorization: Bearer $TENURE_TOKEN\"\n\n\
             Ctrl-C stops it.\n"
        )
    }
}

/// `tenure` where a shell finds this program by that name, else its path.
fn how_to_call_it() -> String {
    let Ok(ours) = std::env::current_exe().and_then(std::fs::canonicalize) else {
        return "tenure".to_owned();
    };
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join("tenure"));
    let found: Option<PathBuf> = found.into_iter().find(|path| path.is_file());
    let is_ours = found.is_some_and(|path| std::fs::canonicalize(path).is_ok_and(|p| p == ours));
    if is_ours { "tenure".to_owned() } else { shell_quoted(&ours) }
}

/// As one word of a POSIX shell.
fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_holds_is_named_up_to_twenty() {
        let holds = |count: usize| {
            let mut holds = Names::default();
            (0..count).for_each(|n| holds.add(&format!("n{n}")));
            holds.text()
        };
        assert_eq!(holds(0), "no secret yet");
        assert_eq!(holds(1), "1 secret: n0");
        assert_eq!(holds(2), "2 secrets: n0, n1");
        assert!(holds(20).ends_with(", n19"), "{}", holds(20));
        assert!(holds(22).ends_with(", n19 and 2 others"), "{}", holds(22));
    }
}
