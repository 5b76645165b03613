//! JSON, to everything that reads some. What is taken here, another parser takes too, and reads the same.

#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use tower_seal::Error;
use tower_seal::protocol::{MessageKind, Record, refusal};

fuzz_target!(|data: &[u8]| {
    let kind = MessageKind::of(data);
    let _ = MessageKind::is_unsealed(data);
    // Raw, since of a number that no field has nobody here minds how great it is.
    let other: Option<HashMap<String, Box<RawValue>>> = serde_json::from_slice(data).ok();
    let field = |name: &str| serde_json::from_str::<String>(other.as_ref()?.get(name)?.get()).ok();
    if let Some(kind) = kind {
        let expected = match field("type").as_deref() {
            Some("key_exchange") => MessageKind::Handshake,
            Some("encrypted") => MessageKind::Record,
            Some("error") => MessageKind::Error,
            _ => MessageKind::JsonRpc,
        };
        assert_eq!(kind, expected);
        assert!(other.is_some());
    }
    if let Error::Refused { code, signed } = refusal(data) {
        assert!(!signed && field("code").as_deref() == Some(code.as_str()));
    }
    if let Ok(record) = Record::parse_json(data, 1 << 20) {
        assert_eq!(kind, Some(MessageKind::Record));
        let nonce: [u8; 12] = const_hex::decode_to_array(field("nonce").unwrap()).unwrap();
        assert_eq!(record.is_final(), nonce[0] & 1 != 0);
    }
});
