//! `tower-seal id`, and where this machine's identity is kept.

use std::path::{Path, PathBuf};

use tower_seal::{Error, Identity, NodeId};

use crate::{
    daemon,
    failure::{Exit, Failure},
};

/// The options of `id`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The secret key [default: identity.pem in the user's data folder]
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

pub(crate) fn run(args: &Options) -> Result<(), Failure> {
    daemon::announce(&load(args.identity.as_deref())?.node_id().to_string())
}

/// The identity in `file`, or in the user's data folder; made on first use.
pub(crate) fn load(file: Option<&Path>) -> Result<Identity, Failure> {
    let path = match file {
        Some(file) => file.to_owned(),
        None => data_folder()?.join("identity.pem"),
    };
    Ok(Identity::load_or_create(path)?)
}

/// A node does not talk to itself: `serve` and `proxy` of one user need a key each.
pub(crate) fn differs(own: NodeId, option: &str, given: &[NodeId]) -> Result<(), Failure> {
    if !given.contains(&own) {
        return Ok(());
    }
    let sentence = format!(
        "{option} {own} is this side's own node id: give the other side's, and if both run here with the same \
         key, one of them another with --identity FILE"
    );
    Err(Failure::new(Exit::Usage, sentence))
}

/// For clap, which puts the value and the option before the reason.
pub(crate) fn parse_node_id(text: &str) -> Result<NodeId, String> {
    text.parse().map_err(|error: Error| match error {
        Error::Misuse { reason } => reason.to_owned(),
        error => error.to_string(),
    })
}

/// `tower-seal` in the user's data folder, such as `~/.local/share`.
pub(crate) fn data_folder() -> Result<PathBuf, Failure> {
    dirs::data_dir().map(|folder| folder.join("tower-seal")).ok_or_else(|| {
        Failure::new(
            Exit::File,
            "this user has no data folder: set HOME, or name files with --identity and --peers",
        )
    })
}
