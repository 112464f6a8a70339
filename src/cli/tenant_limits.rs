//! `tenure tenant show` and `tenure tenant limit`.

use super::access;
use super::args::{StoreArgs, TenantLimitArgs};
use super::failure::CliError;
use super::maintain::{Output, lined_up, size};
use crate::api::admin::{Command, LimitChange, LimitRow, OtherLimits, Reply, TenantLimitRows};
use crate::domain::ByteSize;

pub(super) async fn show(name: String, store: &StoreArgs, output: Output) -> Result<(), CliError> {
    let reply = access::execute(store, Command::TenantShow { name }).await?;
    output.show(&reply, || shown_text(&reply))
}

pub(super) async fn limit(args: TenantLimitArgs, output: Output) -> Result<(), CliError> {
    let TenantLimitArgs { name, secrets, bytes, requests_per_second, unlimited, default, store } =
        args;
    let others = match (unlimited, default) {
        (true, _) => OtherLimits::Unlimited,
        (_, true) => OtherLimits::Default,
        _ => OtherLimits::Kept,
    };
    let bytes = bytes.map(ByteSize::get);
    let change = LimitChange { secrets, bytes, requests_per_second, others };
    let reply = access::execute(&store, Command::TenantLimit { name, change }).await?;
    output.show(&reply, || match &reply {
        Reply::TenantLimited { name, limits } => limited_text(name, limits),
        _ => String::new(),
    })
}

fn shown_text(reply: &Reply) -> String {
    let Reply::TenantShown { tenant, secrets, bytes, limits } = reply else {
        return String::new();
    };
    let TenantLimitRows { secrets: of_secrets, bytes: of_bytes, requests_per_second } = limits;
    let rate = bound(*requests_per_second, |number| format!("at most {number} a second"));
    lined_up([
        ("tenant", tenant.name.clone()),
        ("id", tenant.id.clone()),
        ("created", tenant.created_on.clone()),
        ("secrets", format!("{secrets}, {}", bound(*of_secrets, |max| format!("at most {max}")))),
        ("bytes", format!("{}, {}", size(*bytes), bound(*of_bytes, at_most_bytes))),
        ("requests", rate),
    ])
}

fn limited_text(name: &str, limits: &TenantLimitRows) -> String {
    let TenantLimitRows { secrets, bytes, requests_per_second } = limits;
    format!("the limits of tenant '{name}'\n")
        + &lined_up([
            ("secrets", bound(*secrets, |max| format!("at most {max}"))),
            ("bytes", bound(*bytes, at_most_bytes)),
            ("requests", bound(*requests_per_second, |max| format!("at most {max} a second"))),
        ])
}

fn at_most_bytes(max: u64) -> String {
    format!("at most {}", ByteSize::bytes(max))
}

fn bound(limit: LimitRow, words: impl Fn(u64) -> String) -> String {
    let LimitRow { max, own } = limit;
    let said = max.map_or_else(|| "no limit".to_owned(), words);
    if own { format!("{said} (its own)") } else { said }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_said_with_its_unit_and_whose_it_is() {
        let row = |max, own| LimitRow { max, own };
        let limits = TenantLimitRows {
            secrets: row(Some(10), true),
            bytes: row(Some(100 << 20), false),
            requests_per_second: row(None, true),
        };
        assert_eq!(
            limited_text("acme", &limits),
            "the limits of tenant 'acme'\nsecrets     at most 10 (its own)\n\
             bytes       at most 100MiB\nrequests    no limit (its own)\n"
        );
    }
}
