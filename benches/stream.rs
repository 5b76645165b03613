//! A long body through `SealBody` and `OpenBody`, from one layer to the other in process: bytes in a second beside
//! AES-256-GCM alone, and the most heap that it takes, which must not grow with the body.
//!
//! `cargo bench --bench stream --features aws-lc-rs` carries 1 GiB each time, and ends with 1 where that takes more
//! than 2 MiB; `-- --quick` carries 64 MiB. Sealing and opening share one core.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/support/pieces.rs"]
mod pieces;
#[path = "load/rates.rs"]
mod rates;

use std::{
    convert::Infallible,
    hint::black_box,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use aes_gcm::{Aes256Gcm, KeyInit as _, aead::AeadInOut as _};
use http::{Request, Response};
use http_body::Body;
use peak_alloc::PeakAlloc;
use pieces::{PIECE, Pieces, discard};
use rates::Rates;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_seal::{
    Config, Identity,
    config::{Backend, Signatures},
    http::{OpenBody, SealLayer, UnsealLayer},
    trust::Pinned,
};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The most heap, in bytes.
const MOST: usize = 2 << 20;

/// Bytes of body, and rounds.
const FULL: (usize, usize) = (1 << 30, 3);
const QUICK: (usize, usize) = (64 << 20, 3);

#[derive(Clone, Copy)]
enum Way {
    /// In place, in memory that stays the same.
    Bare,
    Request(Signatures),
    Response(Signatures),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Cargo passes `--bench`.
    let quick = std::env::args().any(|arg| arg == "--quick");
    let (bytes, rounds) = if quick { QUICK } else { FULL };
    let ways = [
        ("AES-256-GCM alone", Way::Bare),
        ("request, unsigned", Way::Request(Signatures::Handshake)),
        ("response, unsigned", Way::Response(Signatures::Handshake)),
        ("request, signed", Way::Request(Signatures::Every)),
        ("response, signed", Way::Response(Signatures::Every)),
    ];
    let runs: Vec<_> =
        Backend::ALL.iter().flat_map(|&backend| ways.map(|(name, way)| (backend, name, way))).collect();
    let mut results: Vec<_> = runs.iter().map(|_| (Rates::default(), 0)).collect();
    // The first round warms up.
    for round in 0..=rounds {
        let bytes = if round == 0 { bytes / 16 } else { bytes };
        for ((backend, _, way), (rates, most)) in runs.iter().zip(&mut results) {
            let (time, heap) = way.carry(*backend, bytes).await;
            *most = heap.max(*most);
            if round > 0 {
                rates.push(bytes as f64 / time.as_secs_f64() / f64::from(1 << 20));
            }
        }
    }

    println!(
        "MiB in a second, sealed and opened, the ratio to AES-256-GCM alone, and the spread of {rounds} rounds,"
    );
    println!("of {} MiB in pieces of {} KiB; and the most heap meanwhile\n", bytes >> 20, PIECE >> 10);
    println!("| backend | what | MiB/s | KiB of heap |\n|---|---|---|---|");
    for (ways, results) in runs.chunks(ways.len()).zip(results.chunks(ways.len())) {
        for ((backend, name, _), (rates, most)) in ways.iter().zip(results) {
            println!("| {backend:?} | {name} | {} | {} |", rates.beside(&results[0].0), most >> 10);
        }
    }
    let worst = results.iter().map(|(_, most)| *most).max().unwrap_or(0);
    if worst > MOST {
        println!("\na body took {} KiB of heap: that is above {} KiB", worst >> 10, MOST >> 10);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

impl Way {
    /// How long it took, and the most heap meanwhile.
    async fn carry(self, backend: Backend, bytes: usize) -> (Duration, usize) {
        let (signatures, up, down) = match self {
            Way::Bare => return watch(async || bare(backend, bytes)).await,
            Way::Request(signatures) => (signatures, bytes, 0),
            Way::Response(signatures) => (signatures, 0, bytes),
        };
        let (client, server) = layers(backend, signatures);
        let http = client.layer(server.layer(service_fn(serve)));
        let exchange = async |up, down| {
            let request = Request::post(format!("http://localhost/{down}")).body(Pieces(up)).unwrap();
            let response = http.clone().oneshot(request).await.unwrap();
            assert_eq!(discard(response.into_body()).await, down);
        };
        // Everything is signed until the session is confirmed.
        exchange(0, 0).await;
        watch(async || exchange(up, down).await).await
    }
}

async fn watch(work: impl AsyncFnOnce()) -> (Duration, usize) {
    HEAP.reset_peak_usage();
    let (before, start) = (HEAP.current_usage(), Instant::now());
    work().await;
    (start.elapsed(), HEAP.peak_usage().saturating_sub(before))
}

/// Answers with as many bytes as the path asks for. A body that is cut short is an error of its own.
async fn serve<B>(request: Request<OpenBody<B>>) -> Result<Response<Pieces>, Infallible>
where
    OpenBody<B>: Body<Error: std::fmt::Debug>,
{
    let left = request.uri().path()[1..].parse().unwrap();
    discard(request.into_body()).await;
    Ok(Response::new(Pieces(left)))
}

fn layers(backend: Backend, signatures: Signatures) -> (SealLayer, UnsealLayer) {
    let (client, server) = (Arc::new(Identity::generate()), Arc::new(Identity::generate()));
    let config = |own: &Arc<Identity>, other: &Identity| {
        let trust = Pinned::new([other.node_id()]);
        Config::new(own.clone(), trust).backend(backend).signatures(signatures)
    };
    (SealLayer::new(config(&client, &server)), UnsealLayer::new(config(&server, &client)))
}

fn bare(backend: Backend, bytes: usize) {
    let mut text = vec![b'x'; PIECE];
    let mut work = cipher(backend);
    for _ in 0..bytes / PIECE {
        work(black_box(&mut text));
    }
}

/// Encrypts and decrypts in place.
type Work = Box<dyn FnMut(&mut [u8])>;

fn cipher(backend: Backend) -> Work {
    #[cfg(feature = "aws-lc-rs")]
    if backend == Backend::AWS_LC_RS {
        use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap());
        let nonce = || Nonce::assume_unique_for_key([0; 12]);
        return Box::new(move |text| {
            let tag = key.seal_in_place_separate_tag(nonce(), Aad::empty(), text).unwrap();
            key.open_in_place_separate_tag(nonce(), Aad::empty(), tag.as_ref(), text).unwrap();
        });
    }
    assert_eq!(backend, Backend::RUST_CRYPTO);
    let (key, nonce) = (Aes256Gcm::new(&[7; 32].into()), [0; 12].into());
    Box::new(move |text| {
        let tag = key.encrypt_inout_detached(&nonce, &[], (&mut *text).into()).unwrap();
        key.decrypt_inout_detached(&nonce, &[], text.into(), &tag).unwrap();
    })
}
