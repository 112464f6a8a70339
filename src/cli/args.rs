//! What can be typed, and the help that teaches it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};

use super::audit::AuditArgs;
use super::completions::CompletionsArgs;
use super::failure::CliError;
use super::man::ManArgs;
use super::secret::{CopyArgs, EditArgs, ExistsArgs, GetArgs, HoldArgs, ListArgs, PutArgs, RmArgs};
use super::secret::{EndedByArgs, RenderArgs, RunArgs, SupervisedArgs};
use super::secret::{ExportArgs, ImportArgs};
use super::secret::{LoginArgs, LogoutArgs, ProfileArgs, WhoamiArgs};

use crate::api::admin::When;
use crate::config::{KekSource, TimeSpan};
use crate::domain::{ByteSize, NamePrefix, SecretName, Timestamp};

#[derive(Debug, Parser)]
#[command(
    name = "tenure",
    version,
    about = "A self-hosted secret store with validity windows that are enforced",
    after_help = "First steps:\n  \
        tenure dev                 a local store; then, in another shell here:\n  \
        tenure put db-password     asks for the value\n  \
        tenure list\n  \
        tenure get db-password\n  \
        tenure run -- printenv DB_PASSWORD      any command, with them as variables\n\n\
        Elsewhere: 'tenure login' stores the address of a server and a credential for it.\n\
        A server of your own: 'tenure init --config F', then 'tenure serve --config F'.\n\n\
        Exit codes: 0 done, 1 internal, 2 usage, 3 not found, 4 conflict, 5 unavailable,\n\
        6 clock disputed, 7 damage found, 8 denied, 9 it may have been done, 130 Ctrl-C;\n\
        of 'tenure run': 126, 127, and those of its command.\n\
        Colour only on a terminal; NO_COLOR turns it off.",
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
    /// Print the value of a secret, and nothing else
    #[command(after_help = "Example:\n  tenure get db-password\n  \
        psql \"$(tenure get database-url)\"\n\nThe value ends with a line break on a terminal only. \
        --json adds version and window.")]
    Get(GetArgs),
    /// Store a secret, or replace its value and window
    #[command(
        after_help = "Example:\n  tenure put db-password                    # asks, and does not \
        show what is typed\n  tenure put api-key --generate 32 --expires 30d\n  \
        tenure put tls-key @key.pem --not-before 2026-12-31\n  \
        pass show db | tenure put db-password -\n\n\
        A value among the words of a command stays in the history of the shell, and others see it \
        in the\nlist of processes: type it when asked, or use -, @FILE or --generate. What is read \
        is kept to the\nbyte, a line break at its end too ('printf %s' writes none); the end of a \
        typed line is not part of\nit. A window that is not said has no ends, whatever was stored \
        before.\n\n\
        WHEN is a length of time from now, a date (its first moment in UTC), or RFC 3339, with or \
        without\nseconds. Exit code 4: --if-absent or --if-version did not hold."
    )]
    Put(PutArgs),
    /// List the names of secrets
    #[command(after_help = "Example:\n  tenure list\n  tenure list shop- --long\n  \
        tenure list --expiring-within 14d\n  tenure list --long --json\n\n\
        On a terminal, what ends within 7 days is yellow, and what is not valid yet is dim.")]
    List(ListArgs),
    /// Store the secrets of a dotenv, JSON or YAML file
    ///
    /// What is stored already with the same value and window is left alone. What exists and
    /// differs is replaced after a question, or with --replace. It is stored in batches of up
    /// to 100, each whole or not at all; broken off, the same command goes on.
    #[command(after_help = "Example:\n  tenure import .env --dry-run\n  tenure import .env\n  \
        tenure import secrets.yaml --replace --expires 90d\n  \
        ssh old-server cat shop.json | tenure import - --format json --keep\n\n\
        JSON and YAML: an object of names, each with text or null, or with\n\
        {\"value\": ..., \"expiresOn\"?: ..., \"notBefore\"?: ...}; YAML that could be read otherwise\n\
        than as text (no, 1e3, 2030-01-31) must be quoted. Dotenv: NAME=value, 'literal', or\n\
        \"with \\n\"; a $ before a name is refused outside of single quotes. --dry-run shows + for\n\
        what is new and ~ for what differs. What is not valid yet cannot be read, and counts as\n\
        different. Needs Secret.Read and Secret.Write. Exit code 130: broken off by Ctrl-C.")]
    Import(ImportArgs),
    /// Write all secrets as dotenv, JSON or YAML
    ///
    /// 'tenure import' takes it back unchanged; windows only with --with-windows, and names not
    /// from dotenv, where db-password is DB_PASSWORD. Each secret is as it is when it is read:
    /// where others write meanwhile, the file is not a picture of one moment. What is not valid
    /// yet is left out, and named.
    #[command(after_help = "Example:\n  tenure export -o shop.env\n  \
        tenure export shop- --format json --with-windows -o shop.json\n  \
        tenure export --format yaml | age -r age1... > shop.yaml.age\n\n\
        FILE is readable by you alone, is there only once it is whole, and takes no other file's\n\
        place without --force. Dotenv says neither null nor windows, and its names are those of\n\
        variables, as 'tenure run' has them; two that would be one are refused.")]
    Export(ExportArgs),
    /// Edit a secret in an editor, on a file that is in memory alone
    #[command(after_help = "Example:\n  tenure edit app-config\n  \
        VISUAL='code --wait' tenure edit app-config\n\n\
        The editor is VISUAL, EDITOR, vi or nano, with options if need be. The file is in a folder \
        of yours\non a tmpfs (XDG_RUNTIME_DIR, else /dev/shm), which is removed at every end, \
        after kill -9 too. Vim and\nNeovim are told to write no swap, backup, undo or history \
        files; see to it that another editor keeps\ncopies beside the file alone. TMPDIR is that \
        folder.\n\n\
        The window stays as it was, unless it is said. A line break that the editor adds to a value \
        without\none is taken off. Where somebody else changed the secret meanwhile, you are asked \
        what to do, and\nyour text is kept until you have said it.")]
    Edit(EditArgs),
    /// Copy the value of a secret to the clipboard, and take it away again
    #[command(after_help = "Example:\n  tenure copy db-password\n  \
        tenure copy db-password --clear-after 2m\n\n\
        A process stays in the background and holds it until then, or until something else is \
        copied. Managers\nof clipboards are asked not to keep it. Exit code 5: there is no \
        clipboard here.")]
    Copy(CopyArgs),
    /// Tell by the exit code whether a secret is valid now: 0, or 3
    #[command(after_help = "Example:\n  tenure exists db-password && echo there\n\n\
        Prints nothing. Other codes are failures: 5 the server cannot be reached, 8 the credential \
        may not\nread it.")]
    Exists(ExistsArgs),
    /// Delete secrets; there is no way back
    #[command(after_help = "Example:\n  tenure rm db-password               # asks first\n  \
        tenure rm db-password db-user --yes\n  tenure rm db-password --dry-run\n\n\
        Where standard input is no terminal, --yes is needed. Exit code 3: not all of them were \
        there; the\nothers are deleted.")]
    Rm(RmArgs),
    /// Stands beside 'tenure edit', and removes its folder when it is gone
    #[command(
        hide = true,
        after_help = "Example:\n  tenure guard-edit   # started by 'tenure edit'"
    )]
    GuardEdit,
    /// Stands beside 'tenure copy', and holds the clipboard
    #[command(
        hide = true,
        after_help = "Example:\n  tenure hold-clipboard --for-ms 1   # started by 'tenure copy'"
    )]
    HoldClipboard(HoldArgs),
    /// Store the address of a server, and a credential for it
    ///
    /// The credential, a token or an API key, is asked for without being shown, or read from
    /// standard input; it is never an argument, which would show in the list of processes. One
    /// request proves it. It is stored in the keyring of the desktop, or in a file that only
    /// you can read.
    #[command(
        after_help = "Example:\n  tenure login --addr https://tenure.example --tenant acme\n  \
        tenure login --profile work < token.txt\n\nThe first profile is the default one; \
        'tenure profile use NAME' chooses another. Again with the\nsame profile, it takes the \
        credential's place."
    )]
    Login(LoginArgs),
    /// Remove a profile and its credential from this machine
    #[command(after_help = "Example:\n  tenure logout\n  tenure logout --profile work\n\nThe \
        credential goes on being good where else it is known: 'tenure token revoke' and \
        'tenure\napi-key revoke' end one.")]
    Logout(LogoutArgs),
    /// List the servers that 'tenure login' stored, or choose the default one
    Profile(ProfileArgs),
    /// Say which server, which tenant and as whom, and where each was said
    #[command(after_help = "Example:\n  tenure whoami\n  tenure whoami --profile work --json\n\n\
        The exit code is 0 where the server accepts the credential, 8 where it does not, and 5 \
        where it\ncannot be reached. The credential itself is not shown.")]
    Whoami(WhoamiArgs),
    /// Print a script that completes words for bash, zsh or fish
    ///
    /// It asks this program what may follow, and the server for names of secrets. Those are
    /// kept for ten seconds in a file that only you can read, in $XDG_CACHE_HOME/tenure or
    /// ~/.cache/tenure; TENURE_COMPLETE_NAMES=off keeps the server from being asked.
    #[command(after_help = "Example:\n  tenure completions fish | source\n\n\
        In ~/.bashrc:                    source <(tenure completions bash)\n\
        In ~/.zshrc, after compinit:     source <(tenure completions zsh)\n\
        In ~/.config/fish/config.fish:   tenure completions fish | source")]
    Completions(CompletionsArgs),
    /// Print the manual page of this program, or write one for every command
    #[command(after_help = "Example:\n  tenure man | man -l -\n  \
        tenure man --dir ~/.local/share/man/man1     # then: man tenure-get")]
    Man(ManArgs),
    /// Run a command with secrets as environment variables
    #[command(after_help = "Example:\n  tenure run -- ./server\n  \
        tenure run --env PGPASSWORD=db-password -- psql -h db shop\n  \
        tenure run --watch --fallback ~/.cache/shop.secrets -- ./server --port 80\n\n\
        Without --env: all secrets of the project that are valid now, 'db-password' as \
        DB_PASSWORD.\nWith it: those that it names; --all adds the others. A null value is left \
        out. Names that make no\nvariable, the same one twice, or one that steers programs (PATH, \
        LD_PRELOAD, ...) are refused.\nSecrets replace variables that are set; the credential of \
        tenure is taken out.\n\nThe command takes the place of tenure: signals and the exit code \
        are its own. 127: there is no\nsuch command; 126: it cannot be run; other failures before \
        it starts have the codes of tenure.\n\n--watch stays as its parent: on a change it sends \
        SIGTERM, after 10 seconds SIGKILL, and starts it\nwith the new values. While the server is \
        away it goes on with what it has. A secret that expires is\ntaken away; if --env names it, \
        the command is stopped and the exit code is 3.\n\n--fallback is used where the server \
        cannot be reached or fails (5xx), never where it says no.")]
    Run(RunArgs),
    /// Fill a template with secrets
    #[command(after_help = "Example:\n  tenure render app.conf.tmpl -o /run/app/app.conf\n  \
        tenure render --check app.conf.tmpl\n\nIn the template:\n  \
        {{ secret \"db-password\" }}           the value\n  \
        {{ secret \"db-password\" | json }}    in quotes, as JSON; also | base64 and | url\n  \
        {{ \"{{\" }}                            braces as they are\n\n\
        FILE is replaced as a whole or not at all, is for its owner alone unless --mode says \
        otherwise, and\nbelongs to who runs this. A symbolic link is not followed.")]
    Render(RenderArgs),
    #[command(hide = true)]
    Supervised(SupervisedArgs),
    #[command(hide = true)]
    EndedBy(EndedByArgs),
    /// Run a local development store: no setup, data in ./.tenure
    ///
    /// In a project with a .tenure.toml its tenant is made, and the data is beside that file,
    /// from subfolders too. Stores of several folders run beside one another.
    #[command(after_help = "Example:\n  tenure dev\n  . ./.tenure/dev.env   # in another shell: \
        TENURE_ADDR, TENURE_TENANT, TENURE_TOKEN\n  tenure dev --import .env\n  tenure dev --seed \
        secrets/\n  tenure dev stop\n\nCommands such as 'tenure get' find it by themselves, in its \
        folder and below. The folder is\nignored by git: it has a .gitignore of its own, and in a \
        repository a line is added to the\nproject's. Hidden files and folders of --seed are passed \
        over. --ephemeral writes no file;\nother shells take the line that it prints.")]
    Dev(DevArgs),
    /// Make a new store, and its KEK where there is none
    #[command(after_help = "Example:\n  tenure init --config /etc/tenure/tenure.toml\n  \
        tenure init --data /srv/tenure      # the KEK goes to /srv/tenure.kek\n  \
        tenure init --config F --shares 5 --threshold 3     # with kek.source = \"shamir\"\n\n\
        Says how the KEK is protected. Copy it to a safe place: without it the data cannot be \
        read.\nA passphrase (kek.source) is asked for twice. With shares there is no KEK to copy: \
        each share\ngoes to another person, and a server starts sealed.")]
    Init(InitArgs),
    /// Serve a store over HTTP
    #[command(after_help = "Example:\n  tenure serve --config /etc/tenure/tenure.toml\n\n\
        SIGTERM finishes what is under way and stops; SIGHUP reads the configuration and the TLS\n\
        certificate again; SIGUSR2 changes over to a new binary in its place. It listens on the\n\
        socket that systemd hands over, where there is one, and tells systemd how it fares.")]
    Serve(ServeArgs),
    /// Give a sealed server its key: one share, or what kek.source names
    #[command(
        after_help = "Example:\n  tenure unseal                   # asks for a share, and does \
        not show it\n  tenure unseal < share-1-of-5.txt\n  tenure unseal --reset           # drop the \
        shares given so far\n\nWhere the KEK comes from shares, each who holds one runs this, within \
        10 minutes of the one\nbefore, until it says that the server serves. Otherwise the server \
        reads its KEK again."
    )]
    Unseal(UnsealArgs),
    /// Take the keys out of a running server: every call is 503 until it is unsealed
    #[command(
        after_help = "Example:\n  tenure seal          # asks first\n  tenure seal --yes    # \
        for scripts\n\nRequests under way are finished first. Where the KEK comes from a file, the \
        environment or a\nprogram, a restart unseals by itself."
    )]
    Seal(SealArgs),
    /// Create, list, show, limit or delete tenants
    Tenant(TenantArgs),
    /// Mint, narrow, inspect or revoke tokens, and rotate the key that signs them
    Token(TokenArgs),
    /// Create, list or revoke API keys
    ApiKey(ApiKeyArgs),
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
    /// Try who is told of secrets that come to their end
    Notify(NotifyArgs),
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
    /// Show what was done, and by whom
    Audit(AuditArgs),
    /// Write backups, check them, restore them
    Backup(BackupArgs),
    /// Draw new data-encryption keys, and see which there are
    Dek(DekArgs),
    /// Check the key-encryption key, replace it, or change where it comes from
    Kek(KekArgs),
    /// Check the configuration of a server, or show where each value comes from
    Config(ConfigArgs),
}

impl Command {
    /// Whether it opens no store, and speaks to a server over HTTP.
    pub(super) fn is_of_a_client(&self) -> bool {
        matches!(
            self,
            Self::Get(_)
                | Self::Put(_)
                | Self::List(_)
                | Self::Edit(_)
                | Self::Copy(_)
                | Self::Exists(_)
                | Self::Rm(_)
                | Self::Import(_)
                | Self::Export(_)
                | Self::Login(_)
                | Self::Logout(_)
                | Self::Profile(_)
                | Self::Whoami(_)
                | Self::Completions(_)
                | Self::Man(_)
                | Self::Run(_)
                | Self::Render(_)
                | Self::Supervised(_)
                | Self::EndedBy(_)
        )
    }
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
pub(super) struct InitArgs {
    #[command(flatten)]
    pub(super) store: StoreArgs,
    #[command(flatten)]
    pub(super) split: SplitArgs,
}

/// For a KEK in shares.
#[derive(Debug, Args)]
pub(super) struct SplitArgs {
    /// Into how many shares the KEK is split, at most 32; for kek.source = "shamir" [default:
    /// 5, or as many as before]
    #[arg(long, value_name = "N")]
    pub(super) shares: Option<u8>,
    /// How many of them are needed, at least 2 [default: 3, or as many as before]
    #[arg(long, value_name = "K")]
    pub(super) threshold: Option<u8>,
    /// Write each share to a file of its own in this folder, instead of showing it
    #[arg(long, value_name = "DIR")]
    pub(super) shares_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct UnsealArgs {
    /// Drop the shares given so far, and give none
    #[arg(long)]
    pub(super) reset: bool,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(super) struct SealArgs {
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct DevArgs {
    #[command(flatten)]
    pub(super) run: DevRunArgs,
    #[command(subcommand)]
    pub(super) command: Option<DevCommand>,
}

#[derive(Debug, Args)]
pub(super) struct DevRunArgs {
    /// Address and port; port 0 picks a free one [default: the first of 127.0.0.1:7300 to
    /// 7310 that is free]
    #[arg(long, value_name = "ADDR")]
    pub(super) listen: Option<SocketAddr>,
    /// Where the data is kept between runs [default: .tenure beside the project's
    /// .tenure.toml, else ./.tenure]
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Keep everything in memory and forget it at the end
    #[arg(long, conflicts_with = "data")]
    pub(super) ephemeral: bool,
    /// Store the secrets of a dotenv, JSON or YAML file first; what exists is replaced. May be
    /// given more than once
    #[arg(long, value_name = "FILE")]
    pub(super) import: Vec<PathBuf>,
    /// Store what is missing of the files of a folder first: each a secret of its name, or a
    /// file of secrets (.env, .json, .yaml)
    #[arg(long, value_name = "DIR")]
    pub(super) seed: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum DevCommand {
    /// Say whether it runs, where, and how many secrets it holds
    #[command(
        after_help = "Example:\n  tenure dev status\n  tenure dev status --json\n\nExit code 3: it \
        does not run. Of the nearest folder above that has a local store."
    )]
    Status {
        /// Its data, instead of the nearest .tenure
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Stop it in good order, and wait until it is gone; what it holds is kept
    #[command(
        after_help = "Example:\n  tenure dev stop\n\nExit code 3: it does not run. One with \
        --ephemeral is stopped where it runs."
    )]
    Stop {
        /// Its data, instead of the nearest .tenure
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Remove the local store with all its secrets; there is no way back
    #[command(after_help = "Example:\n  tenure dev reset --dry-run\n  tenure dev reset        # \
        asks first\n  tenure dev reset --yes  # for scripts\n\nRemoves what 'tenure dev' made in its \
        folder, and nothing else. Refuses while it runs.")]
    Reset(DevResetArgs),
}

#[derive(Debug, Args)]
pub(super) struct DevResetArgs {
    /// Its data [default: as of tenure dev]
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
    /// Only say what would be removed
    #[arg(long)]
    pub(super) dry_run: bool,
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
#[command(after_help = "Example:\n  tenure config check --config /etc/tenure/tenure.toml\n  \
    tenure config show")]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    pub(super) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check whether a server would take the configuration
    #[command(after_help = "Example:\n  tenure config check --config /etc/tenure/tenure.toml\n\n\
        Looks at the file and the TENURE_* variables; reads no key, opens no store. Exit code 2:\n\
        it would be refused, and the message says where.")]
    Check {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Show every key: its value, and which file, variable or flag said it
    #[command(
        after_help = "Example:\n  tenure config show\n  tenure config show --config F --json\n\n\
        What may hold a key by mistake is not shown."
    )]
    Show {
        #[command(flatten)]
        store: StoreArgs,
    },
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
    tenure tenant limit acme --secrets 1000\n  tenure tenant delete acme --yes")]
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
    /// Show what a tenant has and may have
    ///
    /// Secrets that expired count until a sweep removes them. The bytes are those of the
    /// values, as UTF-8. They are counted now, unless a limit has the server count them
    /// anyway.
    #[command(after_help = "Example:\n  tenure tenant show acme\n  tenure tenant show acme --json")]
    Show {
        name: String,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Limit what a tenant may have and how often it may ask
    Limit(TenantLimitArgs),
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
    group = ArgGroup::new("limits").required(true).multiple(true)
        .args(["secrets", "bytes", "requests_per_second", "unlimited", "default"]),
    after_help = "Example:\n  tenure tenant limit acme --secrets 1000 --bytes 100MiB\n  \
        tenure tenant limit acme --requests-per-second 50\n  \
        tenure tenant limit acme --unlimited\n  \
        tenure tenant limit acme --default       # as [limits.tenant] says again\n\n\
        A limit takes effect at once and nothing is removed: beyond it, what would add is \
        refused, and what replaces by no more or deletes goes on."
)]
pub(super) struct TenantLimitArgs {
    pub(super) name: String,
    /// How many secrets it may have; 0 for no limit
    #[arg(long, value_name = "N")]
    pub(super) secrets: Option<u64>,
    /// How many bytes its values may have together; 0 for no limit
    #[arg(long, value_name = "SIZE")]
    pub(super) bytes: Option<ByteSize>,
    /// How many requests a second it may make; 0 for no limit
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=10_000_000))]
    pub(super) requests_per_second: Option<u64>,
    /// No limits, but those that are said here
    #[arg(long, conflicts_with = "default")]
    pub(super) unlimited: bool,
    /// The configuration's limits, but for those that are said here
    #[arg(long)]
    pub(super) default: bool,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tenure token mint --tenant acme --scope Secret.Read --ttl 1h\n  \
    tenure token attenuate --prefix ci- --ttl 10m < token.txt\n  \
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
        Secret.Write (put, delete), * (all in the tenant).\nA token for the server itself \
        (Server.Admin) reads /metrics and nothing else:\n  tenure token mint --server-admin \
        --ttl 90d --subject prometheus")]
    Mint {
        /// Whose secrets it is for
        #[arg(long, required_unless_present = "server_admin")]
        tenant: Option<String>,
        /// Secret.Read, Secret.Write or *; may be given more than once
        #[arg(long, required_unless_present = "server_admin")]
        scope: Vec<String>,
        /// For the server itself: it reads /metrics, and belongs to no tenant
        #[arg(long, conflicts_with_all = ["tenant", "scope"])]
        server_admin: bool,
        /// How long it is good for: 30m, 1h, 7d
        #[arg(long, default_value = "1h")]
        ttl: TimeSpan,
        /// Who it is for; shown in logs
        #[arg(long, default_value = "cli")]
        subject: String,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Narrow a token and print the new one, alone, on standard output
    ///
    /// Needs no server and no keys. What is left out stays as it was; nothing can be
    /// added. The token that it was made from goes on allowing what it did.
    #[command(after_help = "Example:\n  \
        tenure token attenuate --read-only --prefix ci- --ttl 10m < token.txt > job.txt\n  \
        TENURE_TOKEN=... tenure token attenuate --name db-password --name db-user\n\n\
        The token is read from standard input or TENURE_TOKEN; an argument would show in the \
        list of processes.\nA list by the new token shows the names that it may read.")]
    Attenuate(AttenuateArgs),
    /// Take from a token that it can be narrowed, and print the new one, alone
    ///
    /// Needs no server and no keys. What it allows stays the same.
    #[command(after_help = "Example:\n  tenure token seal < token.txt > sealed.txt\n  \
        tenure token attenuate --prefix ci- < token.txt | tenure token seal\n\n\
        The token is read from standard input or TENURE_TOKEN.")]
    Seal,
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
    /// End tokens, from the next request on; there is no way back
    #[command(after_help = "Example:\n  tenure token revoke --token - < leaked.txt\n  \
        tenure token revoke --subject ci --tenant acme --dry-run\n  \
        tenure token revoke --tenant acme --before 2030-01-31T12:00:00Z\n\n\
        What is minted afterwards holds. A token is ended with everything narrowed from it; the\n\
        tokens that it was narrowed from go on, unless the first id of 'tenure token inspect' is\n\
        revoked with --id.")]
    Revoke(RevokeArgs),
    /// List what was revoked and is not forgotten yet
    ///
    /// A revocation is forgotten 30 days after the last token that it ends has expired.
    #[command(
        after_help = "Example:\n  tenure token list\n  tenure token list --tenant acme --json"
    )]
    List {
        /// Only of this tenant
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 1000)]
        limit: usize,
        /// Those that follow a page
        #[arg(long, value_name = "NEXT")]
        after: Option<String>,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Draw a new root key, which signs from now on
    #[command(after_help = "Example:\n  tenure token rotate-root --honour-old-until 7d\n  \
        tenure token rotate-root --now       # every token minted so far ends at once\n\n\
        Choose a date by which every token in use has expired or was replaced. API keys are not\n\
        touched.")]
    RotateRoot {
        /// Until when tokens of the old roots hold: 7d, RFC 3339, or a date
        #[arg(long, value_name = "WHEN", required_unless_present = "now", conflicts_with = "now")]
        honour_old_until: Option<WhenArg>,
        /// Not at all: whoever has the old root has nothing
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Show the root keys: which signs, and until when the others are honoured
    #[command(after_help = "Example:\n  tenure token roots")]
    Roots {
        #[command(flatten)]
        store: StoreArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// The token on standard input (-) or, without a value, in TENURE_TOKEN: this one, and
    /// everything narrowed from it
    #[arg(long, value_name = "-", num_args = 0..=1, value_parser = ["-"],
        conflicts_with_all = ["id", "subject", "issuer", "before", "tenant"])]
    pub(super) token: Option<Option<String>>,
    /// The same, by a revocation id, which 'tenure token inspect' shows of each block
    #[arg(long, value_name = "HEX", conflicts_with_all = ["subject", "before", "tenant"])]
    pub(super) id: Option<String>,
    /// All tokens minted so far for this subject; needs --tenant
    #[arg(long, value_name = "NAME", requires = "tenant", conflicts_with = "before")]
    pub(super) subject: Option<String>,
    /// The subject is this issuer's, as in [[oidc]] of the configuration: all its access tokens
    /// issued so far
    #[arg(long, value_name = "URL", requires = "subject")]
    pub(super) issuer: Option<String>,
    /// In this tenant
    #[arg(long, value_name = "NAME")]
    pub(super) tenant: Option<String>,
    /// Every token minted, and every API key made, before this moment: RFC 3339, a date, or
    /// now; needs --tenant
    #[arg(long, value_name = "TIME", requires = "tenant")]
    pub(super) before: Option<WhenArg>,
    /// Only say what would be revoked
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tenure api-key create --tenant acme --scope Secret.Read \
    --name backup-job\n  tenure api-key list\n  tenure api-key revoke 0123456789abcdef\n\n\
    An API key is sent as X-API-KEY. To rotate one, create the next, hand it out, and revoke\n\
    the old one when 'tenure api-key list' shows that nobody uses it.")]
pub(super) struct ApiKeyArgs {
    #[command(subcommand)]
    pub(super) command: ApiKeyCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum ApiKeyCommand {
    /// Create an API key and print it, alone, on standard output; it is shown only now
    #[command(after_help = "Example:\n  tenure api-key create --tenant acme --scope Secret.Read \
        --expires 90d --name backup-job\n\nScopes: Secret.Read (get, list), Secret.Write (put, \
        delete), * (both; an API key never manages\nother keys).")]
    Create {
        #[arg(long)]
        tenant: String,
        /// Secret.Read, Secret.Write or *; may be given more than once
        #[arg(long, required = true)]
        scope: Vec<String>,
        /// When it ends: 30d, RFC 3339, or a date [default: when it is revoked]
        #[arg(long, value_name = "WHEN")]
        expires: Option<WhenArg>,
        /// What it is for; for people
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// List API keys, without their secrets, and when each was last used (to the hour)
    #[command(after_help = "Example:\n  tenure api-key list\n  tenure api-key list --tenant acme \
        --json")]
    List {
        /// Only of this tenant
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// End an API key, from the next request on; there is no way back
    #[command(after_help = "Example:\n  tenure api-key revoke 0123456789abcdef --dry-run\n  \
        tenure api-key revoke 0123456789abcdef\n\nThe id is the 16 digits between 'tnr_' and the \
        next '_' of the key. Never type the whole\nkey: it would show in the list of processes.")]
    Revoke {
        /// 16 hexadecimal digits
        id: String,
        /// Only say which it is
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        store: StoreArgs,
    },
}

/// A moment: `now`, a length of time from now, RFC 3339, or a date, which is its first
/// moment in UTC.
#[derive(Debug, Clone)]
pub(super) struct WhenArg(pub(super) When);

impl std::str::FromStr for WhenArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "now" {
            return Ok(Self(When::Now));
        }
        if let Ok(span) = text.parse::<TimeSpan>() {
            return Ok(Self(When::InSeconds(span.as_duration().as_secs())));
        }
        match Timestamp::parse(&spelled_out(text)) {
            Ok(at) => Ok(Self(When::At(at.to_string()))),
            Err(_) => Err("must be a length of time such as 30d, an RFC 3339 date-time such as \
                           2030-01-31T12:00:00Z, a date such as 2030-01-31, or now"),
        }
    }
}

/// With what may be left out: the time of a date, the seconds of a time.
fn spelled_out(text: &str) -> String {
    match text.split_at_checked(16) {
        Some((minutes, offset)) if offset.starts_with(['Z', '+', '-']) => {
            format!("{minutes}:00{offset}")
        }
        None if text.len() == 10 => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    }
}

impl WhenArg {
    pub(super) fn moment(&self, now: Timestamp) -> Result<Timestamp, CliError> {
        match &self.0 {
            When::Now => Ok(now),
            When::InSeconds(seconds) => {
                let moment = now.saturating_add(Duration::from_secs(*seconds));
                // RFC 3339 knows no later year.
                const LAST: Timestamp = Timestamp::from_unix_seconds(253_402_300_799);
                if moment > LAST {
                    return Err(CliError::usage("that is after the year 9999"));
                }
                Ok(moment)
            }
            When::At(text) => Timestamp::parse(text).map_err(CliError::usage),
        }
    }
}

#[derive(Debug, Args)]
#[group(id = "narrowing", required = true, multiple = true)]
pub(super) struct AttenuateArgs {
    /// Only get and list, neither put nor delete
    #[arg(long)]
    pub(super) read_only: bool,
    /// Only the secret of this name; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub(super) name: Vec<SecretName>,
    /// Only secrets whose name begins so; may be given more than once, and beside --name
    #[arg(long, value_name = "P")]
    pub(super) prefix: Vec<NamePrefix>,
    /// Only for so long from now: 10m, 1h
    #[arg(long, value_name = "D")]
    pub(super) ttl: Option<TimeSpan>,
    /// Only from this moment on, such as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "T")]
    pub(super) not_before: Option<Timestamp>,
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
#[command(after_help = "Example:\n  tenure dek list\n  tenure dek rotate --tenant acme\n  \
    tenure dek rotate --rewrite\n\n\
    A server rotates by itself; see dek.rotate_after in the configuration. The key that these\n\
    are wrapped under is the KEK: 'tenure kek rotate' changes that one.")]
pub(super) struct DekArgs {
    #[command(subcommand)]
    pub(super) command: DekCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum DekCommand {
    /// Draw a new key for each tenant, which encrypts from now on
    ///
    /// Requests go on meanwhile. What was encrypted before stays readable under its old
    /// key; with --rewrite it is encrypted anew, and then the old keys are destroyed.
    #[command(after_help = "Example:\n  tenure dek rotate --dry-run\n  \
        tenure dek rotate --tenant acme\n  \
        tenure dek rotate --rewrite --rate 500    # at most 500 secrets a second\n\n\
        A rewriting that was interrupted goes on by itself in a running server, after a restart\n\
        too. Values keep their version and ETag. Old ciphertext stays in the files until 'tenure\n\
        compact --all', without a key that opens it; backups made before hold the old keys.")]
    Rotate {
        /// Only of this tenant; else of all, and of the system
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        /// Encrypt anew what is under the old keys, and destroy those
        #[arg(long)]
        rewrite: bool,
        /// Secrets encrypted anew in a second, at most; 0 is as many as can be [default:
        /// dek.rewrite_rate of the configuration]
        #[arg(long, value_name = "N", requires = "rewrite")]
        rate: Option<u32>,
        /// Only say what would be rotated
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// List the keys by tenant: which encrypts, which only decrypt, and since when
    #[command(after_help = "Example:\n  tenure dek list\n  tenure dek list --tenant acme --json")]
    List {
        /// Only of this tenant
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        #[command(flatten)]
        store: StoreArgs,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tenure notify test")]
pub(super) struct NotifyArgs {
    #[command(subcommand)]
    pub(super) command: NotifyCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum NotifyCommand {
    /// Send a signed test to the webhook of the configuration, once
    ///
    /// It says nothing of any secret, and needs no server: the command itself sends it.
    #[command(after_help = "Example:\n  tenure notify test\n  tenure notify test --config \
        /etc/tenure/tenure.toml\n\nThe configuration's notify.url and notify.secret_file say \
        whom to tell and what signs it.")]
    Test {
        #[command(flatten)]
        store: StoreArgs,
    },
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

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tenure backup create /backup/monday.backup\n  \
    tenure backup verify /backup/monday.backup\n  \
    tenure backup restore /backup/monday.backup --data /srv/tenure --credentials keep\n\n\
    A backup holds ciphertext only: without the KEK of its time it cannot be restored.\n\
    Keep that KEK, and keep it apart. A server writes backups by itself; see backup.every,\n\
    backup.folder and backup.keep in the configuration.")]
pub(super) struct BackupArgs {
    #[command(subcommand)]
    pub(super) command: BackupCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum BackupCommand {
    /// Write everything into a new file, while the server goes on serving
    ///
    /// Each tenant is in it as of one moment. The file is readable by its owner only and
    /// has its name only once it is whole; until then it is FILE.partial.
    #[command(after_help = "Example:\n  tenure backup create monday.backup\n  \
        tenure backup create - | ssh elsewhere 'cat > monday.backup'\n\n\
        An existing file is not written over. Exit code 7: the backup was written, without\n\
        tenants that are damaged.")]
    Create {
        /// A file that does not exist yet, or - for standard output
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Read and decrypt all of a backup, and restore nothing
    ///
    /// Needs the KEK and no store.
    #[command(after_help = "Example:\n  tenure backup verify monday.backup\n  \
        tenure backup verify monday.backup --kek-file old.kek --json\n\n\
        Exit code 7: it is damaged, cut off or altered, or holds what was damaged already.")]
    Verify {
        /// The backup, or - for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The KEK of the backup's time, instead of the configuration's
        #[arg(long, value_name = "FILE")]
        kek_file: Option<PathBuf>,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Make a store of a backup, or one tenant of it beside others
    ///
    /// A whole store is made in an empty or new data folder, with the same tenants and
    /// ids; it exists only once all of the backup was read and proved. One tenant (--tenant,
    /// --as) is made anew in an existing store, whether or not a server runs on it, and
    /// without credentials.
    #[command(after_help = "Example:\n  \
        tenure backup restore monday.backup --data /srv/tenure --credentials revoke\n  \
        tenure backup restore monday.backup --credentials keep --dry-run\n  \
        tenure backup restore monday.backup --tenant acme --as acme-monday\n\n\
        keep: tokens and API keys of before the backup are good again, those revoked since as well.\n\
        revoke: no token or API key of before is good.\n\n\
        After a whole restore of a backup older than 30 days, or where the clock is behind the\n\
        backup's, nothing is swept until 'tenure clock accept'.")]
    Restore(RestoreArgs),
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup, or - for standard input
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// What becomes of tokens and API keys of before; must be said for a whole store
    #[arg(long, value_enum, required_unless_present = "tenant", conflicts_with = "tenant")]
    pub(super) credentials: Option<CredentialsArg>,
    /// A whole store but this tenant, whose secrets were damaged; may be given more than
    /// once
    #[arg(long, value_name = "NAME", conflicts_with = "tenant")]
    pub(super) without: Vec<String>,
    /// Only this tenant
    #[arg(long, value_name = "NAME", requires = "new_name")]
    pub(super) tenant: Option<String>,
    /// What the restored tenant will be called; no tenant may have this name
    #[arg(long = "as", value_name = "NEW", requires = "tenant")]
    pub(super) new_name: Option<String>,
    /// Read and prove everything, say what would be restored, and restore nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// The KEK of the backup's time, where it is not the one of the configuration. What is
    /// restored is under the configuration's, which is made where there is none
    #[arg(long, value_name = "FILE")]
    pub(super) backup_kek_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum CredentialsArg {
    Keep,
    Revoke,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tenure kek check\n  tenure kek rotate --dry-run\n  \
    tenure kek rewrap --to passphrase\n\n\
    The KEK wraps the keys that secrets are encrypted with. kek.source in the configuration\n\
    says where it comes from: file, env, credential, passphrase, command or shamir.")]
pub(super) struct KekArgs {
    #[command(subcommand)]
    pub(super) command: KekCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum KekCommand {
    /// Prove that the configured source gives the KEK of the store, and say how it is protected
    ///
    /// On a running server too: the KEK is read and proved here, and not sent.
    #[command(after_help = "Example:\n  tenure kek check\n  tenure kek check --json\n\n\
        Run it after every change of kek.source, before the server is started again.")]
    Check {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Make a new KEK and print it, alone; nothing is stored
    #[command(
        after_help = "Example:\n  tenure kek generate | age -r age1... > /etc/tenure/kek.age\
        \n  (umask 077; tenure kek generate > new.kek)\n\n\
        For sources that tenure cannot write to; see --new-kek of 'tenure kek rotate'."
    )]
    Generate,
    /// Put the store under a new KEK from the same source, while the server serves
    ///
    /// When it says that it is done, the old KEK opens nothing of the store any more.
    /// Backups made until then need it still. Broken off anywhere, the store is under one
    /// of the two, and the same command again goes on.
    #[command(after_help = "Example:\n  tenure kek rotate --dry-run\n  tenure kek rotate\n  \
        tenure kek generate > new.kek && tenure kek rotate --new-kek new.kek\n\n\
        file: the new KEK is written to FILE.new, the store comes under it, and FILE.new gets\n\
        the name of FILE; the old one becomes FILE.<fingerprint>. A start that finds the store\n\
        under FILE.new takes that, and does the renaming.\n\
        env, credential, command: make the new KEK, keep it, and name it with --new-kek. Put it\n\
        where it is read from before the next start; 'tenure kek check' proves it.\n\
        passphrase: asks for a new one twice; where no server runs, for the old one first.\n\
        shamir: shows new shares, and goes on when they are kept; the old ones are of no use then.")]
    Rotate(RotateArgs),
    /// Put the store under a new KEK from another source, while the server serves
    ///
    /// The new KEK is made where it will be read from, or had from there, before the store
    /// comes under it. Then the configuration must be changed; which lines is said.
    #[command(after_help = "Example:\n  tenure kek rewrap --to passphrase\n  \
        tenure kek rewrap --to file /etc/tenure/kek\n  \
        tenure kek rewrap --to command           # kek.command is set, and prints a new KEK\n  \
        tenure kek rewrap --to credential --new-kek new.kek\n  \
        tenure kek rewrap --to shamir --shares 5 --threshold 3\n\n\
        Keep both KEKs until it says that it is done: broken off anywhere, the store is under\n\
        one of the two, and 'tenure kek check' or a start says which. Backups made until then\n\
        need the old one.")]
    Rewrap(RewrapArgs),
}

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// The new KEK, in a file that only its owner can read, or on standard input (-);
    /// needed where kek.source is env, credential or command
    #[arg(long, value_name = "FILE")]
    pub(super) new_kek: Option<PathBuf>,
    /// Do not keep the old KEK's file: without a copy of it, backups made until now are lost
    #[arg(long)]
    pub(super) discard_old: bool,
    #[command(flatten)]
    pub(super) change: ChangeKekArgs,
}

#[derive(Debug, Args)]
pub(super) struct RewrapArgs {
    /// file, env, credential, passphrase, command or shamir
    #[arg(long, value_name = "SOURCE")]
    pub(super) to: KekSource,
    /// Of file its path, of env the variable, of credential the name [default: as kek.file,
    /// kek.env and kek.credential say]
    #[arg(value_name = "PLACE")]
    pub(super) place: Option<String>,
    /// The new KEK, in a file or on standard input (-), where the new source does not give it
    /// yet
    #[arg(long, value_name = "FILE")]
    pub(super) new_kek: Option<PathBuf>,
    #[command(flatten)]
    pub(super) change: ChangeKekArgs,
}

/// What each change of the KEK takes.
#[derive(Debug, Args)]
pub(super) struct ChangeKekArgs {
    /// Read the new passphrase, one line, from this descriptor and not from the terminal
    #[arg(long, value_name = "N")]
    pub(super) new_passphrase_fd: Option<u32>,
    #[command(flatten)]
    pub(super) split: SplitArgs,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}
