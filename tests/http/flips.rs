//! Each bit of a framed body: whichever is flipped, the request is refused for what it is then, nothing of it reaches
//! the application, and the genuine one is served afterwards.

use tower_seal::{config::Encoding, error::Code};

use crate::{siege::Siege, support::*};

/// In binary: what may be said by where the bit is. The length comes first, and the ciphertext is behind the rest.
fn codes(at: usize) -> &'static [Code] {
    match at {
        // Shorter, longer, or longer than anything may be.
        0..4 => &[Code::Truncated, Code::TooLarge, Code::Malformed, Code::DecryptionFailed],
        4..6 => &[Code::Malformed, Code::DecryptionFailed],
        6..22 => &[Code::UnknownSession],
        22..54 => &[Code::DecryptionFailed, Code::Malformed],
        54 => &[Code::Malformed, Code::DecryptionFailed],
        55..58 => &[Code::DecryptionFailed],
        58..66 => &[Code::OutOfOrder],
        66..130 => &[Code::InvalidSignature],
        130 => &[Code::Malformed, Code::DecryptionFailed],
        131..135 => &[Code::Malformed],
        _ => &[Code::DecryptionFailed],
    }
}

/// Where the flip only changes the case of a hex digit, or a name that says the same, JSON says the same as before.
fn says_the_same(changed: &[u8], genuine: &[u8]) -> bool {
    let read = |bytes: &[u8]| {
        let mut value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        let fields = value.as_object_mut()?;
        fields.values_mut().for_each(|value| {
            if let serde_json::Value::String(text) = value {
                text.make_ascii_lowercase();
            }
        });
        Some(value)
    };
    read(changed).is_some_and(|said| Some(said) == read(genuine))
}

#[tokio::test(start_paused = true)]
async fn no_bit_of_a_binary_body_can_be_flipped() {
    let mut siege = Siege::new(Encoding::Binary).await;
    siege
        .during(async |siege| {
            let request = siege.unary("secret");
            for bit in 0..request.bytes.len() * 8 {
                let mut bytes = request.bytes.to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let answer = siege.post(bytes).await;
                assert_eq!(answer.content_type(), ERROR, "{bit}");
                let code = answer.rejection.unwrap();
                assert!(codes(bit / 8).contains(&code), "bit {} of byte {}: {code}", bit % 8, bit / 8);
                assert_eq!(siege.asked(), [], "{bit}");
            }
            let answer = siege.post(request.bytes.clone()).await;
            assert_eq!(siege.hand.open(&answer, &request.response).1, b"secret");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn no_bit_of_a_json_body_can_be_flipped() {
    let mut siege = Siege::new(Encoding::Json).await;
    siege
        .during(async |siege| {
            let request = siege.unary("secret");
            for bit in 0..request.bytes.len() * 8 {
                let mut bytes = request.bytes.to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                // The last one ends the line, and may be missing, but is nothing else.
                if says_the_same(&bytes, &request.bytes) {
                    continue;
                }
                let answer = siege.post(bytes).await;
                assert_eq!(answer.content_type(), ERROR, "{bit}");
                assert_eq!(siege.asked(), [], "{bit}");
            }
            let answer = siege.post(request.bytes.clone()).await;
            assert_eq!(siege.hand.open(&answer, &request.response).1, b"secret");
        })
        .await;
}
