//! The COMMAND that is wrapped.

use std::ffi::OsString;

use tokio::process::Command;
use tower_seal::NodeId;

use crate::failure::{Exit, Failure};

/// Tells a child who calls; not set where that is not known.
pub(crate) const PEER: &str = "TOWER_SEAL_PEER";

/// A command and its arguments.
#[derive(Debug)]
pub(crate) struct Program {
    name: OsString,
    arguments: Vec<OsString>,
}

impl Program {
    /// Looks whether it can be started, as far as that can be known before.
    pub(crate) fn find(words: Vec<OsString>) -> Result<Option<Self>, Failure> {
        let mut words = words.into_iter();
        let Some(name) = words.next() else { return Ok(None) };
        let program = Program { name, arguments: words.collect() };
        match program.unusable() {
            None => Ok(Some(program)),
            Some(reason) => {
                Err(Failure::new(Exit::Usage, format!("`{program}` cannot be started: {reason}")))
            }
        }
    }

    pub(super) fn command(&self, peer: Option<NodeId>) -> Command {
        let mut command = Command::new(&self.name);
        command.args(&self.arguments);
        match peer {
            Some(peer) => command.env(PEER, peer.to_string()),
            // Whoever started this program is not the caller.
            None => command.env_remove(PEER),
        };
        command
    }

    #[cfg(unix)]
    fn unusable(&self) -> Option<String> {
        use rustix::fs::{Access, access};
        let path = std::path::Path::new(&self.name);
        if self.name.is_empty() {
            return Some("its name is empty: give one after --".to_owned());
        }
        if self.name.as_encoded_bytes().contains(&b'/') {
            let shown = path.display();
            return match path.metadata() {
                Err(error) => Some(format!("{}: check the path after --", missing(&error))),
                Ok(about) if !about.is_file() => Some("it is no file: check the path after --".to_owned()),
                Ok(_) if access(path, Access::EXEC_OK).is_err() => Some(format!(
                    "it may not be executed: `chmod +x {shown}`, or put what runs it before it, such as `-- python3 {shown}`"
                )),
                Ok(_) => None,
            };
        }
        // Where there is no PATH, the system has one of its own.
        let folders = std::env::var_os("PATH")?;
        let found = std::env::split_paths(&folders)
            .map(|folder| folder.join(path))
            .any(|path| path.is_file() && access(&path, Access::EXEC_OK).is_ok());
        let remedy = "no folder of PATH has it: install it, or give its path after --";
        (!found).then(|| remedy.to_owned())
    }

    #[cfg(not(unix))]
    fn unusable(&self) -> Option<String> {
        None
    }
}

#[cfg(unix)]
fn missing(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file",
        std::io::ErrorKind::PermissionDenied => "this user may not look there",
        _ => "it cannot be looked at",
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.name.display())
    }
}
