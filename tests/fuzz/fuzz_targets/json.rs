//! JSON, to everything that reads some. What is taken here, another parser takes too, and reads the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tower_seal::Error;
use tower_seal::protocol::{MessageKind, Record, refusal};

fuzz_target!(|data: &[u8]| {
    let kind = MessageKind::of(data);
    let _ = MessageKind::is_unsealed(data);
    let other: Option<Value> = serde_json::from_slice(data).ok();
    let field = |name: &str| other.as_ref().and_then(|value| value.get(name)?.as_str());
    if let Some(kind) = kind {
        let expected = match field("type") {
            Some("key_exchange") => MessageKind::Handshake,
            Some("encrypted") => MessageKind::Record,
            Some("error") => MessageKind::Error,
            _ => MessageKind::JsonRpc,
        };
        assert_eq!(kind, expected);
        assert!(other.as_ref().unwrap().is_object());
    }
    if let Error::Refused { code, signed } = refusal(data) {
        assert!(!signed && field("code") == Some(code.as_str()));
    }
    if let Ok(record) = Record::parse_json(data, 1 << 20) {
        assert_eq!(kind, Some(MessageKind::Record));
        let nonce: [u8; 12] = const_hex::decode_to_array(field("nonce").unwrap()).unwrap();
        assert_eq!(record.is_final(), nonce[0] & 1 != 0);
    }
});
