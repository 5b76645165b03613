//! Project Wycheproof's vectors, through what this room offers, on every backend.
//!
//! Each vector is either run or out of the range of these functions, for a reason; the numbers of both are told
//! exactly, so that a new edition of the vectors can't drop out unseen.

use std::{collections::BTreeMap, convert::Infallible};

use rand_core::{TryCryptoRng, TryRng};
use wycheproof::{TestResult, aead, eddsa, hkdf, xdh};

use super::{Backend, KEY, NONCE, SuiteId, TAG, ed25519::Verifier, hash};
use crate::error::Code;

/// What became of the vectors of one file: how many of each kind.
#[derive(Default)]
struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    fn count(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// Panics unless these are the numbers, and together all the vectors of the file.
    #[track_caller]
    fn is(self, all: usize, kinds: &[(&'static str, usize)]) {
        assert_eq!(self.0, kinds.iter().copied().collect());
        assert_eq!(self.0.values().sum::<usize>(), all);
    }
}

fn aead_vectors(backend: Backend, suite: SuiteId, name: aead::TestName) -> (Tally, usize) {
    let (set, mut tally) = (aead::TestSet::load(name).unwrap(), Tally::default());
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let Ok(key) = <&[u8; KEY]>::try_from(&test.key[..]) else {
            tally.count("out of range: no key of 256 bits");
            continue;
        };
        let Ok(nonce) = <&[u8; NONCE]>::try_from(&test.nonce[..]) else {
            tally.count("out of range: no nonce of 96 bits");
            continue;
        };
        if !test.aad.is_empty() {
            tally.count("out of range: associated data");
            continue;
        }
        let tag = <&[u8; TAG]>::try_from(&test.tag[..]).unwrap();
        let aead = backend.aead(suite, key).unwrap();
        let what = format!("{backend:?} {suite:?} {}", test.tc_id);
        let (mut opened, mut left) = (test.ct.to_vec(), test.ct.to_vec());
        let good = aead.open(nonce, &mut opened, tag).is_ok();
        assert_eq!(good, aead.open_or_leave(nonce, &mut left, tag).is_ok(), "{what}");
        let mut sealed = test.pt.to_vec();
        let made = aead.seal(nonce, &mut sealed).unwrap();
        match test.result {
            TestResult::Valid => {
                assert!(good && opened == test.pt[..] && left == test.pt[..], "{what}");
                assert!(sealed == test.ct[..] && made == *tag, "{what}");
                tally.count("taken");
            }
            TestResult::Invalid => {
                assert!(!good && left == test.ct[..], "{what}");
                tally.count("refused");
            }
            TestResult::Acceptable => panic!("undecided: {what}"),
        }
    }
    (tally, set.number_of_tests)
}

#[test]
fn aes_256_gcm() {
    for &backend in Backend::ALL {
        let (tally, all) = aead_vectors(backend, SuiteId::Aes256Gcm, aead::TestName::AesGcm);
        assert_eq!(all, 316);
        tally.is(
            all,
            &[
                ("taken", 21),
                ("refused", 27),
                ("out of range: no key of 256 bits", 211),
                ("out of range: no nonce of 96 bits", 39),
                ("out of range: associated data", 18),
            ],
        );
    }
}

#[test]
fn chacha20_poly1305() {
    for &backend in Backend::ALL {
        let (tally, all) = aead_vectors(backend, SuiteId::ChaCha20Poly1305, aead::TestName::ChaCha20Poly1305);
        assert_eq!(all, 325);
        tally.is(
            all,
            &[
                ("taken", 45),
                ("out of range: no nonce of 96 bits", 9),
                ("out of range: associated data", 271),
            ],
        );
    }
}

#[test]
fn ed25519() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    for &backend in Backend::ALL {
        let mut tally = Tally::default();
        for group in &set.test_groups {
            let key = group.key.pk[..].try_into().unwrap();
            for test in &group.tests {
                let Ok(signature) = test.sig[..].try_into() else {
                    assert!(test.result.must_fail());
                    tally.count("out of range: a signature of another length than 64 bytes");
                    continue;
                };
                let verdict =
                    Verifier::from_bytes(backend, key).and_then(|key| key.verify(&test.msg, signature));
                // None is "acceptable" here: strict or not, these vectors know one answer.
                assert_ne!(test.result, TestResult::Acceptable);
                assert_eq!(verdict.is_err(), test.result.must_fail(), "{backend:?} {}", test.tc_id);
                match verdict {
                    Ok(()) => tally.count("taken"),
                    Err(error) => {
                        assert_eq!(error.code(), Some(Code::InvalidSignature));
                        tally.count("refused");
                    }
                }
            }
        }
        assert_eq!(set.number_of_tests, 151);
        tally.is(
            151,
            &[
                ("taken", 88),
                ("refused", 51),
                ("out of range: a signature of another length than 64 bytes", 12),
            ],
        );
    }
}

/// Gives out the private key of a vector, once.
struct Chosen<'a>(&'a [u8]);

impl TryRng for Chosen<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        panic!("a key is 32 bytes");
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        panic!("a key is 32 bytes");
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.copy_from_slice(self.0);
        self.0 = &[];
        Ok(())
    }
}

impl TryCryptoRng for Chosen<'_> {}

/// What Wycheproof leaves open is decided here: keys on the twist and such as are not canonical are taken, as RFC
/// 7748 wants it, and a result of zero is refused, as PROTOCOL section 1 does.
#[test]
fn x25519() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    for &backend in Backend::ALL {
        let mut tally = Tally::default();
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let own = backend.ephemeral(&mut Chosen(&test.private_key)).unwrap();
            let shared = own.agree(test.public_key[..].try_into().unwrap());
            let zero = test.flags.contains(&xdh::TestFlag::ZeroSharedSecret);
            assert_eq!(zero, test.shared_secret[..] == [0; 32]);
            match (test.result, shared) {
                (_, Err(error)) => {
                    assert!(zero, "{backend:?} {}", test.tc_id);
                    assert_eq!(error.code(), Some(Code::Malformed));
                    tally.count("acceptable: zero, refused");
                }
                (TestResult::Invalid, Ok(_)) => panic!("taken: {backend:?} {}", test.tc_id),
                (result, Ok(shared)) => {
                    assert!(!zero && shared[..] == test.shared_secret[..], "{backend:?} {}", test.tc_id);
                    let valid = result == TestResult::Valid;
                    tally.count(if valid { "taken" } else { "acceptable: not zero, taken" });
                }
            }
        }
        assert_eq!(set.number_of_tests, 518);
        tally.is(
            518,
            &[("taken", 264), ("acceptable: not zero, taken", 223), ("acceptable: zero, refused", 31)],
        );
    }
}

/// Hashes come from one place, whatever the backend.
#[test]
fn hkdf_sha256() {
    let (set, mut tally) = (hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap(), Tally::default());
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let (prk, expander) = hash::extract(&test.salt, &test.ikm);
        let (mut out, mut again, halves) = (vec![0; test.size], vec![0; test.size], test.info.len() / 2);
        let result = expander.expand(&[&test.info], &mut out);
        let parts = [&test.info[..halves], &test.info[halves..]];
        assert_eq!(hash::Expander::new(&prk).expand(&parts, &mut again).is_ok(), result.is_ok());
        match test.result {
            TestResult::Valid => {
                result.unwrap();
                assert!(out == test.okm[..] && again == out, "{}", test.tc_id);
                tally.count("taken");
            }
            TestResult::Invalid => {
                assert!(result.is_err(), "{}", test.tc_id);
                tally.count("refused");
            }
            TestResult::Acceptable => panic!("undecided: {}", test.tc_id),
        }
    }
    assert_eq!(set.number_of_tests, 86);
    tally.is(86, &[("taken", 83), ("refused", 3)]);
}
