//! Key files, readable by their owner only.
//!
//! A file is written under another name and then linked in place, so that nobody ever sees half a key, and
//! a key that is there is never overwritten. `openssl genpkey -algorithm ed25519` makes the same files.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
};

use zeroize::Zeroizing;

use super::{
    Identity,
    pem::{NOT_PEM, parse},
};
use crate::error::{Error, Result};

/// Key files are 119 bytes, or a little more with a public key and attributes: this is room for preambles.
const MAX_FILE: usize = 16 * 1024;

/// Key files. All of it blocks: in an async program, do it before the runtime starts.
impl Identity {
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
        let pem = self.to_pem().map_err(io::Error::other)?;
        file.write_all(pem.as_bytes())?;
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
    fn the_folder_of_a_bare_name_is_the_current_one() {
        assert_eq!(folder(Path::new("key.pem")), Path::new("."));
        assert_eq!(folder(Path::new("a/key.pem")), Path::new("a"));
        assert_eq!(folder(Path::new("/")), Path::new("."));
    }
}
