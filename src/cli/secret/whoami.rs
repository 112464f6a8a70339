//! `tenure whoami`: which server, which tenant and as whom, and where each was said. Never
//! the credential.

use clap::Args;
use serde::Serialize;

use super::super::clock::SystemClock;
use super::super::failure::CliError;
use super::super::maintain::{Output, lined_up};
use super::known::Known;
use super::target::{Target, TargetArgs};
use crate::client::ClientError;
use crate::domain::{Clock, NamePrefix, Timestamp};

#[derive(Debug, Args)]
pub(in crate::cli) struct WhoamiArgs {
    #[command(flatten)]
    target: TargetArgs,
}

/// The exit code is the server's verdict; what is known is shown all the same.
pub(in crate::cli) async fn whoami(args: WhoamiArgs, output: Output) -> Result<(), CliError> {
    let target = Target::find(&args.target)?;
    let now = SystemClock.read().wall;
    // What is no credential by its looks is for the server to judge.
    let known = Known::of(&target.server.credential).ok();
    let mut who = Who::of(&target, known.as_ref(), now);
    let opened = target.open();
    let verdict = match opened {
        Ok((client, names)) => match client.first_names(&NamePrefix::default(), 1).await {
            Ok(_) => Ok(Verdict::Accepted),
            Err(ClientError::Refused(refusal)) if refusal.status == 403 => Ok(Verdict::MayNotList),
            Err(error) => Err(names.place.failed(error)),
        },
        Err(error) => Err(error),
    };
    who.heard(&verdict);
    output.show(&who, || who.text())?;
    verdict.map(drop)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accepted,
    MayNotList,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Who {
    address: Said,
    tenant: Said,
    /// `None`: names are whole.
    prefix: Option<Said>,
    credential: CredentialSaid,
    /// `None`: the server was not reached.
    accepted: Option<bool>,
    #[serde(skip)]
    server: String,
}

#[derive(Serialize)]
struct Said {
    value: String,
    from: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CredentialSaid {
    from: String,
    /// `None`: it does not look like any.
    kind: Option<&'static str>,
    subject: Option<String>,
    /// Of another issuer's.
    issuer: Option<String>,
    scopes: Option<Vec<&'static str>>,
    expires: Option<String>,
    narrowed_to: Option<Vec<String>>,
    #[serde(skip)]
    until: String,
}

impl Who {
    fn of(target: &Target, known: Option<&Known>, now: Timestamp) -> Self {
        let Target { server, source: _, prefix, origins } = target;
        let said = |value: &dyn std::fmt::Display, from: &dyn std::fmt::Display| Said {
            value: value.to_string(),
            from: from.to_string(),
        };
        Self {
            address: said(&server.address, &origins.address),
            tenant: said(&server.tenant, &origins.tenant),
            prefix: origins.prefix.as_ref().map(|origin| said(&prefix.as_str(), origin)),
            credential: CredentialSaid::of(known, origins.credential.to_string(), now),
            accepted: None,
            server: String::new(),
        }
    }

    fn heard(&mut self, verdict: &Result<Verdict, CliError>) {
        let (accepted, server) = match verdict {
            Ok(Verdict::Accepted) => (Some(true), "accepts it"),
            Ok(Verdict::MayNotList) => (Some(true), "accepts it, and does not let it list here"),
            Err(error) if error.exit == super::super::failure::Exit::Denied => {
                (Some(false), "does not accept it")
            }
            Err(_) => (None, "did not say"),
        };
        (self.accepted, self.server) = (accepted, server.to_owned());
    }

    fn text(&self) -> String {
        let Self { address, tenant, prefix, credential, accepted: _, server } = self;
        let shown = |said: &Said| format!("{}  (from {})", said.value, said.from);
        let mut lines = vec![("address", shown(address)), ("tenant", shown(tenant))];
        lines.extend(prefix.as_ref().map(|prefix| ("prefix", shown(prefix))));
        lines.extend(credential.lines());
        lines.push(("server", server.clone()));
        lined_up(lines)
    }
}

impl CredentialSaid {
    fn of(known: Option<&Known>, from: String, now: Timestamp) -> Self {
        let nothing = Self {
            from,
            kind: known.map(Known::kind),
            subject: None,
            issuer: None,
            scopes: None,
            expires: None,
            narrowed_to: None,
            until: known.map_or_else(String::new, |known| known.until(now)),
        };
        match known {
            Some(Known::Token(inspection)) => Self {
                subject: Some(inspection.subject.clone()),
                scopes: Some(inspection.scopes.clone()),
                expires: Some(inspection.expires.clone()),
                narrowed_to: Some(inspection.narrowed_to.clone()),
                ..nothing
            },
            Some(Known::ApiKey { id }) => Self { subject: Some(format!("tnr_{id}")), ..nothing },
            Some(Known::OtherIssuer(claims)) => Self {
                subject: claims.subject.clone(),
                issuer: claims.issuer.clone(),
                expires: known.and_then(Known::expires),
                ..nothing
            },
            None => nothing,
        }
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let Self { from, kind, subject, issuer, scopes, expires: _, narrowed_to, until } = self;
        let kind = match kind {
            Some("token") => "a token",
            Some("apiKey") => "an API key; what it may do, the server knows",
            Some(_) => "a token of another issuer; what it may do, the server knows",
            None => "it looks like no token and no API key",
        };
        let mut lines = vec![("credential", format!("{kind}  (from {from})"))];
        lines.extend(subject.as_ref().map(|subject| ("subject", subject.clone())));
        lines.extend(issuer.as_ref().map(|issuer| ("issuer", issuer.clone())));
        lines.extend(scopes.as_ref().map(|scopes| ("scopes", scopes.join(", "))));
        let narrowed = narrowed_to.iter().flatten();
        lines.extend(narrowed.map(|sentence| ("narrowed", sentence.clone())));
        if !until.is_empty() {
            lines.push(("expiry", until.clone()));
        }
        lines
    }
}
