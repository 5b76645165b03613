//! Identities, and the files that they are kept in.

use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tower_seal::Identity;

use crate::{
    NOTHING,
    freed::during,
    known::{Known, Secrets},
};

/// The seed, and how it stands in a key file: from a whole group of Base64 on.
fn seed(secrets: &mut Secrets, seed: &[u8]) {
    secrets.add("seed", seed);
    // 16 bytes of PKCS#8 come before it, and 18 are whole groups.
    secrets.add("seed in Base64", STANDARD.encode(&seed[2..]).as_bytes());
    secrets.add("seed in hex", const_hex::encode(seed).as_bytes());
}

/// What a key file holds: the last 32 bytes of its 48.
fn read(pem: &str) -> Vec<u8> {
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(text).unwrap()[16..].to_vec()
}

#[test]
fn identities_leave_no_seed() {
    let mut rng = Known::new(4);
    let (pem, freed) = during(|| {
        let identity = Identity::generate_from(&mut rng);
        let again = Identity::from_pem(&identity.to_pem().unwrap()).unwrap();
        assert_eq!(again.node_id(), identity.node_id());
        Identity::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----").unwrap_err();
        identity.to_pem().unwrap()
    });
    let mut secrets = Secrets::default();
    seed(&mut secrets, &rng.handed(0));
    assert_eq!(read(&pem), rng.handed(0));
    assert!(pem.contains(std::str::from_utf8(&secrets.0[1].1).unwrap()));
    assert_eq!(freed.shows(&secrets.0), NOTHING);
}

#[test]
fn key_files_leave_no_seed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("identity.pem");
    let (_, freed) = during(|| {
        let identity = Identity::load_or_create(&path).unwrap();
        identity.save(&path).unwrap_err();
        identity.save(folder.path().join("copy.pem")).unwrap();
        assert_eq!(Identity::load_or_create(&path).unwrap().node_id(), identity.node_id());
        assert_eq!(Identity::load(&path).unwrap().node_id(), identity.node_id());
    });
    let mut secrets = Secrets::default();
    seed(&mut secrets, &read(&fs::read_to_string(&path).unwrap()));
    assert_eq!(freed.shows(&secrets.0), NOTHING);
    // One that is damaged behind the key.
    let pem = fs::read_to_string(&path).unwrap().replace("-----END", "=-----END");
    let damaged = folder.path().join("copy.pem");
    fs::write(&damaged, pem).unwrap();
    let (_, freed) = during(|| Identity::load(&damaged).unwrap_err());
    assert_eq!(freed.shows(&secrets.0), NOTHING);
}
