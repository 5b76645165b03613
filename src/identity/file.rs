//! Key files: PKCS#8 in PEM (RFC 8410, RFC 7468), readable by their owner only.
//!
//! A file is written under another name and then linked in place, so that nobody ever sees half a key, and
//! a key that is there is never overwritten. `openssl genpkey -algorithm ed25519` makes the same files.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
};

use pkcs8::{
    ObjectIdentifier, PrivateKeyInfoRef,
    der::{Decode, asn1::OctetStringRef, pem},
};
use zeroize::Zeroizing;

use super::Identity;
use crate::error::{Error, Result};

/// Key files are 119 bytes, or a little more with a public key and attributes: this is room for preambles.
const MAX_FILE: usize = 16 * 1024;

/// id-Ed25519 (RFC 8410, section 3).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// What stands before the seed in the DER of a version 1 key without attributes (RFC 8410, section 7).
const DER_PREFIX: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----\n";
const END: &str = "\n-----END PRIVATE KEY-----\n";

/// Key files. All of it blocks: in an async program, do it before the runtime starts.
impl Identity {
    /// The secret key as PKCS#8 version 1 in PEM (RFC 8410, section 7): 119 bytes of text, which are
    /// wiped on drop.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let mut der = Zeroizing::new([0; 48]);
        let (prefix, seed) = der.split_at_mut(DER_PREFIX.len());
        prefix.copy_from_slice(&DER_PREFIX);
        seed.copy_from_slice(&*self.signer.seed());

        // With room for everything, so that growing leaves no copies behind.
        let mut text = Zeroizing::new(String::with_capacity(BEGIN.len() + 64 + END.len()));
        text.push_str(BEGIN);
        push_base64(&mut text, &der);
        text.push_str(END);
        text
    }

    /// Reads what [`to_pem`](Self::to_pem) or `openssl genpkey -algorithm ed25519` wrote.
    ///
    /// Takes PKCS#8 version 1, and version 2 with a public key (RFC 5958) if that belongs to the private
    /// key. This is also the way for keys that are in no file of one's own, such as those of a secret store.
    ///
    /// # Errors
    /// [`Error::Misuse`], which says what the text is instead: no PEM, an encrypted key, a public key, a key
    /// for another algorithm, a key of OpenSSH, or damaged. It never repeats any of the text.
    pub fn from_pem(pem: &str) -> Result<Self> {
        parse(pem).map_err(|reason| Error::Misuse { reason })
    }

    /// Loads a key file of at most 16 KiB; what it may contain: see [`from_pem`](Self::from_pem).
    ///
    /// On Unix, group and others must have no rights to the file (its mode & 0o077 is 0), the rule that
    /// OpenSSH has for its keys. Elsewhere the rights are **not** checked. A symbolic link is followed.
    ///
    /// # Errors
    /// [`Error::KeyFile`], which says what is wrong and what to do: no such file, not a regular file, too
    /// large, not readable, readable by others too, or not a key as above.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let content = read(path)?;
        std::str::from_utf8(&content)
            .map_err(|_| NOT_PEM)
            .and_then(parse)
            .map_err(|reason| refused(path, reason.to_owned(), None))
    }

    /// Saves the secret key to a new file, with mode 0600 on Unix, and the rights that the folder gives
    /// elsewhere. Never overwrites anything. The file appears complete, and on disk, or not at all.
    ///
    /// # Errors
    /// [`Error::KeyFile`] when there is something at `path` already, or the folder is missing or cannot be
    /// written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.create(path).map_err(|source| {
            let reason = if source.kind() == io::ErrorKind::AlreadyExists {
                "there is something already, which is not overwritten: load it or move it away"
            } else {
                "cannot be created: its folder has to exist, with the right to write to it"
            };
            refused(path, reason.to_owned(), Some(source))
        })
    }

    /// Loads the key file, or makes a new identity and saves it if there is none.
    ///
    /// Folders that are missing are created, with mode 0700 on Unix. When several processes do this at
    /// once, all of them end up with the same identity.
    ///
    /// ```no_run
    /// let identity = tower_seal::Identity::load_or_create("/var/lib/weather/identity.pem")?;
    /// println!("I am {}", identity.node_id());
    /// # Ok::<(), tower_seal::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`load`](Self::load) for a file that is there, since a key that cannot be used is not a
    /// reason to become somebody else, and those of [`save`](Self::save).
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        match Self::load(path) {
            Err(error) if is(&error, io::ErrorKind::NotFound) => {}
            loaded => return loaded,
        }
        os::private_folders().recursive(true).create(folder(path)).map_err(|source| {
            refused(path, "its folder cannot be created: create it first".to_owned(), Some(source))
        })?;
        let identity = Self::generate();
        match identity.save(path) {
            Ok(()) => Ok(identity),
            // Somebody was faster. A file is complete from the moment it has this name.
            Err(error) if is(&error, io::ErrorKind::AlreadyExists) => Self::load(path),
            Err(error) => Err(error),
        }
    }

    fn create(&self, path: &Path) -> io::Result<()> {
        let folder = folder(path);
        // Of mode 0600 from its first moment on, which is the default of `tempfile`.
        let mut file = tempfile::Builder::new().prefix(".identity-").tempfile_in(folder)?;
        file.write_all(self.to_pem().as_bytes())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path)?;
        os::sync_folder(folder);
        Ok(())
    }
}

/// Everything in the file, at most [`MAX_FILE`] bytes.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let unreadable = |source: io::Error| {
        let reason = match source.kind() {
            io::ErrorKind::NotFound => {
                format!(
                    "no such file: make it with `openssl genpkey -algorithm ed25519 -out {}`",
                    path.display()
                )
            }
            _ => "cannot be read: check who owns it, and the folders above it".to_owned(),
        };
        refused(path, reason, Some(source))
    };

    // Opening a pipe waits for its writer, and opening a device may do anything, hence this look at the
    // path. The one that counts is at the opened file, which nobody can exchange any more.
    check_regular(path, &fs::metadata(path).map_err(unreadable)?)?;
    let file = File::open(path).map_err(unreadable)?;
    let opened = file.metadata().map_err(unreadable)?;
    check_regular(path, &opened)?;
    if let Some(mode) = os::shared_mode(&opened) {
        let reason = format!(
            "its mode is {mode:04o}, which gives rights to others than its owner: `chmod 600 {}`, and make a \
             new key if they may have read this one",
            path.display()
        );
        return Err(refused(path, reason, None));
    }

    // More room than can be read: reading never moves the buffer, nor goes through one on the stack.
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_FILE + 64));
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() > MAX_FILE {
        let reason = "larger than 16 KiB, so it is not a key file: give the path of one";
        return Err(refused(path, reason.to_owned(), None));
    }
    Ok(content)
}

fn check_regular(path: &Path, metadata: &Metadata) -> Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let reason = if metadata.is_dir() {
        "a folder, not a file: give the path of a key file in it"
    } else {
        "not a regular file: copy the key to one, or give it to `Identity::from_pem`"
    };
    Err(refused(path, reason.to_owned(), None))
}

/// The folder of a file, which for a bare file name is the current one.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn refused(path: &Path, reason: String, source: Option<io::Error>) -> Error {
    Error::KeyFile { path: path.to_owned(), reason, source: source.map(Arc::new) }
}

fn is(error: &Error, kind: io::ErrorKind) -> bool {
    matches!(error, Error::KeyFile { source: Some(source), .. } if source.kind() == kind)
}

macro_rules! make_one {
    ($what:expr) => {
        concat!($what, ": make one with `openssl genpkey -algorithm ed25519`")
    };
}
macro_rules! not_ed25519 {
    ($what:literal) => {
        make_one!(concat!("it is ", $what, ", and an identity is an Ed25519 private key"))
    };
}

const NOT_PEM: &str = make_one!("it is not PEM, and a key begins with `-----BEGIN PRIVATE KEY-----`");
const DAMAGED: &str = make_one!("it is not a whole PKCS#8 key (RFC 8410): restore a backup. Without one");
const FOREIGN_PUBLIC_KEY: &str =
    make_one!("the public key in it does not belong to the private key: restore a backup. Without one");

/// The errors are sentences that fit a path as well as a text.
fn parse(text: &str) -> Result<Identity, &'static str> {
    let text = text.trim();
    check_label(text)?;
    let mut pem = pem::Decoder::new(text.as_bytes()).map_err(|_| DAMAGED)?;
    let mut der = Zeroizing::new(vec![0; pem.remaining_len()]);
    pem.decode(&mut der).map_err(|_| DAMAGED)?;

    let key = PrivateKeyInfoRef::from_der(&der).map_err(|_| DAMAGED)?;
    check_algorithm(key.algorithm.oid)?;
    // RFC 8410, section 3: the parameters MUST be absent. Section 7: the key is an OCTET STRING in another.
    if key.algorithm.parameters.is_some() {
        return Err(DAMAGED);
    }
    let seed = <&OctetStringRef>::from_der(key.private_key.as_bytes()).map_err(|_| DAMAGED)?;
    let identity = Identity::from_seed(seed.as_bytes().try_into().map_err(|_| DAMAGED)?);

    match key.public_key {
        Some(public) if public.as_bytes() != Some(identity.node_id().as_bytes()) => Err(FOREIGN_PUBLIC_KEY),
        _ => Ok(identity),
    }
}

/// By the first `BEGIN` line. What decides is the decoder: this finds words for what people really try.
fn check_label(text: &str) -> Result<(), &'static str> {
    let label = text.split_once("-----BEGIN ").and_then(|(_, rest)| rest.split_once("-----"));
    Err(match label.map(|(label, _)| label) {
        Some("PRIVATE KEY") => return Ok(()),
        Some("ENCRYPTED PRIVATE KEY") => {
            "it is an encrypted key, and nobody is asked for a passphrase: decrypt it with \
             `openssl pkey -in OLD -out NEW`"
        }
        Some("PUBLIC KEY" | "RSA PUBLIC KEY") => {
            "it is a public key: give the private key, which begins with `-----BEGIN PRIVATE KEY-----`"
        }
        Some("CERTIFICATE") => not_ed25519!("a certificate"),
        Some("RSA PRIVATE KEY") => not_ed25519!("an RSA key"),
        Some("EC PRIVATE KEY" | "EC PARAMETERS") => not_ed25519!("an EC key"),
        Some("DSA PRIVATE KEY" | "DSA PARAMETERS") => not_ed25519!("a DSA key"),
        Some("OPENSSH PRIVATE KEY") => make_one!("it is an OpenSSH key, and a key has to be in PKCS#8"),
        Some(_) => make_one!("it is PEM, but not of a private key in PKCS#8"),
        None => NOT_PEM,
    })
}

fn check_algorithm(oid: ObjectIdentifier) -> Result<(), &'static str> {
    if oid == ED25519 {
        return Ok(());
    }
    Err(match oid.to_string().as_str() {
        "1.2.840.113549.1.1.1" | "1.2.840.113549.1.1.10" => not_ed25519!("an RSA key"),
        "1.2.840.10045.2.1" => not_ed25519!("an EC key"),
        "1.2.840.10040.4.1" => not_ed25519!("a DSA key"),
        "1.3.101.110" => not_ed25519!("an X25519 key"),
        "1.3.101.111" => not_ed25519!("an X448 key"),
        "1.3.101.113" => not_ed25519!("an Ed448 key"),
        _ => not_ed25519!("a key for another algorithm"),
    })
}

/// RFC 4648, section 4, of a length that needs no padding.
fn push_base64(text: &mut String, bytes: &[u8; 48]) {
    for group in bytes.chunks_exact(3) {
        let bits = group.iter().fold(0, |bits, &byte| (bits << 8) | u32::from(byte));
        text.extend([18, 12, 6, 0].map(|shift| base64_digit(((bits >> shift) & 0x3f) as u8)));
    }
}

/// Without a table or a branch, whose traces in the processor's caches would tell of the secret.
fn base64_digit(six: u8) -> char {
    let six = i16::from(six);
    // Beyond the last digit of a range the sign fills the mask, so the distance to the next range counts.
    let step = |last: i16, distance: i16| ((last - six) >> 8) & distance;
    let digit = i16::from(b'A') + six + step(25, 6) + step(51, -75) + step(61, -15) + step(62, 3);
    char::from(digit.to_le_bytes()[0])
}

/// What only Unix has.
#[cfg(unix)]
mod os {
    use std::{
        fs::{DirBuilder, File, Metadata},
        os::unix::fs::{DirBuilderExt, PermissionsExt},
        path::Path,
    };

    /// The mode, if it gives group or others any right.
    pub(super) fn shared_mode(metadata: &Metadata) -> Option<u32> {
        let mode = metadata.permissions().mode() & 0o7777;
        (mode & 0o077 != 0).then_some(mode)
    }

    pub(super) fn private_folders() -> DirBuilder {
        let mut folders = DirBuilder::new();
        folders.mode(0o700);
        folders
    }

    /// Brings the new name to the disk, lest a power cut make this node forget who it is. The file is
    /// there and usable, so a file system that cannot do this for folders (some network ones) is no error.
    pub(super) fn sync_folder(folder: &Path) {
        File::open(folder).and_then(|folder| folder.sync_all()).ok();
    }
}

/// Elsewhere rights are inherited from the folder, and folders cannot be synced.
#[cfg(not(unix))]
mod os {
    use std::{
        fs::{DirBuilder, Metadata},
        path::Path,
    };

    pub(super) fn shared_mode(_: &Metadata) -> Option<u32> {
        None
    }

    pub(super) fn private_folders() -> DirBuilder {
        DirBuilder::new()
    }

    pub(super) fn sync_folder(_: &Path) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_digits_are_those_of_rfc_4648() {
        let digits: String = (0..64).map(base64_digit).collect();
        assert_eq!(digits, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    }

    #[test]
    fn the_folder_of_a_bare_name_is_the_current_one() {
        assert_eq!(folder(Path::new("key.pem")), Path::new("."));
        assert_eq!(folder(Path::new("a/key.pem")), Path::new("a"));
        assert_eq!(folder(Path::new("/")), Path::new("."));
    }
}
