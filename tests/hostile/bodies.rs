//! A body, however long, is never in memory as a whole: neither where it is sealed nor where it is opened.

use std::convert::Infallible;

use http::{Request, Response};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_seal::{
    config::{Backend, Encoding},
    http::{OpenBody, SealBody, SealLayer, UnsealLayer},
};

use crate::{
    alone, cost,
    pieces::{Pieces, discard},
    readers::{config, runtime},
};

const MIB: usize = 1 << 20;

#[test]
fn a_body_that_goes_both_ways_costs_a_few_records_however_long_it_is() {
    let _alone = alone();
    let runtime = runtime();
    // The last backend is the fastest. Alone and unoptimised, the first one takes a second for each MiB.
    let backend = *Backend::ALL.last().unwrap();
    let long = if backend == Backend::RUST_CRYPTO { 4 * MIB } else { 64 * MIB };
    for (encoding, most) in [(Encoding::Binary, 2 * MIB), (Encoding::Json, 3 * MIB)] {
        let config = || config().backend(backend).encoding(encoding);
        // Answers with the content of the request while it comes.
        let echo = service_fn(|request: Request<OpenBody<SealBody<Pieces>>>| async {
            Ok::<_, Infallible>(Response::new(request.into_body()))
        });
        let client = SealLayer::new(config()).layer(UnsealLayer::new(config()).layer(echo));
        let exchange = |length: usize| {
            let request = Request::post("http://example.com/").body(Pieces(length)).unwrap();
            let cost = cost(|| {
                runtime.block_on(async {
                    let response = client.clone().oneshot(request).await.unwrap();
                    assert_eq!(discard(response.into_body()).await, length);
                })
            });
            cost.peak as usize
        };
        // What is made once is made before.
        exchange(1);
        let (short, long) = (exchange(MIB), exchange(long));
        println!("{encoding:?}: {short} bytes for a short body, {long} for a long one");
        assert!(long <= most, "{encoding:?}: {long} bytes");
        assert!(
            long <= short + (64 << 10),
            "{encoding:?}: {short} bytes for a short body, {long} for a long one"
        );
    }
}
