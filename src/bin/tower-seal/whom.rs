//! The options that `proxy` and `connect` share: whom to trust at a URL, and how to speak to it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::ValueEnum;
use tower_seal::{
    Config, Error, NodeId,
    config::{Encoding, Signatures},
    trust::{FirstUse, KnownPeers, Pinned},
};

use crate::{
    failure::{Exit, Failure},
    identity, peers, problem,
};

/// How long a program that ends waits for the file of known peers.
const FLUSH: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(crate) struct Whom {
    /// The node id that `tower-seal serve` prints there
    #[arg(long, value_name = "NODE_ID", value_parser = identity::parse_node_id, conflicts_with = "first_use")]
    peer: Option<NodeId>,

    /// Trust whoever answers at URL first, and nobody else there from then on, as ssh does
    #[arg(long)]
    first_use: bool,

    /// The file of known peers [default: known_peers in the user's data folder]
    #[arg(long, value_name = "FILE", requires = "first_use", conflicts_with = "peer")]
    peers: Option<PathBuf>,

    /// How messages are written
    #[arg(long, value_name = "ENCODING", default_value = "binary")]
    encoding: EncodingArg,

    /// Which messages are signed
    #[arg(long, value_name = "WHICH", default_value = "every")]
    signatures: SignaturesArg,
}

#[derive(Clone, Copy, ValueEnum)]
enum EncodingArg {
    /// Text, twice the size, for middles that insist on it
    Json,
    /// Compact
    Binary,
}

#[derive(Clone, Copy, ValueEnum)]
enum SignaturesArg {
    /// Each message, as proof for others too
    Every,
    /// Until both sides are known to be there; faster
    Handshake,
}

impl Whom {
    /// This side's config, and what explains the far side's errors. `url` and `origin` are of the far side, and are
    /// shown.
    pub(crate) fn meet(
        self,
        identity: Option<PathBuf>,
        plaintext: bool,
        url: String,
        origin: String,
    ) -> Result<(Config, FarSide), Failure> {
        if self.peer.is_none() && !self.first_use && !plaintext {
            return Err(Failure::new(
                Exit::Usage,
                "whom to trust at the URL? Give --peer NODE_ID, which `tower-seal serve` prints there, or --first-use",
            ));
        }
        let command = peers::command(self.peers.as_deref());
        let identity = identity::load(identity.as_deref())?;
        let node = identity.node_id();
        identity::differs(node, "--peer", self.peer.as_slice())?;
        let (config, first_use) = match self.peer {
            _ if plaintext => (Config::plaintext(), None),
            Some(peer) => (Config::new(identity, Pinned::new([peer])), None),
            None => {
                let first_use = Arc::new(FirstUse::new(KnownPeers::open(peers::path(self.peers)?)?)?);
                (Config::new(identity, first_use.clone()), Some(first_use))
            }
        };
        let config = config
            .encoding(match self.encoding {
                EncodingArg::Json => Encoding::Json,
                EncodingArg::Binary => Encoding::Binary,
            })
            .signatures(match self.signatures {
                SignaturesArg::Every => Signatures::Every,
                SignaturesArg::Handshake => Signatures::Handshake,
            });
        Ok((config, FarSide { node, url, origin, plaintext, first_use, command }))
    }
}

/// Who is meant, for the words about errors.
#[derive(Clone)]
pub(crate) struct FarSide {
    /// This side.
    pub(crate) node: NodeId,
    /// Without its query.
    pub(crate) url: String,
    origin: String,
    plaintext: bool,
    first_use: Option<Arc<FirstUse>>,
    /// How a command about the file of known peers begins.
    command: String,
}

impl FarSide {
    /// To be called at the end: what was learned last is still to be written.
    pub(crate) fn finish(&self) {
        if let Some(first_use) = &self.first_use {
            first_use.flush(FLUSH);
        }
    }

    /// What happened and what to do: a code, and a sentence.
    pub(crate) fn explain(&self, error: &Error) -> (&'static str, String) {
        if let Error::Unsealed { status } = error
            && self.plaintext
        {
            return problem::explain_no_websocket(*status, &self.url);
        }
        let known = self.first_use.as_ref().map(|first_use| problem::Known {
            changed: first_use.explain(&self.origin, error),
            command: &self.command,
        });
        problem::explain(error, &self.url, self.node, known.as_ref())
    }
}
