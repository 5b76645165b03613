//! However the records of a stream are arranged on their way, each is taken in its place alone, and once.

use proptest::{prelude::*, sample::Index, strategy::ValueTree as _, test_runner::TestRunner};
use tower_seal::{
    config::{Encoding, Limits},
    error::Code,
    protocol::{Final, Opener},
};

use crate::support::{BOTH, Duplex, Pair, open};

const TEXTS: [&[u8]; 7] = [b"a", b"", b"bb", b"ccc", b"d", b"", b"last"];

/// All in order, of which some are then left out, moved, or there twice.
fn arrangements() -> impl Strategy<Value = Vec<usize>> {
    let change = (0..3, any::<Index>(), any::<Index>());
    proptest::collection::vec(change, 0..5).prop_map(|changes| {
        let mut order: Vec<usize> = (0..TEXTS.len()).collect();
        for (kind, from, to) in changes {
            let at = from.index(order.len());
            let moved = if kind == 0 { order[at] } else { order.remove(at) };
            if kind != 2 || order.is_empty() {
                order.insert(to.index(order.len() + 1), moved);
            }
        }
        order
    })
}

/// What is said to the record with this number where `next` is due.
fn verdict(number: usize, next: usize) -> Result<(), Code> {
    match number.cmp(&next) {
        _ if next == TEXTS.len() => Err(Code::Malformed),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(Code::Replayed),
        std::cmp::Ordering::Greater => Err(Code::OutOfOrder),
    }
}

fn check(
    pair: &Pair,
    opener: &mut Opener,
    records: &[bytes::Bytes],
    order: &[usize],
    first: usize,
) -> Result<(), TestCaseError> {
    let mut next = first;
    for &number in order {
        let opened = open(opener, &records[number], pair.now);
        let said = opened.as_ref().map(drop).map_err(|error| error.code().unwrap());
        // A first record's opening is seen before its counter.
        let misplaced = first == 1 && number == 0;
        let expected = if misplaced { Err(Code::Malformed) } else { verdict(number, next) };
        prop_assert_eq!(said, expected, "{} where {} is due", number, next);
        if let Ok(opened) = opened {
            prop_assert_eq!(&opened.plaintext[..], TEXTS[number]);
            next += 1;
        }
    }
    // What is lost at the end is found out by this.
    prop_assert_eq!(opener.is_finished(), next == TEXTS.len());
    // None of it has done any harm.
    for record in &records[next..] {
        open(opener, record, pair.now).unwrap();
    }
    prop_assert!(opener.is_finished());
    Ok(())
}

fn run(check: impl Fn(Encoding, Vec<usize>) -> Result<(), TestCaseError>) {
    for encoding in BOTH {
        let config = ProptestConfig { failure_persistence: None, cases: 100, ..Default::default() };
        TestRunner::new(config).run(&arrangements(), |order| check(encoding, order)).unwrap();
    }
}

/// New keys every three records, so that some records are of another epoch.
fn pair(encoding: Encoding) -> Pair {
    let mut limits = Limits::default();
    limits.rekey_records = 3;
    let with = |config: tower_seal::Config| config.encoding(encoding).limits(limits.clone());
    Pair::with(with, with)
}

fn last(at: usize) -> Final {
    if at + 1 == TEXTS.len() { Final::Yes } else { Final::No }
}

#[test]
fn on_a_duplex_connection() {
    run(|encoding, order| {
        let mut pair = pair(encoding);
        let Duplex { client: (mut sealer, _), server: (_, mut opener) } = pair.duplex();
        let seal = |(at, text)| sealer.seal(text, last(at), pair.now).unwrap();
        let records: Vec<_> = TEXTS.into_iter().enumerate().map(seal).collect();
        check(&pair, &mut opener, &records, &order, 0)
    });
}

#[test]
fn in_the_request_and_the_response_of_an_exchange() {
    run(|encoding, order| {
        let mut pair = pair(encoding);
        let session = pair.session();
        let mut request = pair.request(&session, TEXTS[0], Final::No);
        let sealer = request.rest.as_mut().unwrap();
        let mut records = vec![request.bytes.clone()];
        for (at, text) in TEXTS.into_iter().enumerate().skip(1) {
            records.push(sealer.seal(text, last(at), pair.now).unwrap());
        }
        let mut claimed = pair.serve(&records[0]).unwrap();
        check(&pair, claimed.rest.as_mut().unwrap(), &records, &order, 1)?;

        let respond = |(at, text)| claimed.response.seal(text, last(at), pair.now).unwrap();
        let records: Vec<_> = TEXTS.into_iter().enumerate().map(respond).collect();
        let (_, mut opener) = pair.receive(&request.response, &records[0]).unwrap();
        check(&pair, &mut opener, &records, &order, 1)
    });
}

/// Several connections, whose records are led astray: each is taken in its own alone, and in its place.
#[test]
fn of_many_streams_at_once() {
    const STREAMS: usize = 4;
    let mut pair = pair(Encoding::Binary);
    let mut ends: Vec<_> = (0..STREAMS).map(|_| pair.duplex()).collect();
    let record = |end: &mut Duplex| {
        let seal = |(at, text)| end.client.0.seal(text, last(at), pair.now).unwrap();
        TEXTS.into_iter().enumerate().map(seal).collect::<Vec<_>>()
    };
    let records: Vec<_> = ends.iter_mut().map(record).collect();
    let deliveries = proptest::collection::vec((0..STREAMS, 0..STREAMS, 0..TEXTS.len()), 300);
    let mut next = [0; STREAMS];
    let mut rng = TestRunner::deterministic();
    while next.iter().any(|next| *next < TEXTS.len()) {
        for (from, to, number) in deliveries.new_tree(&mut rng).unwrap().current() {
            let opened = open(&mut ends[to].server.1, &records[from][number], pair.now);
            let expected = match verdict(number, next[to]) {
                Ok(()) if from != to => Err(Code::DecryptionFailed),
                verdict => verdict,
            };
            assert_eq!(opened.as_ref().map(drop).map_err(|error| error.code().unwrap()), expected);
            if let Ok(opened) = opened {
                assert_eq!(&opened.plaintext[..], TEXTS[number]);
                next[to] += 1;
            }
        }
    }
}
