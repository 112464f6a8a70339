//! What can be typed, and the help that teaches it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::TimeSpan;

#[derive(Debug, Parser)]
#[command(
    name = "tenure",
    version,
    about = "A self-hosted secret store with validity windows that are enforced",
    after_help = "First steps:\n  \
        tenure dev                 a local store, a token and three commands to paste\n  \
        tenure init --config F     a store for a server; then: tenure serve --config F\n\n\
        Exit codes: 0 done, 1 internal, 2 usage, 3 not found, 4 conflict, 5 unavailable,\n\
        6 clock disputed, 7 damage found. Colour only on a terminal; NO_COLOR turns it off.",
    arg_required_else_help = true
)]
pub(super) struct Cli {
    /// Print machine-readable JSON on standard output
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a local development store: no setup, data in ./.tenure
    #[command(after_help = "Example:\n  tenure dev\n  . ./.tenure/dev.env   # in another shell: \
        TENURE_ADDR, TENURE_TENANT, TENURE_TOKEN")]
    Dev(DevArgs),
    /// Make a new store, and its KEK where there is none
    #[command(after_help = "Example:\n  tenure init --config /etc/tenure/tenure.toml\n  \
        tenure init --data /srv/tenure      # the KEK goes to /srv/tenure.kek\n\n\
        Copy the KEK to a safe place: without it the data cannot be read.")]
    Init(StoreArgs),
    /// Serve a store over HTTP
    #[command(after_help = "Example:\n  tenure serve --config /etc/tenure/tenure.toml\n\n\
        SIGTERM finishes what is under way and stops; SIGHUP reads the TLS certificate again.")]
    Serve(ServeArgs),
    /// Create, list or delete tenants
    Tenant(TenantArgs),
    /// Mint or inspect tokens
    Token(TokenArgs),
    /// Remove what has expired
    #[command(after_help = "Example:\n  tenure sweep --retain 24h --dry-run\n  \
        tenure sweep --tenant acme\n\nA server sweeps on its own; see sweep.every and \
        sweep.retain in the configuration.")]
    Sweep(SweepArgs),
    /// Show version, tenants, secrets by state, clock, last sweep and free space
    #[command(after_help = "Example:\n  tenure status --data ./.tenure\n  tenure status --json")]
    Status(StoreArgs),
    /// Settle a dispute about the time
    Clock(ClockArgs),
    /// Give back the space of what was deleted or replaced
    #[command(after_help = "Example:\n  tenure compact --dry-run     # sizes, and what would be \
        done\n  tenure compact\n  tenure compact --all         # no deleted ciphertext stays on \
        the disk\n\nA database is written anew beside the old one, while the server goes on: that \
        takes up to\ntwice the space that lives in it.")]
    Compact(CompactArgs),
    /// Read and decrypt everything, and tell what is damaged or missing
    #[command(after_help = "Example:\n  tenure verify\n  tenure verify --tenant acme --rate 2000 \
        --json\n\nWorks on a running server as well. Exit code 7: damage was found.")]
    Verify(VerifyArgs),
}

/// Which store.
#[derive(Debug, Clone, Args)]
pub(super) struct StoreArgs {
    /// Configuration file [default: /etc/tenure/tenure.toml where it exists]
    #[arg(long, env = "TENURE_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Data folder, instead of the configuration's; maintenance commands without
    /// either use ./.tenure where it exists
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct DevArgs {
    /// Address and port; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:7300", value_name = "ADDR")]
    pub(super) listen: SocketAddr,
    /// Where the data is kept between runs
    #[arg(long, default_value = "./.tenure", value_name = "DIR")]
    pub(super) data: PathBuf,
    /// Keep everything in memory and forget it at the end
    #[arg(long, conflicts_with = "data")]
    pub(super) ephemeral: bool,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Only this tenant; else every tenant, the keyring and the system
    #[arg(long, value_name = "NAME")]
    pub(super) tenant: Option<String>,
    /// Rows read in a second, at most [default: 20000 on a running server, else as
    /// many as can be]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rate: Option<u32>,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    pub(super) store: StoreArgs,
    /// Address and port, instead of the configuration's
    #[arg(long, value_name = "ADDR")]
    pub(super) listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tenure tenant create acme\n  tenure tenant list --json\n  \
    tenure tenant delete acme --yes")]
pub(super) struct TenantArgs {
    #[command(subcommand)]
    pub(super) command: TenantCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum TenantCommand {
    /// Create a tenant
    #[command(after_help = "Example:\n  tenure tenant create acme")]
    Create {
        /// 1 to 64 of A-Z a-z 0-9 - _
        name: String,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// List tenants
    #[command(after_help = "Example:\n  tenure tenant list")]
    List {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Delete a tenant: its keys first, then its secrets; there is no way back
    #[command(
        after_help = "Example:\n  tenure tenant delete acme          # asks for the name\n  \
        tenure tenant delete acme --yes    # for scripts"
    )]
    Delete {
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        store: StoreArgs,
    },
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tenure token mint --tenant acme --scope Secret.Read --ttl 1h\n  \
    tenure token inspect < token.txt"
)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    pub(super) command: TokenCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Mint a token and print it, alone, on standard output
    #[command(after_help = "Example:\n  tenure token mint --tenant acme --scope Secret.Read \
        --scope Secret.Write --ttl 8h --subject ci\n\nScopes: Secret.Read (get, list), \
        Secret.Write (put, delete), * (all in the tenant).")]
    Mint {
        #[arg(long)]
        tenant: String,
        /// Secret.Read, Secret.Write or *; may be given more than once
        #[arg(long, required = true)]
        scope: Vec<String>,
        /// How long it is good for: 30m, 1h, 7d
        #[arg(long, default_value = "1h")]
        ttl: TimeSpan,
        /// Who it is for; shown in logs
        #[arg(long, default_value = "cli")]
        subject: String,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Say in plain words what a token allows, and until when
    ///
    /// Needs no server and no keys; it does not check the signature.
    #[command(after_help = "Example:\n  tenure token inspect < token.txt\n  \
        TENURE_TOKEN=... tenure token inspect\n\nThe token is read from standard input or \
        TENURE_TOKEN; an argument would show in the list of processes.")]
    Inspect {
        /// The token; better on standard input or in TENURE_TOKEN
        token: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    /// Only this tenant
    #[arg(long)]
    pub(super) tenant: Option<String>,
    /// Keep what expired more recently than this
    #[arg(long, default_value = "0s")]
    pub(super) retain: TimeSpan,
    /// Only say how many would be removed
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(super) struct CompactArgs {
    /// Only this database; otherwise those over 16 MiB of which two thirds are garbage
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    pub(super) database: Option<String>,
    /// Every database, whatever it holds
    #[arg(long)]
    pub(super) all: bool,
    /// Only show what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tenure clock accept")]
pub(super) struct ClockArgs {
    #[command(subcommand)]
    pub(super) command: ClockCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum ClockCommand {
    /// Declare the machine's present time to be right
    ///
    /// A clock that jumped by more than a minute, or that was behind the last
    /// known time at a start, or more than 30 days past it, is disputed: nothing
    /// is swept by it. Set the clock right first, then accept it.
    #[command(after_help = "Example:\n  tenure status          # shows now and the latest \
        undisputed time\n  date                   # is that right?\n  tenure clock accept")]
    Accept {
        #[command(flatten)]
        store: StoreArgs,
    },
}
