//! Names in paths, decoded strictly and by us.
//!
//! actix decodes `%00`, turns `%FF` into U+FFFD and lets `a%` pass. Here a path
//! segment is a name or it is refused; nothing is repaired.

use std::borrow::Cow;

use crate::api::problem::{Code, FieldErrors};
use crate::auth::ApiKeyId;
use crate::domain::{SecretName, TenantName};

use super::problem::Refused;

pub(super) const TENANT_FIELD: &str = "tenantId";
pub(super) const KEY_FIELD: &str = "key";
pub(super) const ID_FIELD: &str = "id";

/// Both names of a secret's path; all faults are told at once.
pub(super) fn secret(tenant: &str, key: &str) -> Result<(TenantName, SecretName), Refused> {
    let tenant = decoded(tenant, TenantName::parse);
    let key = decoded(key, SecretName::parse);
    match (tenant, key) {
        (Ok(tenant), Ok(key)) => Ok((tenant, key)),
        (tenant, key) => Err(invalid([(TENANT_FIELD, tenant.err()), (KEY_FIELD, key.err())])),
    }
}

/// The same for an API key's path.
pub(super) fn api_key(tenant: &str, id: &str) -> Result<(TenantName, ApiKeyId), Refused> {
    let tenant = decoded(tenant, TenantName::parse);
    match (tenant, decoded(id, ApiKeyId::parse)) {
        (Ok(tenant), Ok(id)) => Ok((tenant, id)),
        (tenant, id) => Err(invalid([(TENANT_FIELD, tenant.err()), (ID_FIELD, id.err())])),
    }
}

pub(super) fn tenant(tenant: &str) -> Result<TenantName, Refused> {
    decoded(tenant, TenantName::parse).map_err(|why| invalid([(TENANT_FIELD, Some(why))]))
}

/// The name in a secret's path, for who needs no reason where there is none.
pub(super) fn secret_name(key: &str) -> Option<SecretName> {
    decoded(key, SecretName::parse).ok()
}

/// The same of an API key's path.
pub(super) fn api_key_id(id: &str) -> Option<ApiKeyId> {
    decoded(id, ApiKeyId::parse).ok()
}

type Why = Cow<'static, str>;

fn invalid<const N: usize>(faults: [(&str, Option<Why>); N]) -> Refused {
    let told = faults.into_iter().filter_map(|(field, why)| Some((field.to_owned(), vec![why?])));
    Refused::new(Code::InvalidName, "A name in the path is not valid; errors says which and why.")
        .with_errors(told.collect::<FieldErrors>())
}

fn decoded<T, E: std::fmt::Display>(
    raw: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, Why> {
    if !raw.contains('%') {
        return parse(raw).map_err(|error| error.to_string().into());
    }
    let text = percent_decode(raw).ok_or("is not well-formed percent-encoded UTF-8")?;
    parse(&text).map_err(|error| error.to_string().into())
}

/// `None` where it is not well-formed, or not UTF-8.
pub(super) fn percent_decode(raw: &str) -> Option<String> {
    let mut bytes = raw.bytes();
    let mut decoded = Vec::with_capacity(raw.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_name_is_the_name() {
        let (tenant, key) = secret("%61cme", "db%2Dpass%5f1").unwrap();
        assert_eq!((tenant.as_str(), key.as_str()), ("acme", "db-pass_1"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            "", "a/b", "..", "%2E%2E", "%00", "a%00", "a%2Fb", "%", "a%", "a%4", "%G0", "%+1",
            "%FF", "%C3%A4", "ä", "a b", "a%20b", "a%0A", ".lock", "a+b", "%2561",
        ] {
            assert!(tenant(bad).is_err(), "{bad}");
            assert!(secret("t", bad).is_err(), "{bad}");
        }
        assert!(secret("t", &"k".repeat(127)).is_ok() && secret("t", &"k".repeat(128)).is_err());
        assert!(tenant(&"t".repeat(64)).is_ok() && tenant(&"t".repeat(65)).is_err());
    }

    #[test]
    fn both_faults_are_told() {
        let refused = secret("", "a b").unwrap_err();
        let fields: Vec<_> = refused.errors().unwrap().keys().cloned().collect();
        assert_eq!(fields, [KEY_FIELD, TENANT_FIELD]);
    }
}
