//! `tower-seal peers`: the keys that were learned on first use.

use std::path::{Path, PathBuf};

use tower_seal::{NodeId, trust::KnownPeers};

use crate::{
    daemon,
    failure::{Exit, Failure},
    identity,
};

/// The options of `peers`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The file of known peers [default: known_peers in the user's data folder]
    #[arg(long, value_name = "FILE", global = true)]
    peers: Option<PathBuf>,

    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Prints the known peers: an origin and a node id a line
    List,
    /// Forgets who is at an origin, so that the next key seen there is learned
    Forget {
        /// Such as https://example.com
        origin: String,
    },
    /// Writes down who is at an origin
    Trust {
        /// Such as https://example.com
        origin: String,
        /// What `tower-seal serve` prints there
        #[arg(value_parser = identity::parse_node_id)]
        node_id: NodeId,
    },
}

/// The beginning of a command that is about `file`, as a shell takes it.
pub(crate) fn command(file: Option<&Path>) -> String {
    let Some(file) = file else { return "tower-seal peers".to_owned() };
    let path = file.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    let path = if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', "'\\''")) };
    format!("tower-seal peers --peers {path}")
}

/// The file, where none is named.
pub(crate) fn path(file: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match file {
        Some(file) => Ok(file),
        None => Ok(identity::data_folder()?.join("known_peers")),
    }
}

pub(crate) fn run(args: Options) -> Result<(), Failure> {
    let command = command(args.peers.as_deref());
    let path = path(args.peers)?;
    let known = KnownPeers::open(&path)?;
    match args.action {
        Action::List => {
            for peer in known.list()? {
                daemon::announce(&format!("{} {}", peer.origin, peer.node_id))?;
            }
            Ok(())
        }
        Action::Forget { origin } => {
            let origin = KnownPeers::spelling(&origin)?;
            if known.forget(&origin)? {
                return daemon::announce(&format!(
                    "{origin} is forgotten: the next key seen there is learned"
                ));
            }
            let sentence = format!(
                "{}: nothing is known of {origin}; `{command} list` shows who is known",
                path.display()
            );
            Err(Failure::new(Exit::Failed, sentence))
        }
        Action::Trust { origin, node_id } => {
            let origin = KnownPeers::spelling(&origin)?;
            known.trust(&origin, node_id)?;
            daemon::announce(&format!("{origin} is {node_id}"))
        }
    }
}
