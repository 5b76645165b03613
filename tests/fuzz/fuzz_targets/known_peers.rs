//! A file of known peers, read and then changed.

#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use tower_seal::{NodeId, trust::KnownPeers};

static FILE: LazyLock<PathBuf> = LazyLock::new(|| tempfile::tempdir().unwrap().keep().join("peers"));

fuzz_target!(|data: &[u8]| {
    fs::write(&*FILE, data).unwrap();
    let node = NodeId::from_bytes([9; 32]);
    let Ok(peers) = KnownPeers::open(&*FILE) else {
        // What cannot be understood is never overwritten.
        let peers = KnownPeers::open(FILE.with_extension("none")).unwrap();
        drop(peers);
        assert_eq!(fs::read(&*FILE).unwrap(), data);
        return;
    };
    let before = peers.list().unwrap();
    for peer in &before {
        assert_eq!(peers.node(&peer.origin).unwrap(), Some(peer.node_id));
        assert_eq!(KnownPeers::spelling(&peer.origin).unwrap(), peer.origin);
    }
    // One line more; everything else stays.
    if peers.node("https://new.example").unwrap().is_none()
        && peers.trust("https://new.example", node).is_ok()
    {
        let mut after = peers.list().unwrap();
        assert_eq!(after.pop().map(|peer| peer.node_id), Some(node));
        assert_eq!(after, before);
        assert!(peers.forget("https://new.example").unwrap());
        assert_eq!(peers.list().unwrap(), before);
    }
});
