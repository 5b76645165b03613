//! The public key, and its text form.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Result};

/// A node: its 32-byte Ed25519 public key (RFC 8032, section 5.1.5), as text 64 hex digits.
///
/// Not checked to be a point on the curve: a node id is a name, and a name that is no key is one that no
/// signature verifies under. Written in lower case, read in either (PROTOCOL, notation); the order is that
/// of the bytes. With serde it is the text in every format.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// The node with this public key. Any 32 bytes will do; whether they are a key shows when a
    /// signature is verified.
    #[must_use]
    pub const fn from_bytes(public_key: [u8; 32]) -> Self {
        NodeId(public_key)
    }

    /// The public key: 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// For logs: the first 10 hex digits and `…`.
    ///
    /// That is 40 bits, which somebody who wants to can match with a key of their own: not for decisions.
    #[must_use]
    pub fn short(self) -> impl fmt::Display {
        Short(self)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        // Lengths first: const-hex would take a `0x`, and the likely mistakes deserve their own words.
        match text.len() {
            64 => {}
            66 if text.starts_with("0x") => return Err("a node id is 64 hex digits without 0x in front"),
            0 => return Err("a node id is 64 hex digits, and there are none"),
            1..64 => return Err("a node id is 64 hex digits, and these are fewer"),
            _ => return Err("a node id is 64 hex digits, and these are more"),
        }
        let mut public_key = [0; 32];
        const_hex::decode_to_slice(text, &mut public_key)
            .map_err(|_| "a node id is 64 hex digits, and something else than 0-9 and a-f is among these")?;
        Ok(NodeId(public_key))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(const_hex::Buffer::<32>::new().const_format(&self.0).as_str())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

impl FromStr for NodeId {
    type Err = Error;

    /// Reads 64 hex digits in either case, with nothing around them.
    ///
    /// # Errors
    /// [`Error::Misuse`], which says what is wrong: the length, or digits that are none. The text comes
    /// from a command line or a configuration file, so it is this side that must act, not a peer.
    fn from_str(text: &str) -> Result<Self> {
        NodeId::parse(text).map_err(|reason| Error::Misuse { reason })
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(const_hex::Buffer::<32>::new().const_format(&self.0).as_str())
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Visitor)
    }
}

/// Reads the text where it lies, borrowed or not, without a `String` of its own.
struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = NodeId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a node id: a string of 64 hex digits")
    }

    // The text is not repeated in the error: it may be a peer's, or a secret in the wrong place.
    fn visit_str<E: de::Error>(self, text: &str) -> Result<NodeId, E> {
        NodeId::parse(text).map_err(E::custom)
    }
}

struct Short(NodeId);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.10}…", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

    fn id() -> NodeId {
        TEXT.parse().unwrap()
    }

    fn reason(text: &str) -> String {
        match text.parse::<NodeId>() {
            Err(Error::Misuse { reason }) => reason.to_owned(),
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    #[test]
    fn text_there_and_back() {
        assert_eq!(id().to_string(), TEXT);
        assert_eq!(TEXT.to_uppercase().parse::<NodeId>().unwrap(), id());
        assert_eq!(NodeId::from_bytes(*id().as_bytes()), id());
        assert_eq!(id().as_bytes()[..3], [0x19, 0xbf, 0x44]);
    }

    #[test]
    fn is_a_constant_and_needs_no_point() {
        const NOBODY: NodeId = NodeId::from_bytes([0xff; 32]);
        assert_eq!(NOBODY.to_string(), "f".repeat(64));
        assert!(id() < NOBODY);
    }

    #[test]
    fn forms_for_logs() {
        assert_eq!(id().short().to_string(), "19bf440969…");
        assert_eq!(format!("{:?}", id()), "NodeId(19bf440969…)");
        assert_eq!(format!("{:>66}", id()), format!("  {TEXT}"));
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        assert!(reason("").ends_with("there are none"));
        assert!(reason(&TEXT[1..]).ends_with("fewer"));
        assert!(reason(&format!("{TEXT}0")).ends_with("more"));
        assert!(reason(&format!(" {TEXT}")).ends_with("more"));
        assert!(reason(&format!("0x{TEXT}")).ends_with("without 0x in front"));
        for wrong in ["g", "0x", " ", "é"] {
            let text = format!("{wrong}{}", &TEXT[wrong.len()..]);
            assert!(reason(&text).contains("something else"), "{text}");
        }
    }

    #[test]
    fn serde_is_the_text() {
        let json = format!("\"{TEXT}\"");
        assert_eq!(serde_json::to_string(&id()).unwrap(), json);
        assert_eq!(serde_json::from_str::<NodeId>(&json).unwrap(), id());
        assert_eq!(serde_json::from_value::<NodeId>(TEXT.to_uppercase().into()).unwrap(), id());
        // An escape cannot be borrowed from the input.
        assert_eq!(serde_json::from_str::<NodeId>(&json.replacen('1', "\\u0031", 1)).unwrap(), id());

        let names = std::collections::BTreeMap::from([(id(), "alice")]);
        assert_eq!(serde_json::to_string(&names).unwrap(), format!("{{{json}:\"alice\"}}"));

        let error = serde_json::from_str::<NodeId>("\"c0ffee\"").unwrap_err().to_string();
        assert!(error.contains("64 hex digits, and these are fewer") && !error.contains("c0ffee"), "{error}");
        let error = serde_json::from_str::<NodeId>("7").unwrap_err().to_string();
        assert!(error.contains("expected a node id: a string of 64 hex digits"), "{error}");
    }
}
