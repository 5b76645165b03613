//! Ed25519 signatures that lenient verifiers take (PROTOCOL section 1 lists what a strict one checks).

use std::cmp::Ordering;

use ed25519_dalek::{SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha512};

use super::hand;

/// A number of 256 bits, least significant word first.
type Number = [u64; 4];

/// The order of the group of points, 2^252 + 27742317777372353535851937790883648493.
const L: Number = [0x5812_631a_5cf5_d3ed, 0x14de_f9de_a2f7_9cd6, 0, 0x1000_0000_0000_0000];

/// Encodings of the eight points of small order, then of some of them in ways that are not canonical.
pub(crate) const SMALL: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

/// All of order 1, as [`SMALL`] writes them.
pub(crate) const IDENTITY: [&str; 4] = [SMALL[0], SMALL[8], SMALL[10], SMALL[11]];

pub(crate) fn point(text: &str) -> [u8; 32] {
    const_hex::decode_to_array(text).unwrap()
}

/// By S + L in place of S.
pub(crate) fn too_large(signature: &[u8]) -> Vec<u8> {
    let s = add(number(&signature[32..]), L);
    [&signature[..32], &bytes(s)].concat()
}

/// By an R of order 1, in any of its encodings: [S]B = R + [k]A holds.
pub(crate) fn small_r(seed: &[u8; 32], r: &[u8; 32], message: &[u8]) -> Vec<u8> {
    let s = times(challenge(r, &hand::node_id(seed), message), secret(seed));
    [*r, bytes(s)].concat()
}

/// By an R with a point of order 8 added: 8[S]B = 8R + 8[k]A holds, the equation without the 8s does not.
pub(crate) fn cofactored(seed: &[u8; 32], message: &[u8]) -> Vec<u8> {
    let once = [0x55; 32];
    let r = mixed(&hand::node_id(&once));
    let k = challenge(&r, &hand::node_id(seed), message);
    [r, bytes(plus(secret(&once), times(k, secret(seed))))].concat()
}

/// A public key with a point of order 8 added, which is neither of small order nor honest.
pub(crate) fn mixed(public_key: &[u8; 32]) -> [u8; 32] {
    let point = |bytes: &[u8; 32]| VerifyingKey::from_bytes(bytes).unwrap().to_edwards();
    (point(public_key) + point(&self::point(SMALL[4]))).compress().to_bytes()
}

/// A signature under `public_key`, which is that of `seed` plus some point of an order up to 8 (or only that,
/// without a seed). Its equation holds for about one message in eight: `message` is asked again and again until
/// it `holds`, or until it does not, though eight times the equation does.
pub(crate) fn under<T>(
    seed: Option<&[u8; 32]>,
    public_key: &[u8; 32],
    holds: bool,
    mut message: impl FnMut(u64) -> (T, Vec<u8>),
) -> (T, Vec<u8>) {
    let once = [0x55; 32];
    let r = hand::node_id(&once);
    (0..)
        .find_map(|attempt| {
            let (whole, message) = message(attempt);
            let k = challenge(&r, public_key, &message);
            let s = seed.map_or([0; 4], |seed| times(k, secret(seed)));
            (k[0].is_multiple_of(8) == holds).then(|| (whole, [r, bytes(plus(secret(&once), s))].concat()))
        })
        .unwrap()
}

fn challenge(r: &[u8; 32], public_key: &[u8; 32], message: &[u8]) -> Number {
    let hash = Sha512::new().chain_update(r).chain_update(public_key).chain_update(message).finalize();
    hash.iter().rev().fold([0; 4], |sum, byte| {
        let shifted = (0..8).fold(sum, |sum, _| plus(sum, sum));
        plus(shifted, [u64::from(*byte), 0, 0, 0])
    })
}

/// The secret scalar (RFC 8032, section 5.1.5).
fn secret(seed: &[u8; 32]) -> Number {
    let mut scalar = SigningKey::from_bytes(seed).to_scalar_bytes();
    scalar[0] &= 248;
    scalar[31] = scalar[31] & 127 | 64;
    reduced(number(&scalar))
}

fn number(bytes: &[u8]) -> Number {
    std::array::from_fn(|i| u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().unwrap()))
}

fn bytes(number: Number) -> [u8; 32] {
    number.map(u64::to_le_bytes).concat().try_into().unwrap()
}

fn add(a: Number, b: Number) -> Number {
    let mut carry = 0;
    std::array::from_fn(|i| {
        let sum = u128::from(a[i]) + u128::from(b[i]) + carry;
        carry = sum >> 64;
        sum as u64
    })
}

fn reduced(mut a: Number) -> Number {
    while a.iter().rev().cmp(L.iter().rev()) != Ordering::Less {
        let mut borrow = false;
        a = std::array::from_fn(|i| {
            let (difference, first) = a[i].overflowing_sub(L[i]);
            let (difference, second) = difference.overflowing_sub(u64::from(borrow));
            borrow = first || second;
            difference
        });
    }
    a
}

fn plus(a: Number, b: Number) -> Number {
    reduced(add(a, b))
}

fn times(a: Number, b: Number) -> Number {
    (0..256).rev().fold([0; 4], |sum, bit| {
        let sum = plus(sum, sum);
        if a[bit / 64] >> (bit % 64) & 1 == 1 { plus(sum, b) } else { sum }
    })
}
