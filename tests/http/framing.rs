//! Bodies that are no records, or too much: how far the server reads, and what it answers.

use bytes::Bytes;
use tokio::time::Instant;
use tower_seal::{
    config::{Encoding, Limits},
    error::Code,
};

use crate::{siege::Siege, support::*};

#[tokio::test(start_paused = true)]
async fn a_length_above_the_limit_is_refused_before_its_bytes_come() {
    let mut siege = Siege::new(Encoding::Binary).await;
    siege
        .during(async |siege| {
            let began = Instant::now();
            for length in [u32::MAX, 1 << 31, (16 << 20) + 4096] {
                let (tap, body) = channel();
                tap.send(Bytes::copy_from_slice(&length.to_be_bytes()));
                assert_eq!(siege.hand.post("/", body).await.code(), (413, Code::TooLarge), "{length}");
                tap.dropped().await;
            }
            // Behind a good record too; the application gets an error.
            let (records, awaiting) = siege.streamed(&["one", "two"]);
            let (tap, body) = channel();
            tap.send(records[0].clone());
            tap.send(&[0xff_u8; 4][..]);
            let answer = siege.hand.post("/", body).await;
            assert_eq!(answer.refusal(&awaiting), (413, Code::TooLarge, true));
            tap.dropped().await;
            assert_eq!(began.elapsed().as_secs(), 0, "it waited for nothing");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_line_above_the_limit_is_refused_before_its_end() {
    let mut sides = Sides::new();
    let mut limits = Limits::default();
    limits.record = MIB;
    sides.server = sides.server.limits(limits);
    let wire = sides.serve(echo());
    let hand = crate::hand::Hand::new(&sides.client, Encoding::Json, &wire).await;
    let (tap, body) = channel();
    let began = Instant::now();
    for _ in 0..3 {
        tap.send(vec![b' '; MIB]);
    }
    assert_eq!(hand.post("/", body).await.code(), (413, Code::TooLarge));
    tap.dropped().await;
    assert_eq!(began.elapsed().as_secs(), 0);
    assert_eq!(hand.ask("/", "next").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_record_is_refused_unsigned() {
    let binary: [(&str, &[u8], Code); 9] = [
        ("empty", b"", Code::Truncated),
        ("half a length", b"\0\0\0", Code::Truncated),
        ("a length and no more", b"\0\0\0\x09", Code::Truncated),
        ("cut short", b"\0\0\0\x09\x01\x01", Code::Truncated),
        ("of length 0", b"\0\0\0\0", Code::Malformed),
        ("of length 1", b"\0\0\0\x01\x01", Code::Malformed),
        ("an unknown kind", b"\0\0\0\x04\x02\0\0\0", Code::Malformed),
        ("unknown flags", b"\0\0\0\x04\x01\xff\0\0", Code::Malformed),
        ("JSON", b"{\"type\":\"encrypted\"}\n", Code::TooLarge),
    ];
    let json: [(&str, &[u8], Code); 9] = [
        ("empty", b"", Code::Truncated),
        ("a blank line", b"\n", Code::Malformed),
        ("cut short", b"{\"type\":", Code::Malformed),
        ("an empty object", b"{}\n", Code::Malformed),
        ("of another type", b"{\"type\":\"error\"}\n", Code::Malformed),
        ("a list", b"[]\n", Code::Malformed),
        ("no UTF-8", b"{\"type\":\"\xff\"}\n", Code::Malformed),
        ("text", b"hello\n", Code::Malformed),
        ("binary", b"\0\0\0\x04\x01\0\0\0", Code::Malformed),
    ];
    for (encoding, bodies) in [(Encoding::Binary, binary), (Encoding::Json, json)] {
        let mut siege = Siege::new(encoding).await;
        siege
            .during(async |siege| {
                for (name, body, code) in bodies {
                    siege.unsigned(body, code, name).await;
                }
                // A later record in place of the first.
                let (records, _) = siege.streamed(&["one", "two"]);
                siege.unsigned(records[1].clone(), Code::Malformed, "no opening").await;
                assert_eq!(siege.asked(), []);
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn lines_end_in_lf_but_for_the_last_and_none_is_blank() {
    let mut siege = Siege::new(Encoding::Json).await;
    siege
        .during(async |siege| {
            let text = |records: &[Bytes]| String::from_utf8(records.concat()).unwrap();
            let (records, awaiting) = siege.streamed(&["one", "two"]);
            let answer = siege.post(text(&records).trim_end().to_owned()).await;
            assert_eq!(siege.hand.open(&answer, &awaiting).1, b"onetwo");
            siege.seen.lock().unwrap().clear();

            let (records, _) = siege.streamed(&["one", "two"]);
            siege.unsigned(format!("\n{}", text(&records)), Code::Malformed, "before").await;
            assert_eq!(siege.asked(), []);
            let between = format!("{}\n{}", text(&records[..1]), text(&records[1..]));
            let awaiting = siege.streamed(&["one", "two"]);
            siege
                .refused(swap(&records, &awaiting.0, &between), &awaiting.1, Code::Malformed, "between")
                .await;
            let (records, awaiting) = siege.streamed(&["one", "two"]);
            siege.refused(text(&records) + "\n", &awaiting, Code::Malformed, "after").await;
            let unary = siege.unary("one");
            let blank = [&unary.bytes[..], b"\n"].concat();
            siege.refused(blank, &unary.response, Code::Malformed, "after a lone record").await;
        })
        .await;
}

/// The same arrangement of the records of another stream.
fn swap(from: &[Bytes], to: &[Bytes], arranged: &str) -> String {
    from.iter().zip(to).fold(arranged.to_owned(), |text, (from, to)| {
        text.replace(std::str::from_utf8(from).unwrap(), std::str::from_utf8(to).unwrap())
    })
}
