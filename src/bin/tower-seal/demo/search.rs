//! Looking for plaintext in what the middle recorded.

use super::middle::{Exchange, Message};

/// A text in every form in which it might stand in a recording.
pub(super) struct Needle {
    text: &'static str,
    forms: Vec<Vec<u8>>,
}

impl Needle {
    pub(super) fn new(text: &'static str) -> Self {
        let hex = const_hex::encode(text);
        let mut forms = vec![text.as_bytes().to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
        for skip in 0..3 {
            let standard = base64_within(text.as_bytes(), skip);
            let for_urls = standard.iter().map(|&c| match c {
                b'+' => b'-',
                b'/' => b'_',
                c => c,
            });
            forms.push(for_urls.collect());
            forms.push(standard);
        }
        Needle { text, forms }
    }

    pub(super) fn text(&self) -> &'static str {
        self.text
    }

    /// Whether any form of it stands in any head or body.
    pub(super) fn is_in(&self, exchanges: &[Exchange]) -> bool {
        let mut messages = exchanges.iter().flat_map(Exchange::messages);
        messages.any(|message| self.is_within(message.head.as_bytes()) || self.is_within(&message.body()))
    }

    fn is_within(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| bytes.windows(form.len()).any(|window| window == form))
    }
}

/// Bytes of all heads and bodies.
pub(super) fn size(exchanges: &[Exchange]) -> usize {
    let size = |message: &Message| {
        message.head.len() + message.pieces.iter().map(|piece| piece.len()).sum::<usize>()
    };
    exchanges.iter().flat_map(Exchange::messages).map(size).sum()
}

/// What `text` looks like in base64 when `skip` bytes stand before it: the digits that it alone decides.
fn base64_within(text: &[u8], skip: usize) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = |range: std::ops::Range<usize>| {
        range.fold(0, |digit, bit| {
            let at = bit - skip * 8;
            digit << 1 | usize::from(text[at / 8] >> (7 - at % 8) & 1)
        })
    };
    let first = (skip * 8).div_ceil(6);
    let end = (skip + text.len()) * 8 / 6;
    (first..end).map(|digit| DIGITS[bits(digit * 6..digit * 6 + 6)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_form() {
        let needle = Needle::new("pay_invoice");
        let base64 = ["cGF5X2ludm9pY2U", "eHBheV9pbnZvaWNl", "eHhwYXlfaW52b2ljZXg="];
        for form in
            ["tools: pay_invoice.", "7061795F696E766F696365", "7061795f696e766f696365"].iter().chain(&base64)
        {
            assert!(needle.is_within(form.as_bytes()), "{form}");
        }
        assert!(!needle.is_within(b"pay_invoic 7061795f696e766f6963 cGF5X2ludm9pY cGF5X2ludm9pYw"));
        assert!(Needle::new("~~~???").is_within(b"fn5-Pz8_") && Needle::new("~~~???").is_within(b"fn5+Pz8/"));
    }
}
