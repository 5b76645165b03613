//! The byte notation of PROTOCOL.md: `lp`, `u64`, `list`, `map`.

use std::collections::BTreeMap;

/// Bytes that are going to be signed or hashed.
#[derive(Default)]
pub(super) struct Transcript(Vec<u8>);

impl Transcript {
    pub(super) fn new(label: &[u8]) -> Self {
        Transcript(Vec::with_capacity(512)).lp(label)
    }

    /// A u32 length, then the bytes.
    pub(super) fn lp(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&length(bytes));
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn u64(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// A u32 count, then `lp` of each, in order.
    pub(super) fn list<'a>(mut self, items: impl ExactSizeIterator<Item = &'a str>) -> Self {
        self.count(items.len());
        items.fold(self, |transcript, item| transcript.lp(item.as_bytes()))
    }

    /// A u32 count, then `lp` of name and value, sorted by the bytes of the name.
    pub(super) fn map(mut self, map: &BTreeMap<String, String>) -> Self {
        self.count(map.len());
        map.iter().fold(self, |transcript, (name, value)| transcript.lp(name.as_bytes()).lp(value.as_bytes()))
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.0
    }

    fn count(&mut self, count: usize) {
        self.0.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
    }
}

/// The u32 before `bytes` in `lp`. Everything that has one is far below 4 GiB.
pub(super) fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}
