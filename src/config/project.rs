//! What a project's `.tenure.toml` may say: which tenant, and what its names begin with.

use serde::Deserialize;

use super::profiles::unreadable;
use crate::domain::{NamePrefix, TenantName};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectFile {
    pub tenant: Option<TenantName>,
    pub prefix: Option<NamePrefix>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    tenant: Option<String>,
    prefix: Option<String>,
}

/// Reads the text of a project's file. The sentence of an error repeats no value: one
/// may be a credential that does not belong there.
pub fn project(text: &str) -> Result<ProjectFile, String> {
    let Written { tenant, prefix } = toml::from_str(text).map_err(|error: toml::de::Error| {
        format!("{}; it may say tenant and prefix, and never a credential", unreadable(error))
    })?;
    let tenant = tenant.map(|name| TenantName::parse(&name)).transpose();
    let prefix = prefix.map(|prefix| NamePrefix::parse(&prefix)).transpose();
    Ok(ProjectFile {
        tenant: tenant.map_err(|error| format!("tenant {error}"))?,
        prefix: prefix.map_err(|error| format!("prefix {error}"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_says_tenant_and_prefix() {
        let said = project("tenant = 'acme'\nprefix = \"shop-\"\n").unwrap();
        assert_eq!(said.tenant, Some(TenantName::parse("acme").unwrap()));
        assert_eq!(said.prefix, Some(NamePrefix::parse("shop-").unwrap()));
        assert_eq!(project("").unwrap(), ProjectFile::default());
    }

    #[test]
    fn what_else_it_says_is_refused_and_not_repeated() {
        for text in [
            "token = 'hunter2'",
            "tenant = 'acme'\naddr = 'https://hunter2.example'",
            "tenant = 'hunter2/'",
            "prefix = 'hunter2/'",
            "tenant = hunter2",
            "tenant = ['hunter2']",
            "hunter2 = 1",
        ] {
            let refusal = project(text).unwrap_err();
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
        assert!(project("token = 'x'").unwrap_err().contains("never a credential"));
    }
}
