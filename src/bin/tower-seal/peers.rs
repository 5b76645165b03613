//! `tower-seal peers`: the keys that were learned on first use.

use std::path::PathBuf;

use tower_seal::trust::KnownPeers;

use crate::{
    args::{PeersArgs, PeersCommand},
    daemon,
    failure::{Exit, Failure},
    identity,
};

/// The file, where none is named.
pub(crate) fn path(file: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match file {
        Some(file) => Ok(file),
        None => Ok(identity::data_folder()?.join("known_peers")),
    }
}

pub(crate) fn run(args: PeersArgs) -> Result<(), Failure> {
    let path = path(args.peers)?;
    let known = KnownPeers::open(&path)?;
    match args.command {
        PeersCommand::List => {
            for (origin, node) in known.list()? {
                daemon::announce(&format!("{origin} {node}"))?;
            }
            Ok(())
        }
        PeersCommand::Forget { origin } => {
            if known.forget(&origin)? {
                return daemon::announce(&format!("{origin} is forgotten: the next key seen there is learned"));
            }
            let sentence = format!("{}: nothing is known of {origin}; see `tower-seal peers list`", path.display());
            Err(Failure::new(Exit::Failed, sentence))
        }
        PeersCommand::Trust { origin, node_id } => {
            known.trust(&origin, node_id)?;
            daemon::announce(&format!("{origin} is {node_id}"))
        }
    }
}
