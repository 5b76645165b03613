//! Whom a side trusts: the policies by themselves. What the protocol makes of them is in `tests/protocol`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tower_seal::{
    Error, Identity, NodeId, Trust,
    trust::{AnyIdentity, Candidate, Pinned, PreShared, Verdict},
};

fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

fn accepts(trust: &impl Trust, node: NodeId) -> bool {
    trust.judge(&Candidate::new(node)) == Verdict::Accept
}

#[test]
fn pinned_accepts_exactly_the_nodes_that_are_pinned() {
    let trust = Pinned::new([node(1), node(2)]);
    assert!(accepts(&trust, node(1)) && accepts(&trust, node(2)));
    assert!(!accepts(&trust, node(3)));
    assert!(!accepts(&Pinned::default(), node(1)) && !accepts(&Pinned::new([]), node(1)));
    let collected: Pinned = [node(4)].into_iter().collect();
    assert!(accepts(&collected, node(4)) && !accepts(&collected, node(1)));
}

#[test]
fn a_node_that_differs_in_one_bit_is_another_node() {
    let trust = Pinned::new([node(1)]);
    for bit in 0..256 {
        let mut bytes = *node(1).as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!accepts(&trust, NodeId::from_bytes(bytes)));
    }
}

#[test]
fn pinned_is_the_same_at_every_origin_and_whatever_secret_is_named() {
    let trust = Pinned::new([node(1)]);
    let at = Candidate::new(node(1)).at("https://example.com");
    assert_eq!(trust.judge(&at), Verdict::Accept);
    assert_ne!(trust.judge(&Candidate::new(node(2)).at("https://example.com")), Verdict::Accept);
    assert!(trust.pre_shared(&[0; 16]).is_none() && trust.offers(None).is_none());
}

#[test]
fn nodes_can_be_pinned_and_removed_while_sessions_live() {
    let trust = Pinned::new([node(1)]);
    trust.insert(node(2));
    assert!(accepts(&trust, node(2)));
    let before = trust.revision();
    trust.remove(node(1));
    assert!(!accepts(&trust, node(1)) && accepts(&trust, node(2)));
    assert_ne!(trust.revision(), before, "sessions have to be judged again");
    trust.insert(node(1));
    assert!(accepts(&trust, node(1)));
}

#[test]
fn one_pinned_node_is_the_one_that_is_expected() {
    let trust = Pinned::new([node(1)]);
    assert_eq!(trust.expects(None), Some(node(1)));
    assert_eq!(trust.expects(Some("https://example.com")), Some(node(1)));
    trust.insert(node(2));
    assert_eq!(trust.expects(None), None);
    trust.remove(node(1));
    assert_eq!(trust.expects(None), Some(node(2)));
    assert_eq!(Pinned::default().expects(None), None);
}

#[test]
fn a_list_is_concealed_and_openness_need_not_be() {
    assert!(Pinned::default().conceals());
    assert!(!AnyIdentity.conceals());
}

#[test]
fn any_identity_accepts_and_expects_anybody() {
    assert!((0..=255).all(|byte| accepts(&AnyIdentity, node(byte))));
    assert_eq!(AnyIdentity.expects(Some("https://example.com")), None);
    assert_eq!(AnyIdentity.revision(), 0);
}

/// Answers everything otherwise than the defaults do.
#[derive(Default)]
struct Contrary(AtomicU64);

impl Trust for Contrary {
    fn judge(&self, candidate: &Candidate<'_>) -> Verdict {
        if candidate.origin == Some("here") && candidate.pre_shared.is_none() {
            Verdict::Refuse("not here")
        } else {
            Verdict::Accept
        }
    }

    fn expects(&self, origin: Option<&str>) -> Option<NodeId> {
        origin.map(|_| node(9))
    }

    fn confirmed(&self, _: &Candidate<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn conceals(&self) -> bool {
        false
    }

    fn revision(&self) -> u64 {
        7
    }

    fn pre_shared(&self, id: &[u8]) -> Option<PreShared> {
        PreShared::new(id, &[1; 16]).ok()
    }

    fn offers(&self, _: Option<&str>) -> Option<PreShared> {
        PreShared::new(&[2; 16], &[1; 16]).ok()
    }
}

#[test]
fn a_shared_policy_answers_as_the_policy_does() {
    let policy = Arc::new(Contrary::default());
    let shared: Arc<dyn Trust> = policy.clone();
    let here = Candidate::new(node(1)).at("here");
    // Through `Arc`'s own implementation, as a config asks.
    let judge = |trust: &dyn Trust| trust.judge(&here);
    assert_eq!(judge(&shared), Verdict::Refuse("not here"));
    assert_eq!(judge(&policy), Verdict::Refuse("not here"));
    assert_eq!(Trust::expects(&shared, Some("here")), Some(node(9)));
    assert_eq!(Trust::revision(&shared), 7);
    assert!(!Trust::conceals(&shared));
    assert_eq!(Trust::pre_shared(&shared, &[3; 20]).unwrap().id(), [3; 20]);
    assert_eq!(Trust::offers(&shared, None).unwrap().id(), [2; 16]);
    Trust::confirmed(&shared, &here);
    assert_eq!(policy.0.load(Ordering::SeqCst), 1);
}

#[test]
fn a_policy_that_says_nothing_conceals_and_knows_nothing() {
    struct Silent;
    impl Trust for Silent {
        fn judge(&self, _: &Candidate<'_>) -> Verdict {
            Verdict::Refuse("nobody")
        }
    }
    assert!(Silent.conceals());
    assert_eq!((Silent.revision(), Silent.expects(Some("x"))), (0, None));
    assert!(Silent.pre_shared(&[0; 16]).is_none() && Silent.offers(Some("x")).is_none());
    Silent.confirmed(&Candidate::new(node(1)));
}

#[test]
fn a_candidate_of_which_only_the_id_is_known_has_nothing_else() {
    let candidate = Candidate::new(node(1));
    assert_eq!((candidate.node_id, candidate.origin, candidate.pre_shared), (node(1), None, None));
    assert_eq!(candidate.at("https://a").origin, Some("https://a"));
}

#[test]
fn a_pre_shared_secret_has_an_id_of_16_to_64_bytes_and_16_bytes_or_more_itself() {
    for (id, secret, good) in [
        (15, 16, false),
        (16, 16, true),
        (64, 16, true),
        (65, 16, false),
        (0, 16, false),
        (16, 15, false),
        (16, 0, false),
        (16, 4096, true),
    ] {
        let made = PreShared::new(&vec![1; id], &vec![2; secret]);
        match made {
            Ok(made) => assert!(good && made.id() == vec![1; id]),
            Err(error) => assert!(!good && matches!(error, Error::Misuse { .. })),
        }
    }
}

#[test]
fn a_pre_shared_secret_prints_neither_half() {
    let secret = PreShared::new(&[0xab; 16], &[0xcd; 16]).unwrap();
    let printed = format!("{secret:?} {:#?}", secret.clone());
    for leak in ["ab", "cd", "171", "205"] {
        assert!(!printed.contains(leak), "{printed}");
    }
}

#[test]
fn a_refusal_says_why_in_words_that_hold_no_id() {
    let trust = Pinned::new([Identity::generate().node_id()]);
    let Verdict::Refuse(reason) = trust.judge(&Candidate::new(node(0xab))) else { panic!("accepted") };
    assert!(!reason.is_empty() && !reason.contains("abab"));
}
