//! Ed25519 signatures on which engines differ: the classes of "Taming the many EdDSAs" (Chalkias, Garillot,
//! Nikolaenko; the vectors of ed25519-speccheck), made anew. Every backend has to say the same to each.

use curve25519_dalek::{
    EdwardsPoint, Scalar,
    constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION},
    edwards::CompressedEdwardsY,
    traits::IsIdentity,
};
use sha2::{Digest as _, Sha512};

use super::{Backend, Verifier, is_reduced, is_small, public_key};
use crate::error::Code;

/// Something to sign, of which it takes several until a challenge has the remainder that is wanted.
type Message = [u8; 8];

fn encoded(point: EdwardsPoint) -> [u8; 32] {
    point.compress().to_bytes()
}

fn challenge(r: &[u8; 32], a: &[u8; 32], message: &[u8]) -> Scalar {
    let hash = Sha512::new().chain_update(r).chain_update(a).chain_update(message).finalize();
    Scalar::from_bytes_mod_order_wide(&hash.into())
}

fn joined(r: &[u8; 32], s: &[u8; 32]) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(r);
    signature[32..].copy_from_slice(s);
    signature
}

/// A scalar as secrets are, without a bit of structure.
fn scalar(seed: u8) -> Scalar {
    Scalar::from_bytes_mod_order([seed; 32])
}

/// The torsion point of order 8, 4, 2 or 1.
fn torsion(order: usize) -> EdwardsPoint {
    EIGHT_TORSION[8 / order % 8]
}

/// A public key or R: a known multiple of the base point, plus something of small order.
#[derive(Clone, Copy)]
struct Point {
    secret: Scalar,
    torsion: EdwardsPoint,
    encoding: [u8; 32],
}

impl Point {
    fn new(secret: Scalar, torsion: EdwardsPoint) -> Self {
        Point { secret, torsion, encoding: encoded(secret * B + torsion) }
    }

    /// Of small order, in an encoding that may be another than the canonical one.
    fn small(torsion: EdwardsPoint, encoding: [u8; 32]) -> Self {
        Point { secret: Scalar::ZERO, torsion, encoding }
    }
}

/// Whether `[S]B = R + [k]A`, or only eight times that.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Holds {
    Cofactorless,
    CofactoredOnly,
}

/// The first message whose signature is as wanted, and that signature. Points of small order decide, so about
/// one message in eight fits.
fn signed(a: Point, r: Point, wanted: Holds) -> (Message, [u8; 64]) {
    let messages = (0_u64..4096).map(u64::to_be_bytes);
    let mut fitting = messages.filter_map(|message| {
        let k = challenge(&r.encoding, &a.encoding, &message);
        let s = r.secret + k * a.secret;
        let left_over = r.torsion + k * a.torsion;
        let holds = if left_over.is_identity() { Holds::Cofactorless } else { Holds::CofactoredOnly };
        (holds == wanted).then(|| (message, joined(&r.encoding, &s.to_bytes())))
    });
    fitting.next().expect("a message in 4096")
}

/// Panics unless every backend says `good`.
#[track_caller]
fn all_say(good: bool, a: &[u8; 32], message: &[u8], signature: &[u8; 64]) {
    for &backend in Backend::ALL {
        let verdict = Verifier::from_bytes(backend, a).and_then(|key| key.verify(message, signature));
        assert_eq!(verdict.is_ok(), good, "{backend:?}");
        // Whether by the key or by the signature, the answer is the same.
        assert!(verdict.err().is_none_or(|error| error.code() == Some(Code::InvalidSignature)));
    }
}

#[track_caller]
fn all_say_of(good: bool, a: Point, r: Point, wanted: Holds) {
    let (message, signature) = signed(a, r, wanted);
    all_say(good, &a.encoding, &message, &signature);
}

const ONE: usize = 1;
const EIGHT: usize = 8;

fn honest_key() -> Point {
    Point::new(scalar(0x11), torsion(ONE))
}

fn honest_r() -> Point {
    Point::new(scalar(0x22), torsion(ONE))
}

/// Every encoding of a point of small order: of the eight, and the six that are not canonical.
fn small_points() -> Vec<Point> {
    let p = |low: u8| {
        let mut y = [0xff; 32];
        (y[0], y[31]) = (low, 0x7f);
        y
    };
    let signed = |mut y: [u8; 32]| {
        y[31] |= 0x80;
        y
    };
    let mut all: Vec<_> = EIGHT_TORSION.iter().map(|&point| Point::small(point, encoded(point))).collect();
    // y = p + 1 and p, that is 1 and 0, of either sign; and the sign of x = 0 for 1 and -1.
    for y in
        [p(0xee), signed(p(0xee)), p(0xed), signed(p(0xed)), signed(p(0xec)), signed(encoded(torsion(1)))]
    {
        let point = CompressedEdwardsY(y).decompress().expect("dalek takes these");
        assert!(point.is_small_order() && encoded(point) != y);
        all.push(Point::small(point, y));
    }
    all
}

#[test]
fn the_cases_are_what_they_say() {
    for order in [1, 2, 4, 8] {
        let point = torsion(order);
        assert!((Scalar::from(order as u64) * point).is_identity());
        assert!(order == 1 || !(Scalar::from(order as u64 / 2) * point).is_identity());
    }
    let encodings: std::collections::HashSet<_> = small_points().iter().map(|point| point.encoding).collect();
    assert_eq!(encodings.len(), 14);
}

#[test]
fn honest_signatures_are_taken_and_made_alike() {
    all_say_of(true, honest_key(), honest_r(), Holds::Cofactorless);
    for seed in [[0; 32], [0x42; 32], [0xff; 32]] {
        let key = public_key(&seed);
        for length in [0, 1, 64, 1000] {
            let message = vec![0xa5; length];
            let signatures: Vec<_> =
                Backend::ALL.iter().map(|backend| backend.signer(&seed).sign(&message).unwrap()).collect();
            for signature in &signatures {
                assert!(signature == &signatures[0]);
                all_say(true, &key, &message, signature);
                let mut other = message.clone();
                other.push(0);
                all_say(false, &key, &other, signature);
                for bit in 0..512 {
                    let mut flipped = *signature;
                    flipped[bit / 8] ^= 1 << (bit % 8);
                    all_say(false, &key, &message, &flipped);
                }
            }
        }
    }
}

/// Vectors 0 and 1, and 10 and 11: A of small order, in every encoding, under which anybody can sign.
#[test]
fn a_key_of_small_order_is_refused() {
    for key in small_points() {
        all_say_of(false, key, honest_r(), Holds::Cofactorless);
        // R mixed so that it makes up for A in some messages.
        all_say_of(false, key, Point::new(scalar(0x22), -key.torsion), Holds::Cofactorless);
        for r in small_points() {
            if r.torsion == torsion(ONE) || r.torsion == -key.torsion {
                all_say_of(false, key, r, Holds::Cofactorless);
            }
        }
    }
}

/// Vectors 2, 8 and 9: R of small order, in every encoding. With one that is not canonical, the challenge may be
/// over the bytes that came or over the canonical ones.
#[test]
fn an_r_of_small_order_is_refused() {
    let honest = honest_key();
    let mixed = Point::new(scalar(0x11), torsion(EIGHT));
    for r in small_points() {
        if r.torsion == torsion(ONE) {
            all_say_of(false, honest, r, Holds::Cofactorless);
        } else {
            all_say_of(false, honest, r, Holds::CofactoredOnly);
            all_say_of(false, mixed, r, Holds::Cofactorless);
        }
        let canonical = Point::small(r.torsion, encoded(r.torsion));
        let wanted = if r.torsion == torsion(ONE) { Holds::Cofactorless } else { Holds::CofactoredOnly };
        let (message, mut signature) = signed(honest, canonical, wanted);
        signature[..32].copy_from_slice(&r.encoding);
        all_say(false, &honest.encoding, &message, &signature);
    }
}

/// Vector 3, taken; and 4 and 5, that only eight times the equation makes good.
#[test]
fn points_of_mixed_order_are_taken_exactly_where_the_cofactorless_equation_holds() {
    for order in [2, 4, 8] {
        let mixed_key = Point::new(scalar(0x11), torsion(order));
        let mixed_r = Point::new(scalar(0x22), torsion(order));
        all_say_of(true, mixed_key, mixed_r, Holds::Cofactorless);
        all_say_of(false, mixed_key, mixed_r, Holds::CofactoredOnly);
        all_say_of(true, mixed_key, honest_r(), Holds::Cofactorless);
        all_say_of(false, mixed_key, honest_r(), Holds::CofactoredOnly);
        all_say_of(false, honest_key(), mixed_r, Holds::CofactoredOnly);
    }
}

/// Vectors 6 and 7: S + L, up to where it still fits, and S with its high bits set.
#[test]
fn an_s_that_is_not_reduced_is_refused() {
    let (message, signature) = signed(honest_key(), honest_r(), Holds::Cofactorless);
    let order = (-Scalar::ONE).to_bytes();
    let mut s: [u8; 32] = signature[32..].try_into().unwrap();
    for _ in 0..15 {
        let mut carry = 1;
        for (digit, summand) in s.iter_mut().zip(order) {
            let sum = u16::from(*digit) + u16::from(summand) + carry;
            (*digit, carry) = (sum as u8, sum >> 8);
        }
        assert_eq!(carry, 0);
        all_say(false, &honest_key().encoding, &message, &joined(&honest_r().encoding, &s));
    }
    for bit in [0x20, 0x40, 0x80, 0xe0] {
        let mut high = signature;
        high[63] |= bit;
        all_say(false, &honest_key().encoding, &message, &high);
    }
}

#[test]
fn an_s_is_reduced_below_the_order() {
    let border = (-Scalar::ONE).to_bytes();
    let with = |at: usize, byte: u8| {
        let mut s = border;
        s[at] = byte;
        s
    };
    assert_eq!(border[0], 0xec);
    for s in [
        [0; 32],
        border,
        with(0, 0xed),
        with(0, 0xee),
        with(1, 0xd2),
        with(1, 0xd4),
        with(16, 1),
        with(31, 0x0f),
    ] {
        assert_eq!(is_reduced(&s), bool::from(Scalar::from_canonical_bytes(s).is_some()), "{s:?}");
    }
}

/// Of the y from p on some belong to points of large order. Nobody knows a signature under those, so it is the
/// key itself that has to be refused.
#[test]
fn what_is_not_canonical_is_refused() {
    let (message, signature) = signed(honest_key(), honest_r(), Holds::Cofactorless);
    let mut large = 0;
    for low in 0xed..=0xff {
        for high in [0x7f, 0xff] {
            let mut y = [0xff; 32];
            (y[0], y[31]) = (low, high);
            let point = CompressedEdwardsY(y).decompress();
            large += usize::from(point.is_some_and(|point| !point.is_small_order()));
            for &backend in Backend::ALL {
                assert!(Verifier::from_bytes(backend, &y).is_err(), "{backend:?}");
            }
            let r = joined(&y, signature.last_chunk().unwrap());
            all_say(false, &honest_key().encoding, &message, &r);
        }
    }
    assert!(large > 10);
}

#[test]
fn small_order_is_found_by_the_bytes() {
    for point in EIGHT_TORSION {
        assert!(is_small(&encoded(point)));
        assert!(!is_small(&encoded(point + B)));
    }
    for point in small_points() {
        for &backend in Backend::ALL {
            assert!(Verifier::from_bytes(backend, &point.encoding).is_err(), "{backend:?}");
        }
    }
}

#[test]
fn a_key_that_is_no_point_is_refused() {
    let (message, signature) = signed(honest_key(), honest_r(), Holds::Cofactorless);
    let nowhere = (2..=255).map(|low| {
        let mut y = [0; 32];
        y[0] = low;
        y
    });
    let nowhere: Vec<_> = nowhere.filter(|y| CompressedEdwardsY(*y).decompress().is_none()).collect();
    assert!(nowhere.len() > 100);
    for y in nowhere {
        all_say(false, &y, &message, &signature);
        all_say(false, &honest_key().encoding, &message, &joined(&y, signature.last_chunk().unwrap()));
    }
}
