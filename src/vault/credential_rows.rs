//! API keys and revocations as the system's rows hold them.

use super::codec::{self, Malformed, Reader};
use crate::auth::{
    ApiKey, ApiKeyId, CredentialKind, Identity, Revocation, RevocationId, RevocationTarget, Subject,
};
use crate::crypto::ApiKeyTag;
use crate::domain::{ScopeSet, TenantId, Timestamp};

/// A key, and when it was last used, as of some hour.
pub(super) type StoredApiKey = (ApiKey, Option<Timestamp>);

const API_KEY_FORMAT: u8 = 1;

pub(super) fn encode_api_key(key: &ApiKey, last_used: Option<Timestamp>) -> Vec<u8> {
    let ApiKey { id, tenant, name, scopes, created_on, expires_on, tag } = key;
    let mut out = vec![API_KEY_FORMAT];
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(tenant.as_bytes());
    out.extend_from_slice(tag.as_bytes());
    out.push(scopes.byte());
    out.extend_from_slice(&created_on.unix_micros().to_be_bytes());
    codec::put_optional_timestamp(&mut out, *expires_on);
    codec::put_optional_timestamp(&mut out, last_used);
    // No name is empty.
    codec::put_text(&mut out, name.as_ref().map_or("", Subject::as_str));
    out
}

pub(super) fn decode_api_key(bytes: &[u8]) -> Result<StoredApiKey, Malformed> {
    let mut fields = Reader::new(bytes);
    fields.format(API_KEY_FORMAT)?;
    let (id, tenant) =
        (ApiKeyId::from_bytes(fields.array()?), TenantId::from_bytes(fields.array()?));
    let tag = ApiKeyTag::from_bytes(fields.array()?);
    let scopes = ScopeSet::from_byte(fields.byte()?).ok_or(Malformed)?;
    let created_on = fields.timestamp()?;
    let (expires_on, last_used) = (fields.optional_timestamp()?, fields.optional_timestamp()?);
    let name = match fields.text()? {
        "" => None,
        name => Some(Subject::parse(name).map_err(|_| Malformed)?),
    };
    fields.end()?;
    Ok((ApiKey { id, tenant, name, scopes, created_on, expires_on, tag }, last_used))
}

const TOKEN: u8 = 1;
const SUBJECT: u8 = 2;
const TENANT: u8 = 3;

/// What a revocation is about; one target has one encoding, from which its row's key
/// is made.
pub(super) fn encode_target(target: &RevocationTarget) -> Vec<u8> {
    match target {
        RevocationTarget::Token(id) => [&[TOKEN], id.as_bytes().as_slice()].concat(),
        RevocationTarget::Subject(tenant, Identity { kind, issuer, subject }) => {
            let mut out = [&[SUBJECT], tenant.as_bytes().as_slice()].concat();
            out.push(kind_byte(*kind));
            // No issuer is empty.
            codec::put_text(&mut out, issuer.as_deref().unwrap_or(""));
            codec::put_text(&mut out, subject.as_str());
            out
        }
        RevocationTarget::Tenant(tenant) => [&[TENANT], tenant.as_bytes().as_slice()].concat(),
    }
}

pub(super) fn decode_target(bytes: &[u8]) -> Result<RevocationTarget, Malformed> {
    let mut fields = Reader::new(bytes);
    let target = read_target(&mut fields)?;
    fields.end()?;
    Ok(target)
}

fn read_target(fields: &mut Reader<'_>) -> Result<RevocationTarget, Malformed> {
    Ok(match fields.byte()? {
        TOKEN => RevocationTarget::Token(RevocationId::from_bytes(fields.array()?)),
        SUBJECT => {
            let tenant = TenantId::from_bytes(fields.array()?);
            let kind = kind_of(fields.byte()?)?;
            let issuer = Some(fields.text()?).filter(|issuer| !issuer.is_empty()).map(Into::into);
            let subject = Subject::parse(fields.text()?).map_err(|_| Malformed)?;
            RevocationTarget::Subject(tenant, Identity { kind, issuer, subject })
        }
        TENANT => RevocationTarget::Tenant(TenantId::from_bytes(fields.array()?)),
        _ => return Err(Malformed),
    })
}

fn kind_byte(kind: CredentialKind) -> u8 {
    match kind {
        CredentialKind::Biscuit => 1,
        CredentialKind::ApiKey => 2,
        CredentialKind::Oidc => 3,
    }
}

fn kind_of(byte: u8) -> Result<CredentialKind, Malformed> {
    use CredentialKind::{ApiKey, Biscuit, Oidc};
    [Biscuit, ApiKey, Oidc].into_iter().find(|kind| kind_byte(*kind) == byte).ok_or(Malformed)
}

const REVOCATION_FORMAT: u8 = 1;

pub(super) fn encode_revocation(target: &RevocationTarget, revocation: &Revocation) -> Vec<u8> {
    let Revocation { before, token_tenant, revoked_on, keep_until } = revocation;
    let mut out = vec![REVOCATION_FORMAT];
    codec::put_optional_timestamp(&mut out, *before);
    match token_tenant {
        None => out.push(0),
        Some(tenant) => {
            out.push(1);
            out.extend_from_slice(tenant.as_bytes());
        }
    }
    out.extend_from_slice(&revoked_on.unix_micros().to_be_bytes());
    out.extend_from_slice(&keep_until.unix_micros().to_be_bytes());
    out.extend_from_slice(&encode_target(target));
    out
}

pub(super) fn decode_revocation(bytes: &[u8]) -> Result<(RevocationTarget, Revocation), Malformed> {
    let mut fields = Reader::new(bytes);
    fields.format(REVOCATION_FORMAT)?;
    let before = fields.optional_timestamp()?;
    let token_tenant = match fields.byte()? {
        0 => None,
        1 => Some(TenantId::from_bytes(fields.array()?)),
        _ => return Err(Malformed),
    };
    let (revoked_on, keep_until) = (fields.timestamp()?, fields.timestamp()?);
    let target = read_target(&mut fields)?;
    fields.end()?;
    Ok((target, Revocation { before, token_tenant, revoked_on, keep_until }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Scope;

    fn moment() -> impl Strategy<Value = Timestamp> {
        any::<i64>().prop_map(Timestamp::from_unix_micros)
    }

    fn tenant() -> impl Strategy<Value = TenantId> {
        any::<[u8; 16]>().prop_map(TenantId::from_bytes)
    }

    fn subject() -> impl Strategy<Value = Subject> {
        "[a-zä世\" ]{1,128}".prop_map(|text| Subject::parse(&text).unwrap())
    }

    fn scopes() -> impl Strategy<Value = ScopeSet> {
        prop::sample::subsequence(Scope::EVERY.to_vec(), 0..=3)
            .prop_map(|s| s.into_iter().collect())
    }

    fn api_key() -> impl Strategy<Value = ApiKey> {
        let ids = (any::<[u8; 8]>(), tenant(), any::<[u8; 32]>());
        let expiry = prop::option::of(moment());
        (ids, prop::option::of(subject()), scopes(), moment(), expiry).prop_map(
            |((id, tenant, tag), name, scopes, created_on, expires_on)| ApiKey {
                id: ApiKeyId::from_bytes(id),
                tenant,
                name,
                scopes,
                created_on,
                expires_on,
                tag: ApiKeyTag::from_bytes(tag),
            },
        )
    }

    fn target() -> impl Strategy<Value = RevocationTarget> {
        let kind = prop::sample::select(vec![
            CredentialKind::Biscuit,
            CredentialKind::ApiKey,
            CredentialKind::Oidc,
        ]);
        let issuer = prop::option::of("https://[a-z]{1,300}".prop_map(Into::into));
        let identity = (kind, issuer, subject()).prop_map(|(kind, issuer, subject)| Identity {
            kind,
            issuer,
            subject,
        });
        prop_oneof![
            prop::array::uniform32(any::<[u8; 2]>()).prop_map(|halves| {
                let bytes: Vec<u8> = halves.concat();
                RevocationTarget::Token(RevocationId::from_bytes(bytes.try_into().unwrap()))
            }),
            (tenant(), identity).prop_map(|(id, who)| RevocationTarget::Subject(id, who)),
            tenant().prop_map(RevocationTarget::Tenant),
        ]
    }

    fn revocation() -> impl Strategy<Value = Revocation> {
        (prop::option::of(moment()), prop::option::of(tenant()), moment(), moment()).prop_map(
            |(before, token_tenant, revoked_on, keep_until)| Revocation {
                before,
                token_tenant,
                revoked_on,
                keep_until,
            },
        )
    }

    proptest! {
        #[test]
        fn an_api_key_survives_its_encoding(key in api_key(), last_used in prop::option::of(moment())) {
            let encoded = encode_api_key(&key, last_used);
            prop_assert!(encoded.len() < 1_000);
            prop_assert_eq!(decode_api_key(&encoded), Ok((key, last_used)));
            for length in 0..encoded.len() {
                prop_assert_eq!(decode_api_key(&encoded[..length]), Err(Malformed));
            }
        }

        #[test]
        fn a_revocation_survives_its_encoding(target in target(), revocation in revocation()) {
            prop_assert_eq!(decode_target(&encode_target(&target)), Ok(target.clone()));
            let encoded = encode_revocation(&target, &revocation);
            prop_assert!(encoded.len() < 3_000);
            prop_assert_eq!(decode_revocation(&encoded), Ok((target, revocation)));
            for length in 0..encoded.len() {
                prop_assert_eq!(decode_revocation(&encoded[..length]), Err(Malformed));
            }
        }

        #[test]
        fn any_bytes_decode_or_err(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok((key, last_used)) = decode_api_key(&bytes) {
                prop_assert_eq!(encode_api_key(&key, last_used), bytes.clone());
            }
            if let Ok((target, revocation)) = decode_revocation(&bytes) {
                prop_assert_eq!(encode_revocation(&target, &revocation), bytes);
            }
        }
    }
}
