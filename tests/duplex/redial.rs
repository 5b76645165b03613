//! Connecting anew: with rests, with a new handshake, and without saying anything twice.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::{sync::mpsc, time::Instant};
use tower_seal::{
    Error,
    duplex::{self, Redial},
    error::Code,
    protocol::Destination,
};

use crate::support::*;

fn down() -> Error {
    Error::Transport(Arc::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)))
}

#[tokio::test(start_paused = true)]
async fn it_tries_again_after_rests_that_grow_until_it_is_connected() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let mut redial = Redial::new(move || {
        let count = counted.fetch_add(1, Ordering::SeqCst);
        async move { if count < 6 { Err(down()) } else { Ok(count) } }
    })
    .rests(SECOND, 8 * SECOND);
    let began = Instant::now();
    assert_eq!(redial.connect().await.unwrap(), 6);
    // 1 + 2 + 4 + 8 + 8 + 8 at most, and a half of it at least.
    let rested = began.elapsed();
    assert!(rested >= 15 * SECOND && rested <= 32 * SECOND, "{rested:?}");

    // One that is lost at once counts as a failure, one that lasted does not.
    let began = Instant::now();
    redial.connect().await.unwrap();
    assert!(began.elapsed() >= 4 * SECOND);
    tokio::time::sleep(9 * SECOND).await;
    let began = Instant::now();
    redial.connect().await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_where_trying_helps_nobody_or_is_not_wanted_any_more() {
    for error in [
        Error::Refused { code: Code::UntrustedPeer, signed: false },
        Error::Refused { code: Code::PathMismatch, signed: false },
        Error::Misuse { reason: "" },
        Error::Unsealed { status: 404 },
        // A certificate, to TLS.
        Error::Transport(Arc::new(std::io::Error::from(std::io::ErrorKind::InvalidData))),
    ] {
        let began = Instant::now();
        let mut redial = Redial::new(|| std::future::ready(Err::<(), _>(error.clone())));
        assert!(redial.connect().await.is_err());
        assert_eq!(began.elapsed().as_secs(), 0);
    }
    let tries = AtomicUsize::new(0);
    let mut redial = Redial::new(|| {
        tries.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Err::<(), _>(down()))
    })
    .attempts(3);
    assert!(redial.connect().await.is_err());
    assert_eq!(tries.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn each_connection_is_a_new_session_and_what_was_lost_is_not_sent_again() {
    let sides = Sides::new();
    let acceptor = sides.acceptor();
    let (dialled, mut arrivals) = mpsc::unbounded_channel();
    let config = sides.client.clone();
    let mut redial = Redial::new(move || {
        let (here, there) = frames();
        dialled.send(there).unwrap();
        let config = config.clone();
        async move { duplex::connect(here, &config, Destination::default()).await }
    });
    let mut sessions = Vec::new();
    for round in 0..3 {
        let arrive = async { duplex::accept(arrivals.recv().await.unwrap(), &acceptor, None).await };
        let (client, server) = tokio::join!(redial.connect(), arrive);
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        sessions.push(server.verified().unwrap().session());
        client.send(format!("round {round}").into()).await.unwrap();
        assert_eq!(server.next().await.unwrap().unwrap(), format!("round {round}"));
        // Under way when the connection goes.
        client.send("lost".into()).await.unwrap();
        drop(server);
        assert_failed(&mut client, Code::Truncated).await;
    }
    sessions.dedup();
    assert_eq!(sessions.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_it_little_time_at_once_still_gets_all_attempts() {
    let tries = AtomicUsize::new(0);
    let mut redial = Redial::new(|| {
        tries.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Err::<(), _>(down()))
    });
    let began = Instant::now();
    while began.elapsed() < 3600 * SECOND {
        let _ = tokio::time::timeout(5 * SECOND, redial.connect::<(), _>()).await;
    }
    let tries = tries.into_inner();
    assert!((120..=260).contains(&tries), "{tries} attempts with rests of 15 to 30 s");
}

#[tokio::test(start_paused = true)]
async fn a_rest_is_over_when_its_time_has_passed_whether_anybody_waited_or_not() {
    let mut redial =
        Redial::new(|| std::future::ready(Err::<(), _>(down()))).attempts(1).rests(10 * SECOND, 10 * SECOND);
    assert!(redial.connect().await.is_err());
    tokio::time::sleep(11 * SECOND).await;
    let began = Instant::now();
    assert!(redial.connect().await.is_err());
    assert_eq!(began.elapsed().as_secs(), 0);
    assert!(redial.connect().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn connections_that_do_not_last_are_failures_in_the_row() {
    let tries = AtomicUsize::new(0);
    let dial = || std::future::ready(Ok::<_, Error>(tries.fetch_add(1, Ordering::SeqCst)));
    let mut redial = Redial::new(dial).attempts(3).rests(SECOND, 8 * SECOND);
    for _ in 0..3 {
        redial.connect().await.unwrap();
    }
    assert_eq!(code(redial.connect().await), Code::Truncated);
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    // Whoever goes on begins a new row.
    for _ in 0..3 {
        redial.connect().await.unwrap();
        // One that lasts is no failure, however late the next call is, and another is one, however late.
        tokio::time::sleep(SECOND).await;
        redial.lost();
        tokio::time::sleep(100 * SECOND).await;
    }
    assert_eq!(code(redial.connect().await), Code::Truncated);
    // Without counting, for who does so.
    for _ in 0..9 {
        redial.attempt().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn gateways_that_are_busy_are_asked_again() {
    for status in [408, 425, 429, 500, 503] {
        let tries = AtomicUsize::new(0);
        let mut redial = Redial::new(|| {
            std::future::ready(match tries.fetch_add(1, Ordering::SeqCst) {
                0 => Err(Error::Unsealed { status }),
                _ => Ok(()),
            })
        });
        redial.connect().await.unwrap();
    }
}
