//! Why a request came to nothing, and what may be done about it.

use std::path::PathBuf;

use crate::api::problem::{Code, FieldErrors, Problem};

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{} cannot be read: {cause}", path.display())]
    CaUnreadable { path: PathBuf, cause: std::io::Error },
    #[error("{} holds no certificate in PEM form", path.display())]
    CaEmpty { path: PathBuf },
    #[error("TLS cannot be set up ({0}); install ca-certificates, or name a CA with --ca")]
    Setup(String),
    #[error("the credential holds characters that no header can carry: is it whole?")]
    Credential,
    /// Nothing was sent.
    #[error("{address} cannot be reached: {cause}")]
    Unreachable { address: String, cause: String },
    /// Nothing was sent. What the proxy is told of who asks is not in `proxy`.
    #[error(
        "{address} cannot be reached through the proxy {proxy}: {cause}; mend HTTPS_PROXY or \
         ALL_PROXY, or name the host in NO_PROXY, if it needs none"
    )]
    Proxy { address: String, proxy: String, cause: String },
    /// Nothing was sent, and trying again would not help.
    #[error(
        "{address} shows a certificate that is not trusted ({cause}); if the address is right, \
         name the CA that vouches for it with --ca"
    )]
    Untrusted { address: String, cause: String },
    /// Of a request that changes nothing.
    #[error("{address} gave no answer: {cause}")]
    NoAnswer { address: String, cause: String },
    /// It was sent, and its answer was lost.
    #[error(
        "the answer of {address} was lost ({cause}): it may have been done; look before you do it \
         again"
    )]
    Unknown { address: String, cause: String },
    #[error(transparent)]
    Refused(Box<Refusal>),
    #[error(
        "{address} answered with status {status}, and not as Tenure does: is it the address of one?"
    )]
    Foreign { address: String, status: u16 },
    #[error("the answer of {address} is not understood: is it of another version?")]
    Answer { address: String },
}

/// What a server said no with.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    pub status: u16,
    /// Stable; [`Refusal::is`] compares it.
    pub code: String,
    pub detail: String,
    pub errors: Option<FieldErrors>,
}

impl Refusal {
    pub(super) fn of(problem: Problem) -> Self {
        let Problem { status, detail, code, errors, type_urn: _, title: _, instance: _ } = problem;
        Self { status, code: code.into_owned(), detail: detail.into_owned(), errors }
    }

    /// To HEAD, of which an answer has no body.
    pub(super) fn without_body(status: u16) -> Self {
        let code = Code::EVERY.iter().find(|code| code.status() == status);
        let (code, detail) =
            code.map_or(("", "The server refused"), |code| (code.as_str(), code.title()));
        Self { status, code: code.to_owned(), detail: format!("{detail}."), errors: None }
    }

    pub fn is(&self, code: Code) -> bool {
        self.code == code.as_str()
    }

    /// Nothing is valid there.
    pub(super) fn is_absence(&self) -> bool {
        self.is(Code::NotFound)
    }

    /// Nothing was changed, and the same request may succeed a moment later.
    pub(super) fn passes_soon(&self) -> bool {
        [Code::Unavailable, Code::Starting, Code::RateLimited, Code::TenantRateLimit]
            .into_iter()
            .any(|code| self.is(code))
    }
}
