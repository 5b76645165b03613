//! Key files: what is accepted, what is refused and in which words, and who may see what.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::HashSet,
    error::Error as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Barrier,
    thread,
};

use tempfile::TempDir;
use tower_seal::{Error, Identity, NodeId};

/// RFC 8410, section 10.3, first example; its public key is in section 10.1.
const RFC_8410_V1: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";
/// The second example: version 2, with an attribute and the public key.
const RFC_8410_V2: &str = "-----BEGIN PRIVATE KEY-----
MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB
Z9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PRIVATE KEY-----
";
const RFC_8410_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";
const RFC_8410_ID: &str = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

fn rfc_8410_id() -> NodeId {
    RFC_8410_ID.parse().unwrap()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A file that only its owner can read, wherever there is such a thing.
fn write(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    #[cfg(unix)]
    chmod(&path, 0o600);
    path
}

#[cfg(unix)]
fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The message of a refusal, which has to be a `KeyFile` about `path`.
#[track_caller]
fn refusal<T: std::fmt::Debug>(path: &Path, result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(&error, Error::KeyFile { path: named, .. } if named == path), "{error:?}");
    let message = error.to_string();
    assert!(message.starts_with(&format!("{}: ", path.display())), "{message}");
    message
}

/// A PEM text around the base64 of a PKCS#8 key, here of zeros.
fn pkcs8(base64: &str) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n")
}

// ---- what is accepted

#[test]
fn rfc_8410_examples() {
    for pem in [RFC_8410_V1, RFC_8410_V2] {
        let identity = Identity::from_pem(pem).unwrap();
        assert_eq!(identity.node_id(), rfc_8410_id());
        assert_eq!(*identity.to_pem().unwrap(), RFC_8410_V1);
    }
}

#[test]
fn line_ends_and_preambles_do_not_matter() {
    let pem = RFC_8410_V1;
    for variant in
        [pem.replace('\n', "\r\n"), pem.trim_end().to_owned(), format!("{pem}\n\n"), format!("my key\n{pem}")]
    {
        assert_eq!(Identity::from_pem(&variant).unwrap().node_id(), rfc_8410_id(), "{variant:?}");
    }
}

#[test]
fn text_and_file_there_and_back() {
    let folder = folder();
    for number in 0..20 {
        let identity = Identity::generate();
        let pem = identity.to_pem().unwrap();
        assert_eq!(pem.len(), 119);
        assert_eq!(Identity::from_pem(&pem).unwrap().node_id(), identity.node_id());

        let path = folder.path().join(format!("{number}.pem"));
        identity.save(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), *pem);
        assert_eq!(Identity::load(&path).unwrap().node_id(), identity.node_id());
    }
}

#[test]
fn from_seed_is_the_key_of_rfc_8032() {
    // RFC 8032, section 7.1, test 1.
    let mut seed = [0; 32];
    const_hex::decode_to_slice("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", &mut seed)
        .unwrap();
    assert_eq!(
        Identity::from_seed(&seed).node_id().to_string(),
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    );
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_is_followed() {
    let folder = folder();
    let path = write(&folder, "key.pem", RFC_8410_V1);
    let link = folder.path().join("link.pem");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(Identity::load(&link).unwrap().node_id(), rfc_8410_id());
}

// ---- openssl, where there is one

/// `None` when the machine has no openssl.
fn openssl(args: &[&str]) -> Option<String> {
    let output = match Command::new("openssl").args(args).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: there is no openssl on this machine");
            return None;
        }
        Err(error) => panic!("openssl: {error}"),
    };
    assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn openssl_makes_keys_that_load() {
    let folder = folder();
    let path = folder.path().join("key.pem");
    let Some(_) = openssl(&["genpkey", "-algorithm", "ed25519", "-out", path.to_str().unwrap()]) else {
        return;
    };
    let Some(text) = openssl(&["pkey", "-in", path.to_str().unwrap(), "-noout", "-text_pub"]) else { return };

    // With the mode that openssl gives it, as a person would do it.
    let identity = Identity::load(&path).unwrap();
    assert_eq!(*identity.to_pem().unwrap(), fs::read_to_string(&path).unwrap());
    let (_, digits) = text.split_once("pub:").unwrap();
    let digits: String = digits.chars().filter(char::is_ascii_hexdigit).collect();
    assert_eq!(digits, identity.node_id().to_string());
}

#[test]
fn openssl_reads_keys_that_were_saved() {
    let folder = folder();
    let path = folder.path().join("key.pem");
    Identity::generate().save(&path).unwrap();
    let Some(text) = openssl(&["pkey", "-in", path.to_str().unwrap()]) else { return };
    assert_eq!(text, fs::read_to_string(&path).unwrap());
}

#[test]
fn openssl_keys_of_other_algorithms_are_refused() {
    let folder = folder();
    for (args, word) in [
        (&["-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048"][..], "an RSA key"),
        (&["-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "an EC key"),
        (&["-algorithm", "x25519"], "an X25519 key"),
        (&["-algorithm", "ed448"], "an Ed448 key"),
        (&["-algorithm", "ed25519", "-aes256", "-pass", "pass:word"], "an encrypted key"),
    ] {
        let Some(pem) = openssl(&[&["genpkey"], args].concat()) else { return };
        let path = write(&folder, "key.pem", pem);
        let message = refusal(&path, Identity::load(&path));
        assert!(message.contains(word), "{message}");
    }
}

// ---- what is refused: each in its own words, with a remedy, without any of the content

#[test]
fn wrong_content() {
    let remedy = "`openssl genpkey -algorithm ed25519`";
    let cases = [
        ("", "it is not PEM", remedy),
        ("ssh-ed25519 AAAAC3Nza", "it is not PEM", remedy),
        (RFC_8410_ID, "it is not PEM", remedy),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "an encrypted key",
            "`openssl pkey -in OLD -out NEW`",
        ),
        (RFC_8410_PUBLIC, "a public key", "give the private key"),
        ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "an RSA key", remedy),
        ("-----BEGIN EC PARAMETERS-----\nAAAA\n-----END EC PARAMETERS-----\n", "an EC key", remedy),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
            "an OpenSSH key",
            remedy,
        ),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a certificate", remedy),
        ("-----BEGIN SECRETWORD-----\nAAAA\n-----END SECRETWORD-----\n", "not of a private key", remedy),
        (
            &pkcs8("MDYCAQAwDQYJKoZIhvcNAQEBBQAEIgQgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\nAAAAAAAAAAA="),
            "an RSA key",
            remedy,
        ),
        (
            &pkcs8("MDwCAQAwEwYHKoZIzj0CAQYIKoZIzj0DAQcEIgQgAAAAAAAAAAAAAAAAAAAAAAAA\nAAAAAAAAAAAAAAAAAAA="),
            "an EC key",
            remedy,
        ),
        (&pkcs8("MC4CAQAwBQYDK2VuBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), "an X25519 key", remedy),
        (&pkcs8("MC4CAQAwBQYDK2VxBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), "an Ed448 key", remedy),
        (
            &pkcs8("MC0CAQAwBAYCKgMEIgQgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            "another algorithm",
            remedy,
        ),
        // Parameters that are NULL, a seed of 31 bytes, a seed in one wrapper only, a byte after the end.
        (
            &pkcs8("MDACAQAwBwYDK2VwBQAEIgQgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\nAAA="),
            "not a whole",
            remedy,
        ),
        (&pkcs8("MC0CAQAwBQYDK2VwBCEEHwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), "not a whole", remedy),
        (&pkcs8("MCwCAQAwBQYDK2VwBCAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="), "not a whole", remedy),
        (
            &pkcs8("MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\nAA=="),
            "not a whole",
            remedy,
        ),
        (&RFC_8410_V1[..60], "not a whole", remedy),
        (&RFC_8410_V1.replace("MC4", "M!4"), "not a whole", remedy),
        (&RFC_8410_V2.replace("ZuE=", "ZuA="), "does not belong", "restore a backup"),
    ];
    let folder = folder();
    for (content, word, remedy) in cases {
        let path = write(&folder, "key.pem", content);
        let from_file = refusal(&path, Identity::load(&path));
        let from_text = match Identity::from_pem(content) {
            Err(Error::Misuse { reason }) => reason,
            other => panic!("{content}: {other:?}"),
        };
        assert!(from_file.ends_with(from_text), "{from_file}");
        assert!(from_text.contains(word) && from_text.contains(remedy), "{content}\n{from_text}");
        for secret in ["AAAA", "SECRETWORD", "1NTuc", "19bf"] {
            assert!(!from_text.contains(secret), "{from_text}");
        }
    }
}

#[test]
fn no_flipped_bit_makes_another_identity() {
    for bit in 0..RFC_8410_V2.len() * 8 {
        let mut bytes = RFC_8410_V2.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(text) = String::from_utf8(bytes) else { continue };
        // The public key in it makes sure of the seed; white space and attributes may differ.
        if let Ok(identity) = Identity::from_pem(&text) {
            assert_eq!(identity.node_id(), rfc_8410_id(), "{text}");
        }
    }
}

#[test]
fn binary_content() {
    let folder = folder();
    let path = write(&folder, "key.der", b"\x30\x2e\x02\x01\x00\xff\xfe");
    assert!(refusal(&path, Identity::load(&path)).contains("it is not PEM"));
}

#[test]
fn no_such_file() {
    let folder = folder();
    let path = folder.path().join("none.pem");
    let result = Identity::load(&path);
    assert!(result.as_ref().unwrap_err().source().is_some());
    let message = refusal(&path, result);
    assert!(message.contains("no such file"), "{message}");
    assert!(
        message.ends_with(&format!("`openssl genpkey -algorithm ed25519 -out {}`", path.display())),
        "{message}"
    );
}

#[test]
fn a_folder_is_no_key_file() {
    let folder = folder();
    let message = refusal(folder.path(), Identity::load(folder.path()));
    assert!(message.contains("a folder, not a file: give the path of a key file"), "{message}");
    refusal(folder.path(), Identity::load_or_create(folder.path()));
}

#[test]
fn size_limit() {
    let folder = folder();
    let preamble = |size: usize| format!("{}\n{RFC_8410_V1}", "#".repeat(size - 1 - RFC_8410_V1.len()));
    let path = write(&folder, "fits.pem", preamble(16 * 1024));
    assert_eq!(Identity::load(&path).unwrap().node_id(), rfc_8410_id());
    let path = write(&folder, "large.pem", preamble(16 * 1024 + 1));
    let message = refusal(&path, Identity::load(&path));
    assert!(message.contains("larger than 16 KiB") && message.contains("give the path"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let folder = folder();
    let path = folder.path().join("pipe");
    if !Command::new("mkfifo").arg("-m").arg("600").arg(&path).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no mkfifo on this machine");
        return;
    }
    let message = refusal(&path, Identity::load(&path));
    assert!(message.contains("not a regular file: copy the key to one"), "{message}");
}

#[cfg(unix)]
#[test]
fn rights_of_others_are_refused() {
    let folder = folder();
    let path = write(&folder, "key.pem", RFC_8410_V1);
    for shared in [0o640, 0o604, 0o610, 0o601, 0o620, 0o602, 0o644, 0o666, 0o777] {
        chmod(&path, shared);
        for result in [Identity::load(&path), Identity::load_or_create(&path)] {
            let message = refusal(&path, result);
            assert!(message.contains(&format!("its mode is {shared:04o}")), "{message}");
            assert!(message.contains(&format!("`chmod 600 {}`", path.display())), "{message}");
        }
        assert_eq!(mode(&path), shared, "nothing is repaired behind anybody's back");
    }
    for private in [0o600, 0o400, 0o700] {
        chmod(&path, private);
        Identity::load(&path).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn rights_are_those_of_the_file_behind_a_link() {
    let folder = folder();
    let path = write(&folder, "key.pem", RFC_8410_V1);
    let link = folder.path().join("link.pem");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    chmod(&path, 0o644);
    assert!(refusal(&link, Identity::load(&link)).contains("its mode is 0644"));
}

// ---- creation

#[test]
fn save_never_overwrites_and_leaves_nothing_behind() {
    let folder = folder();
    let path = write(&folder, "key.pem", "something else");
    let message = refusal(&path, Identity::generate().save(&path));
    assert!(message.contains("not overwritten: load it or move it away"), "{message}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "something else");
    assert_eq!(names(folder.path()), ["key.pem"]);

    // The name is taken too if it is that of a folder.
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).unwrap();
    assert!(refusal(&taken, Identity::generate().save(&taken)).contains("not overwritten"));
    assert_eq!(names(folder.path()).len(), 2);
}

#[test]
fn save_needs_the_folder() {
    let folder = folder();
    let path = folder.path().join("none/key.pem");
    let result = Identity::generate().save(&path);
    assert!(result.as_ref().unwrap_err().source().is_some());
    let message = refusal(&path, result);
    assert!(message.contains("its folder has to exist"), "{message}");
    assert!(names(folder.path()).is_empty());
}

#[test]
fn load_or_create_creates_once() {
    let folder = folder();
    let path = folder.path().join("a/b/key.pem");
    let identity = Identity::load_or_create(&path).unwrap();
    assert_eq!(Identity::load_or_create(&path).unwrap().node_id(), identity.node_id());
    assert_eq!(Identity::load(&path).unwrap().node_id(), identity.node_id());
    assert_eq!(names(&folder.path().join("a/b")), ["key.pem"]);

    #[cfg(unix)]
    {
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&folder.path().join("a")), 0o700);
        assert_eq!(mode(&folder.path().join("a/b")), 0o700);
    }
}

#[test]
fn load_or_create_replaces_no_damaged_key() {
    let folder = folder();
    let path = write(&folder, "key.pem", &RFC_8410_V1[..60]);
    refusal(&path, Identity::load_or_create(&path));
    assert_eq!(fs::read_to_string(&path).unwrap(), RFC_8410_V1[..60]);
}

#[test]
fn load_or_create_needs_a_folder_that_can_be_created() {
    let folder = folder();
    let file = write(&folder, "file", "");
    let path = file.join("key.pem");
    refusal(&path, Identity::load_or_create(&path));
}

#[cfg(unix)]
#[test]
fn load_or_create_at_a_dangling_link_ends() {
    let folder = folder();
    let link = folder.path().join("link.pem");
    std::os::unix::fs::symlink(folder.path().join("none.pem"), &link).unwrap();
    refusal(&link, Identity::load_or_create(&link));
    assert_eq!(names(folder.path()), ["link.pem"]);
}

#[test]
fn all_who_create_at_once_are_the_same() {
    const THREADS: usize = 8;
    let folder = folder();
    for round in 0..25 {
        let path = folder.path().join(format!("{round}/key.pem"));
        let barrier = Barrier::new(THREADS);
        let ids: HashSet<NodeId> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        Identity::load_or_create(&path).unwrap().node_id()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(ids, HashSet::from([Identity::load(&path).unwrap().node_id()]));
        assert_eq!(names(path.parent().unwrap()), ["key.pem"]);
    }
}

// ---- secrets

#[test]
fn debug_never_shows_the_secret() {
    let identity = Identity::from_pem(RFC_8410_V1).unwrap();
    let shown = format!("{identity:?} {identity:#?}").to_lowercase();
    assert!(shown.contains("nodeid(19bf440969…)"), "{shown}");
    // The seed begins with d4 ee 72 db: as hex, as base64, and as a list of numbers.
    for secret in ["d4ee", "1ntuc", "212, 238", "212,\n"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
