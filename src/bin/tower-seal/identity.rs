//! `tower-seal id`, and where this machine's identity is kept.

use std::path::{Path, PathBuf};

use tower_seal::Identity;

use crate::{
    daemon,
    failure::{Exit, Failure},
};

pub(crate) fn run(file: Option<&Path>) -> Result<(), Failure> {
    daemon::announce(&load(file)?.node_id().to_string())
}

/// The identity in `file`, or in the user's data folder; made on first use.
pub(crate) fn load(file: Option<&Path>) -> Result<Identity, Failure> {
    let path = match file {
        Some(file) => file.to_owned(),
        None => data_folder()?.join("identity.pem"),
    };
    Ok(Identity::load_or_create(path)?)
}

/// `tower-seal` in the user's data folder, such as `~/.local/share`.
pub(crate) fn data_folder() -> Result<PathBuf, Failure> {
    dirs::data_dir().map(|folder| folder.join("tower-seal")).ok_or_else(|| {
        Failure::new(Exit::File, "this user has no data folder: set HOME, or name files with --identity and --peers")
    })
}
