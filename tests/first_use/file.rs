//! The file: what it looks like, what is refused in which words, and what crashes leave behind.

use std::{error::Error as _, fs, path::Path};

use tower_seal::{Error, trust::KnownPeers};

use crate::{HERE, THERE, node};

/// The message of a refusal, which has to be about `path`.
#[track_caller]
fn refusal<T: std::fmt::Debug>(path: &Path, result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(&error, Error::PeersFile { path: named, .. } if named == path), "{error:?}");
    error.to_string()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_missing_file_is_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/known-peers");
    let peers = KnownPeers::open(&path).unwrap();
    assert!(peers.list().unwrap().is_empty());
    assert_eq!(peers.node(HERE).unwrap(), None);
    assert!(!peers.forget(HERE).unwrap());
    assert!(names(folder.path()).is_empty(), "asking makes nothing");

    assert_eq!(peers.trust(HERE, node(1)).unwrap(), None);
    assert_eq!(names(path.parent().unwrap()), ["known-peers", "known-peers.lock"]);
    let text = fs::read_to_string(&path).unwrap();
    let (header, line) = text.split_once('\n').unwrap();
    assert!(header.starts_with("# Known peers of tower-seal"), "{text}");
    assert_eq!(line, format!("{HERE} {}\n", node(1)));
}

#[test]
fn the_rest_of_the_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("known-peers");
    let text = format!("# mine\n\n{HERE}:443   {} # main\n  # more\nweather {}", node(1), node(2));
    fs::write(&path, &text).unwrap();
    let peers = KnownPeers::open(&path).unwrap();
    let list: Vec<_> = peers.list().unwrap().into_iter().map(|peer| (peer.origin, peer.node_id)).collect();
    assert_eq!(list, [(HERE.to_owned(), node(1)), ("weather".to_owned(), node(2))]);

    assert_eq!(peers.trust(HERE, node(1)).unwrap(), Some(node(1)));
    assert!(!peers.forget(THERE).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "nothing changed, so nothing is written");

    assert_eq!(peers.trust(HERE, node(3)).unwrap(), Some(node(1)));
    peers.trust(THERE, node(4)).unwrap();
    assert!(peers.forget("WEATHER").unwrap());
    let expected = format!("# mine\n\n{HERE} {} # main\n  # more\n{THERE} {}\n", node(3), node(4));
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}

#[test]
fn damage_is_named_and_nothing_of_it_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("known-peers");
    let peers = KnownPeers::open(&path).unwrap();
    let good = format!("# comment\n{HERE} {}\n", node(1)).into_bytes();
    for (bad, word) in [
        (&b"https://b\n"[..], "a line is `ORIGIN NODE_ID`"),
        (b"https://b abc\n", "64 hex digits, and these are fewer"),
        (b"https://example.com abc # \xff\n", "not UTF-8"),
        (b"https://b/c/d 0\n", "a scheme, a host and a port and ends there"),
        (&[b"HTTPS://EXAMPLE.com ", node(2).to_string().as_bytes()].concat(), "on line 2 already"),
    ] {
        let content = [&good, bad].concat();
        fs::write(&path, &content).unwrap();
        for message in [
            refusal(&path, KnownPeers::open(&path)),
            refusal(&path, peers.list()),
            refusal(&path, peers.node(HERE)),
            refusal(&path, peers.trust(HERE, node(3))),
            refusal(&path, peers.forget(HERE)),
        ] {
            assert!(message.starts_with(&format!("{}: line 3: ", path.display())), "{message}");
            assert!(message.contains(word) && message.contains("delete"), "{message}");
        }
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn sizes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("known-peers");
    let peers = KnownPeers::open(&path).unwrap();
    fs::write(&path, "#".repeat(1 << 20)).unwrap();
    assert!(peers.list().unwrap().is_empty());
    assert!(refusal(&path, peers.trust(HERE, node(1))).contains("full (10,000 peers or 1 MiB): forget some"));
    fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
    assert!(refusal(&path, peers.list()).contains("larger than 1 MiB: forget peers, or give"));
}

#[test]
fn what_is_no_file_or_no_origin() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert!(refusal(path, KnownPeers::open(path)).contains("not a regular file: give the path"));
    let file = path.join("file");
    fs::write(&file, "").unwrap();
    let below = file.join("known-peers");
    let result = KnownPeers::open(&below);
    assert!(result.as_ref().unwrap_err().source().is_some());
    refusal(&below, result);

    let peers = KnownPeers::open(&file).unwrap();
    for result in [peers.trust("two words", node(1)).map(|_| ()), peers.forget("https://").map(|_| ())] {
        assert!(matches!(result, Err(Error::Misuse { .. })));
    }
    assert_eq!(fs::read(&file).unwrap(), b"");
}

#[test]
fn files_that_a_crash_left_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("known-peers");
    fs::write(folder.path().join(".known-peers-Ab12Cd"), "https://exam").unwrap();
    fs::write(folder.path().join("known-peers.lock"), "").unwrap();
    let peers = KnownPeers::open(&path).unwrap();
    peers.trust(HERE, node(1)).unwrap();
    assert_eq!(peers.list().unwrap().len(), 1);
    assert_eq!(names(folder.path()), [".known-peers-Ab12Cd", "known-peers", "known-peers.lock"]);
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn modes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/known-peers");
        let peers = KnownPeers::open(&path).unwrap();
        peers.trust(HERE, node(1)).unwrap();
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&folder.path().join("new/known-peers.lock")), 0o600);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        peers.trust(HERE, node(2)).unwrap();
        assert_eq!(mode(&path), 0o640, "as its owner wants it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        assert!(refusal(&path, peers.forget(HERE)).contains("marked as read-only"));
        assert_eq!(peers.node(HERE).unwrap(), Some(node(2)));
    }

    #[test]
    fn what_others_may_write_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("known-peers");
        let peers = KnownPeers::open(&path).unwrap();
        peers.trust(HERE, node(1)).unwrap();
        for bits in [0o620, 0o602, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
            let remedy =
                format!("its mode is 0{bits:o}, so others than its owner may write who is to be trusted");
            for message in [refusal(&path, peers.list()), refusal(&path, peers.trust(HERE, node(2)))] {
                assert!(message.contains(&remedy), "{message}");
                assert!(message.contains(&format!("`chmod go-w {}`", path.display())), "{message}");
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(peers.node(HERE).unwrap(), Some(node(1)));
    }

    #[test]
    fn symbolic_links_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (link, second) = (folder.path().join("link"), folder.path().join("second"));
        fs::create_dir(folder.path().join("real")).unwrap();
        let real = folder.path().join("real/known-peers");
        // Nothing is there yet.
        symlink("real/known-peers", &link).unwrap();
        symlink(&link, &second).unwrap();
        for (number, path) in [&second, &link, &real].into_iter().enumerate() {
            let peers = KnownPeers::open(path).unwrap();
            peers.trust(&format!("p{number}"), node(1)).unwrap();
        }
        assert_eq!(KnownPeers::open(&real).unwrap().list().unwrap().len(), 3);
        assert!(link.is_symlink() && second.is_symlink());
        assert_eq!(names(folder.path()), ["link", "real", "second"]);
        assert_eq!(names(&folder.path().join("real")), ["known-peers", "known-peers.lock"]);
    }

    #[test]
    fn a_loop_of_links_and_a_pipe_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loop");
        symlink("loop", &path).unwrap();
        refusal(&path, KnownPeers::open(&path));
        let pipe = folder.path().join("pipe");
        if std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()) {
            assert!(refusal(&pipe, KnownPeers::open(&pipe)).contains("not a regular file"));
        }
    }
}
