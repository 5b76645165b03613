//! Secret keys as text: PKCS#8 in PEM (RFC 8410, RFC 7468), as `openssl genpkey -algorithm ed25519` makes it.

use pkcs8::{
    AlgorithmIdentifierRef, LineEnding, ObjectIdentifier, PrivateKeyInfoRef, SecretDocument,
    der::{Decode, Encode, asn1::OctetStringRef, pem},
};
use zeroize::Zeroizing;

use super::Identity;
use crate::error::{Error, Result};

/// id-Ed25519 (RFC 8410, section 3).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

impl Identity {
    /// The secret key as PKCS#8 version 1 in PEM (RFC 8410, section 7): 119 bytes of text, which are
    /// wiped on drop.
    ///
    /// # Errors
    /// [`Error::Misuse`] if the encoder fails, which it does for no Ed25519 key.
    pub fn to_pem(&self) -> Result<Zeroizing<String>> {
        self.encode().map_err(|_| Error::Misuse { reason: "this key cannot be written as PKCS#8" })
    }

    /// Reads what [`to_pem`](Self::to_pem) or `openssl genpkey -algorithm ed25519` wrote.
    ///
    /// Takes PKCS#8 version 1, and version 2 with a public key (RFC 5958) if that belongs to the private
    /// key. This is also the way for keys that are in no file of one's own, such as those of a secret store.
    ///
    /// # Errors
    /// [`Error::Misuse`], which says what the text is instead: no PEM, an encrypted key, a public key, a key
    /// for another algorithm, a key of OpenSSH, or damaged. It never repeats any of the text.
    pub fn from_pem(pem: &str) -> Result<Self> {
        parse(pem).map_err(|reason| Error::Misuse { reason })
    }

    fn encode(&self) -> pkcs8::Result<Zeroizing<String>> {
        // The key is an OCTET STRING in another (RFC 8410, section 7).
        let inner = Zeroizing::new(OctetStringRef::new(self.seed())?.to_der()?);
        let algorithm = AlgorithmIdentifierRef { oid: ED25519, parameters: None };
        let key = PrivateKeyInfoRef::new(algorithm, OctetStringRef::new(&inner)?);
        Ok(SecretDocument::encode_msg(&key)?.to_pem("PRIVATE KEY", LineEnding::LF)?)
    }
}

macro_rules! make_one {
    ($what:expr) => {
        concat!($what, ": make one with `openssl genpkey -algorithm ed25519`")
    };
}
macro_rules! not_ed25519 {
    ($what:literal) => {
        make_one!(concat!("it is ", $what, ", and an identity is an Ed25519 private key"))
    };
}

pub(super) const NOT_PEM: &str =
    make_one!("it is not PEM, and a key begins with `-----BEGIN PRIVATE KEY-----`");
const DAMAGED: &str = make_one!("it is not a whole PKCS#8 key (RFC 8410): restore a backup. Without one");
const FOREIGN_PUBLIC_KEY: &str =
    make_one!("the public key in it does not belong to the private key: restore a backup. Without one");

/// The errors are sentences that fit a path as well as a text.
pub(super) fn parse(text: &str) -> Result<Identity, &'static str> {
    let text = text.trim();
    check_label(text)?;
    let mut pem = pem::Decoder::new(text.as_bytes()).map_err(|_| DAMAGED)?;
    let mut der = Zeroizing::new(vec![0; pem.remaining_len()]);
    pem.decode(&mut der).map_err(|_| DAMAGED)?;

    let key = PrivateKeyInfoRef::from_der(&der).map_err(|_| DAMAGED)?;
    check_algorithm(key.algorithm.oid)?;
    // RFC 8410, section 3: the parameters MUST be absent. Section 7: the key is an OCTET STRING in another.
    if key.algorithm.parameters.is_some() {
        return Err(DAMAGED);
    }
    let seed = <&OctetStringRef>::from_der(key.private_key.as_bytes()).map_err(|_| DAMAGED)?;
    let identity = Identity::from_seed(seed.as_bytes().try_into().map_err(|_| DAMAGED)?);

    match key.public_key {
        Some(public) if public.as_bytes() != Some(identity.node_id().as_bytes()) => Err(FOREIGN_PUBLIC_KEY),
        _ => Ok(identity),
    }
}

/// By the first `BEGIN` line. What decides is the decoder: this finds words for what people really try.
fn check_label(text: &str) -> Result<(), &'static str> {
    let label = text.split_once("-----BEGIN ").and_then(|(_, rest)| rest.split_once("-----"));
    Err(match label.map(|(label, _)| label) {
        Some("PRIVATE KEY") => return Ok(()),
        Some("ENCRYPTED PRIVATE KEY") => {
            "it is an encrypted key, and nobody is asked for a passphrase: decrypt it with \
             `openssl pkey -in OLD -out NEW`"
        }
        Some("PUBLIC KEY" | "RSA PUBLIC KEY") => {
            "it is a public key: give the private key, which begins with `-----BEGIN PRIVATE KEY-----`"
        }
        Some("CERTIFICATE") => not_ed25519!("a certificate"),
        Some("RSA PRIVATE KEY") => not_ed25519!("an RSA key"),
        Some("EC PRIVATE KEY" | "EC PARAMETERS") => not_ed25519!("an EC key"),
        Some("DSA PRIVATE KEY" | "DSA PARAMETERS") => not_ed25519!("a DSA key"),
        Some("OPENSSH PRIVATE KEY") => make_one!("it is an OpenSSH key, and a key has to be in PKCS#8"),
        Some(_) => make_one!("it is PEM, but not of a private key in PKCS#8"),
        None => NOT_PEM,
    })
}

fn check_algorithm(oid: ObjectIdentifier) -> Result<(), &'static str> {
    if oid == ED25519 {
        return Ok(());
    }
    Err(match oid.to_string().as_str() {
        "1.2.840.113549.1.1.1" | "1.2.840.113549.1.1.10" => not_ed25519!("an RSA key"),
        "1.2.840.10045.2.1" => not_ed25519!("an EC key"),
        "1.2.840.10040.4.1" => not_ed25519!("a DSA key"),
        "1.3.101.110" => not_ed25519!("an X25519 key"),
        "1.3.101.111" => not_ed25519!("an X448 key"),
        "1.3.101.113" => not_ed25519!("an Ed448 key"),
        _ => not_ed25519!("a key for another algorithm"),
    })
}
