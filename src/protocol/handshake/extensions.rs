//! The extensions that this crate knows (PROTOCOL section 8), as they stand in a hello or a reply.

use super::message::Extensions;
use crate::{
    error::{Error, Result},
    protocol::json::reader::{any_hex, fixed_hex},
    suite::key_agreement::{KEM_CIPHERTEXT, KEM_KEY},
};

pub(super) const TARGET: &str = "target";
pub(super) const MLKEM768: &str = "mlkem768";
pub(super) const PSK: &str = "psk";

/// The hello's ML-KEM-768 encapsulation key. Errors: `malformed` for another size.
pub(super) fn kem_key(extensions: &Extensions) -> Result<Option<Box<[u8; KEM_KEY]>>> {
    extensions.get(MLKEM768).map(|text| fixed_hex(text).map(Box::new)).transpose()
}

/// The reply's ML-KEM-768 ciphertext. Errors: `malformed` for another size.
pub(super) fn kem_ciphertext(extensions: &Extensions) -> Result<Option<Box<[u8; KEM_CIPHERTEXT]>>> {
    extensions.get(MLKEM768).map(|text| fixed_hex(text).map(Box::new)).transpose()
}

/// The id of a pre-shared secret. Errors: `malformed` outside 16 to 64 bytes.
pub(super) fn psk_id(extensions: &Extensions) -> Result<Option<Vec<u8>>> {
    let Some(text) = extensions.get(PSK) else {
        return Ok(None);
    };
    let id = any_hex(text)?;
    if !(16..=64).contains(&id.len()) {
        return Err(Error::malformed("the id of a pre-shared secret is not 16 to 64 bytes of hex"));
    }
    Ok(Some(id))
}
