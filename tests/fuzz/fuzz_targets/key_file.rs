//! A key file.

#![no_main]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::LazyLock,
};

use libfuzzer_sys::fuzz_target;
use tower_seal::Identity;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = tempfile::tempdir().unwrap().keep().join("key");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
});

fuzz_target!(|data: &[u8]| {
    fs::write(&*FILE, data).unwrap();
    let loaded = Identity::load(&*FILE);
    let parsed = std::str::from_utf8(data).ok().and_then(|text| Identity::from_pem(text).ok());
    match &loaded {
        Ok(identity) => {
            assert_eq!(parsed.unwrap().node_id(), identity.node_id());
            let again = Identity::from_pem(&identity.to_pem().unwrap()).unwrap();
            assert_eq!(again.node_id(), identity.node_id());
        }
        // A file has a limit that a text has not.
        Err(_) => assert!(parsed.is_none() || data.len() > 16 << 10),
    }
});
