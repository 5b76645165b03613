//! The file of known peers: which node was met at which origin.

mod file;
mod lines;
mod origin;

use std::path::{Path, PathBuf};

use crate::{
    error::{Error, Result},
    identity::NodeId,
};
use lines::Lines;

pub(super) use file::Version;
pub(super) use origin::normal;

/// Peers in a file, at most.
pub(super) const MOST_PEERS: usize = 10_000;

/// A file of known peers, which people may read and edit too.
///
/// One `ORIGIN NODE_ID` per line, UTF-8; what follows a `#` is a comment. It has at most 10,000 peers and
/// 1 MiB. A file that is missing is an empty one, and made when there is something to write.
///
/// An origin is `scheme://host:port`, as in a URL, or any other word of printable ASCII that names a place;
/// at most 300 bytes. Capitals, user names, a `/` at the end, and the default ports of `http`, `https`, `ws`
/// and `wss` make no difference (RFC 6454, section 4): `HTTPS://Example.com:443/` is `https://example.com`.
/// No two lines have the same.
///
/// Several processes and threads may use one file at once. Who writes holds a lock on a file beside it
/// (with `.lock` at the end of its name, and nothing in it) and puts a whole new file in its place, so that
/// no entry is lost and nobody reads half a file. Comments and blank lines stay. On Unix a new file has mode
/// 0600, a file that is there keeps its own, and symbolic links are followed.
///
/// ```
/// use tower_seal::{Identity, trust::KnownPeers};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("known-peers");
/// let peers = KnownPeers::open(path)?;
/// let node = Identity::generate().node_id();
/// peers.trust("https://example.com", node)?;
/// assert_eq!(peers.node("https://EXAMPLE.com:443")?, Some(node));
/// assert!(peers.forget("https://example.com")?);
/// # Ok::<(), tower_seal::Error>(())
/// ```
///
/// # Errors
/// Everything here that uses the file may fail with [`Error::PeersFile`], which says what is wrong, on which
/// line, and what to do: it is damaged, too large, not readable, or cannot be written. What cannot be
/// understood is never overwritten. An origin that is none is [`Error::Misuse`].
///
/// All of it blocks, waiting at most 10 s for others who write.
#[derive(Clone, Debug)]
pub struct KnownPeers {
    path: PathBuf,
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownPeer {
    /// Where it was met, in the one spelling that origins are compared in.
    pub origin: String,
    /// Who it was.
    pub node_id: NodeId,
}

impl KnownPeers {
    /// The file at `path`, which may be missing, but not damaged.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let peers = KnownPeers { path: path.into() };
        peers.read()?;
        Ok(peers)
    }

    /// Where the file is, or is going to be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everybody in it, in its order.
    pub fn list(&self) -> Result<Vec<KnownPeer>> {
        Ok(self.read()?.0)
    }

    /// Who is known at `origin`.
    pub fn node(&self, origin: &str) -> Result<Option<NodeId>> {
        let origin = checked(origin)?;
        Ok(self.lines()?.0.node(&origin))
    }

    /// Writes down that `node` is at `origin`, instead of whoever is known there now, and returns that one.
    pub fn trust(&self, origin: &str, node: NodeId) -> Result<Option<NodeId>> {
        let origin = checked(origin)?;
        self.edit(|lines| {
            let known = lines.node(&origin);
            if known != Some(node) {
                lines.set(origin, node);
            }
            known
        })
    }

    /// Removes the line of `origin`. Returns whether there was one.
    pub fn forget(&self, origin: &str) -> Result<bool> {
        // Without a lock first: what is not there needs no folder that can be written.
        Ok(self.node(origin)?.is_some() && {
            let origin = checked(origin)?;
            self.edit(|lines| lines.remove(&origin))?
        })
    }

    /// The one spelling in which origins are compared, and which is in the file.
    pub fn spelling(origin: &str) -> Result<String> {
        checked(origin)
    }

    /// Writes down these nodes at their origins, which are [`normal`] ones, unless somebody is known there.
    /// Returns who is known at each then.
    pub(super) fn learn(&self, learned: &[(String, NodeId)]) -> Result<Vec<NodeId>> {
        self.edit(|lines| {
            let known = learned.iter().map(|(origin, node)| {
                lines.node(origin).unwrap_or_else(|| {
                    lines.set(origin.clone(), *node);
                    *node
                })
            });
            known.collect()
        })
    }

    pub(super) fn read(&self) -> Result<(Vec<KnownPeer>, Version)> {
        let (lines, version) = self.lines()?;
        Ok((lines.peers().cloned().collect(), version))
    }

    fn lines(&self) -> Result<(Lines, Version)> {
        let (text, version) = file::read(&self.path)?;
        let lines = Lines::parse(&text).map_err(|(line, reason)| file::damaged(&self.path, line, &reason))?;
        Ok((lines, version))
    }

    /// Reads, changes and writes, alone among all who do.
    fn edit<T>(&self, change: impl FnOnce(&mut Lines) -> T) -> Result<T> {
        let lock = file::Lock::take(&self.path)?;
        let (mut lines, _) = self.lines()?;
        let result = change(&mut lines);
        if lines.is_changed() {
            lock.replace(lines.peers().count(), &lines.to_string())?;
        }
        Ok(result)
    }
}

fn checked(origin: &str) -> Result<String> {
    normal(origin).map_err(|reason| Error::Misuse { reason })
}
