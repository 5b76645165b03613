//! The file itself: read as a whole, replaced as a whole, one writer at a time.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use fs4::{FileExt, TryLockError};

use super::MOST_PEERS;
use crate::error::{Error, Result};

const LARGEST: usize = 1024 * 1024;

const DENIED: &str = "cannot be written: check the rights to its folder, and the disk";

/// How long to wait for others who write, and how often to look whether they are done.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// Symbolic links that are followed, as in Linux.
const MOST_LINKS: usize = 40;

/// What can be seen of a file from outside; `None` when there is none.
type Look = Option<os::Look>;

/// One state of the file.
#[derive(Debug, Default)]
pub(in crate::trust) struct Version {
    look: Look,
    /// While it is open, no other file can get the same inode number and so look the same.
    _open: Option<File>,
}

impl Version {
    /// Whether the file at `path` is still this one. A call to the operating system, and no reading.
    pub(in crate::trust) fn is_current(&self, path: &Path) -> bool {
        look(path).is_ok_and(|look| look == self.look)
    }
}

fn look(path: &Path) -> io::Result<Look> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(os::look(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The whole file; one that is missing is empty.
pub(super) fn read(path: &Path) -> Result<(String, Version)> {
    let unreadable =
        |source| refused(path, "cannot be read: check who owns it, and the folders above it", Some(source));
    // Opening a pipe waits for its writer, so it is not opened.
    match fs::metadata(path) {
        Ok(metadata) => check_regular(path, &metadata)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(error) => return Err(unreadable(error)),
    }
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        opened => opened.map_err(unreadable)?,
    };
    let metadata = file.metadata().map_err(unreadable)?;
    if let Some(mode) = os::written_by_others(&metadata) {
        let reason = format!(
            "its mode is {mode:04o}, so others than its owner may write who is to be trusted: `chmod go-w {}`, and \
             check what is in it",
            path.display()
        );
        return Err(refused(path, &reason, None));
    }
    // Before the reading: a change that comes during it makes another version.
    let look = Some(os::look(&metadata));
    let mut bytes = Vec::new();
    (&file).take(LARGEST as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > LARGEST {
        return Err(refused(path, "larger than 1 MiB: forget peers, or give the path of another file", None));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        damaged(path, line, "this is not UTF-8; correct this line, or delete it")
    })?;
    Ok((text, Version { look, _open: os::KEEP_OPEN.then_some(file) }))
}

/// The right to replace a file, while it lives.
pub(super) struct Lock {
    /// As the user knows it.
    path: PathBuf,
    /// Behind all symbolic links.
    target: PathBuf,
    /// Unlocked when it is closed, also by a process that ends.
    _file: File,
}

impl Lock {
    /// Waits for others, 10 s at most. Makes the folder if it is missing.
    ///
    /// The lock is on a file of its own, as the other one is replaced, and that file is never removed: who
    /// waits for it would wait for another than who comes later.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let denied = |source| refused(path, DENIED, Some(source));
        let target = behind_links(path);
        os::private_folders().create(folder(&target)).map_err(denied)?;
        let mut name = target.clone().into_os_string();
        name.push(".lock");
        let file = os::private_file().create(true).truncate(false).write(true).open(name).map_err(denied)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match FileExt::try_lock(&file) {
                Ok(()) => return Ok(Lock { path: path.to_owned(), target, _file: file }),
                Err(TryLockError::Error(source)) => return Err(denied(source)),
                Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                    let reason =
                        "another process has locked it for more than 10 s: try again, or end that one";
                    return Err(refused(path, reason, None));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
            }
        }
    }

    /// Puts a file with `text`, which names that many peers, in the place of the old one.
    pub(super) fn replace(&self, peers: usize, text: &str) -> Result<()> {
        if peers > MOST_PEERS || text.len() > LARGEST {
            let reason = "full (10,000 peers or 1 MiB): forget some, with `tower-seal peers forget ORIGIN`";
            return Err(refused(&self.path, reason, None));
        }
        let old = fs::metadata(&self.target).ok().map(|metadata| metadata.permissions());
        if old.as_ref().is_some_and(|permissions| permissions.readonly()) {
            return Err(refused(&self.path, "cannot be written: it is marked as read-only", None));
        }
        let write = || {
            let folder = folder(&self.target);
            // Of mode 0600 from its first moment on, which is the default of `tempfile`.
            let mut file = tempfile::Builder::new().prefix(".known-peers-").tempfile_in(folder)?;
            file.write_all(text.as_bytes())?;
            if let Some(permissions) = old {
                file.as_file().set_permissions(permissions)?;
            }
            file.as_file().sync_all()?;
            file.persist(&self.target)?;
            // The new name as well, where folders can be opened; elsewhere there is nothing to do.
            File::open(folder).and_then(|folder| folder.sync_all()).ok();
            Ok(())
        };
        write().map_err(|source| refused(&self.path, DENIED, Some(source)))
    }
}

/// The file that is meant, whether it is there or not.
fn behind_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&path) else { break };
        path = folder(&path).join(target);
    }
    path
}

/// The folder of a file, which for a bare file name is the current one.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn check_regular(path: &Path, metadata: &Metadata) -> Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(refused(path, "not a regular file: give the path of a file, which may be missing", None))
}

pub(super) fn damaged(path: &Path, line: usize, reason: &str) -> Error {
    refused(path, &format!("line {line}: {reason}"), None)
}

fn refused(path: &Path, reason: &str, source: Option<io::Error>) -> Error {
    Error::PeersFile { path: path.to_owned(), reason: reason.into(), source: source.map(Arc::new) }
}

/// What differs between operating systems.
#[cfg(unix)]
mod os {
    use std::{
        fs::{DirBuilder, Metadata, OpenOptions},
        os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    };

    pub(super) const KEEP_OPEN: bool = true;

    /// Device, inode, size, and the seconds and nanoseconds of the last changes of content and of rights.
    pub(super) type Look = (u64, u64, u64, (i64, i64), (i64, i64));

    pub(super) fn look(file: &Metadata) -> Look {
        let (modified, changed) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
        (file.dev(), file.ino(), file.size(), modified, changed)
    }

    /// The mode, if group or others may write.
    pub(super) fn written_by_others(file: &Metadata) -> Option<u32> {
        let mode = file.mode() & 0o7777;
        (mode & 0o022 != 0).then_some(mode)
    }

    pub(super) fn private_folders() -> DirBuilder {
        let mut folders = DirBuilder::new();
        folders.recursive(true).mode(0o700);
        folders
    }

    pub(super) fn private_file() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.mode(0o600);
        options
    }
}

/// Elsewhere rights are inherited from the folder, and an open file may not be replaced.
#[cfg(not(unix))]
mod os {
    use std::{
        fs::{DirBuilder, Metadata, OpenOptions},
        time::SystemTime,
    };

    pub(super) const KEEP_OPEN: bool = false;

    /// Size, and the time of the last change.
    pub(super) type Look = (u64, Option<SystemTime>);

    pub(super) fn look(file: &Metadata) -> Look {
        (file.len(), file.modified().ok())
    }

    pub(super) fn written_by_others(_: &Metadata) -> Option<u32> {
        None
    }

    pub(super) fn private_folders() -> DirBuilder {
        let mut folders = DirBuilder::new();
        folders.recursive(true);
        folders
    }

    pub(super) fn private_file() -> OpenOptions {
        OpenOptions::new()
    }
}
