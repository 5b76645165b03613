//! Requests over HTTP layers: clients, a middle, a server, and the application behind it.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::{HeaderName, Request, Response};
use tokio::time::{advance, sleep, timeout};
use tower::{Layer as _, ServiceBuilder, ServiceExt as _, service_fn, util::BoxCloneSyncService};
use tower_seal::{
    Config, Error, Identity,
    config::{Backend, Encoding, Hybrid, Limits, Signatures},
    http::{SealLayer, UnsealLayer},
    trust::{Pinned, Verified},
};

use crate::{
    bodies::{Body, Failure, boxed, channel, content, full, piece},
    dice::{Dice, Trace},
    ledger::{Answer, Call, Kind, Ledger, Told},
    middle::{Middle, TOKEN, Wire},
    seeds::Wrongs,
};

type Http = BoxCloneSyncService<Request<Body>, Response<Body>, Error>;

const SECOND: Duration = Duration::from_secs(1);

/// Far more than all the limits and jumps of the clock together.
const LONG: Duration = Duration::from_secs(7 * 24 * 3600);

const REPEATABLE: &str = "x-repeatable";

/// Small ones, so that everything that is bounded meets its bound.
fn limits(dice: &Dice) -> Limits {
    let mut limits = Limits::default();
    // These two count by the machine's clock, and so would make chance of what is none.
    limits.handshakes_per_second = u32::MAX;
    limits.signed_errors_per_second = u32::MAX;
    limits.request = dice.pick(&[1, 5, 60]) * SECOND;
    limits.handshake = dice.pick(&[1, 10]) * SECOND;
    limits.response = dice.pick(&[5, 600]) * SECOND;
    limits.stall = dice.pick(&[2, 300]) * SECOND;
    limits.session = dice.pick(&[1, 10, 3600]) * SECOND;
    limits.idle = dice.pick(&[2, 60, 900]) * SECOND;
    limits.sessions = dice.pick(&[1, 2, 10_000]);
    limits.sessions_per_peer = dice.pick(&[1, 2, 64]);
    limits.provisional = dice.pick(&[1, 2, 4096]);
    limits.hellos = dice.pick(&[1, 65_536]);
    limits.rekey_records = dice.pick(&[1, 3, 1 << 24]);
    limits.signed_together = dice.pick(&[1, 2, 256]);
    limits
}

/// Mostly the fastest.
pub(crate) fn backend(dice: &Dice) -> Backend {
    if dice.one_in(8) { Backend::RUST_CRYPTO } else { *Backend::ALL.last().unwrap() }
}

/// A life of calls under faults; then the faults cease.
pub(crate) async fn world(dice: Dice, trace: Trace) -> Wrongs {
    let (limits, server) = (limits(&dice), Arc::new(Identity::generate()));
    trace.note(format_args!("{limits:?}"));
    let configs: Vec<Config> = (0..dice.between(1, 3))
        .map(|_| {
            Config::new(Identity::generate(), Pinned::new([server.node_id()]))
                .limits(limits.clone())
                .encoding(dice.pick(&[Encoding::Binary, Encoding::Binary, Encoding::Json]))
                .signatures(dice.pick(&[Signatures::Every, Signatures::Handshake]))
                .hybrid(if dice.one_in(16) { Hybrid::Offer } else { Hybrid::Off })
                .backend(backend(&dice))
        })
        .collect();
    let ledger = Arc::new(Ledger::new(limits.request));
    let start = {
        let (ledger, limits) = (ledger.clone(), limits.clone());
        let trusted: Vec<_> = configs.iter().map(Config::node_id).collect();
        let (signatures, backend) = (dice.pick(&[Signatures::Every, Signatures::Handshake]), backend(&dice));
        move || {
            let config = Config::new(server.clone(), Pinned::new(trusted.iter().copied()))
                .limits(limits.clone())
                .signatures(signatures)
                .backend(backend);
            serve(config, ledger.clone())
        }
    };
    let middle = Middle::new(dice.clone(), trace.clone(), ledger.clone(), start);
    let clients: Vec<(Http, Config)> =
        configs.into_iter().map(|config| (seal(&config, middle.wire()), config)).collect();

    let mut calls = Vec::new();
    for token in 0..dice.between(6, 14) as u32 {
        let (http, config) = &clients[dice.below(clients.len())];
        let call = ledger.add(Call::roll(&dice, token, config.node_id()));
        trace.note(format_args!("call {token}: {:?} {:?} {:?}", call.kind, call.rest, call.answer));
        calls.push(tokio::spawn(made(http.clone(), call, ledger.clone(), trace.clone())));
        match dice.below(12) {
            0 => middle.restart(),
            1 => middle.part(true),
            2 => middle.part(false),
            3 => {
                let jump = dice.pick(&[SECOND / 10, 3 * SECOND, 70 * SECOND, 2 * 3600 * SECOND]);
                trace.note(format_args!("the clock jumps by {jump:?}"));
                advance(jump).await;
            }
            4..7 => {}
            _ => sleep(dice.time()).await,
        }
    }
    middle.heal();
    for ended in join_all(calls).await {
        if ended.is_err() {
            ledger.wrong("a call panicked".to_owned());
        }
    }
    if dice.one_in(4) {
        if dice.one_in(2) {
            middle.restart();
        }
        middle.repeat_all().await;
    }
    // A handshake that was begun under faults may still be waited for.
    sleep(limits.handshake).await;
    for (client, (http, config)) in clients.iter().enumerate() {
        for (kind, token) in [(Kind::Safe, 100), (Kind::Safe, 200), (Kind::Once, 300), (Kind::Once, 400)] {
            let mut call = Call::roll(&dice, token + client as u32, config.node_id());
            (call.kind, call.rest, call.patience) = (kind, None, None);
            (call.answer, call.pieces) = (Answer::Whole(Duration::ZERO), vec!["at last".into()]);
            let call = ledger.add(call);
            // The reply of the last handshake may have been held back for so long that the first call is late.
            if !made(http.clone(), call, ledger.clone(), trace.clone()).await && token > 100 {
                ledger.wrong(format!("client {client} was not served when the faults had ceased"));
            }
        }
    }
    ledger.wrongs()
}

fn seal(config: &Config, wire: Wire) -> Http {
    let layer = SealLayer::new(config.clone())
        .repeat_if(|head, _| head.headers.contains_key(REPEATABLE))
        .copy_to_outside([HeaderName::from_static(TOKEN)])
        .unwrap();
    let service = ServiceBuilder::new()
        .map_response(|response: Response<_>| response.map(boxed))
        .layer(layer)
        .map_request(|request: Request<_>| request.map(boxed))
        .service(wire);
    BoxCloneSyncService::new(service)
}

// ---- the application ----

fn serve(config: Config, ledger: Arc<Ledger>) -> Wire {
    let app = service_fn(move |request| {
        let ledger = ledger.clone();
        async move { Ok::<_, Failure>(answer(request, ledger).await) }
    });
    let service = ServiceBuilder::new()
        .map_response(|response: Response<_>| response.map(boxed))
        .map_request(|request: Request<_>| request.map(boxed))
        .service(app);
    let layer = UnsealLayer::new(config);
    Wire::new(
        ServiceBuilder::new()
            .map_response(|response: Response<_>| response.map(boxed))
            .service(layer.layer(service)),
    )
}

/// What an application answers when a request did not come whole; nobody ever reads it.
const BROKEN: &str = "I do not care";

async fn answer(request: Request<Body>, ledger: Arc<Ledger>) -> Response<Body> {
    let (head, mut body) = request.into_parts();
    let token: u32 = head.headers[TOKEN].to_str().unwrap().parse().unwrap();
    let caller = head.extensions.get::<Verified>().expect("a verified caller").node_id();
    let Some(call) = ledger.begun(token, caller, &head.method) else { return Response::new(full(BROKEN)) };
    let response = |body| Response::builder().header(TOKEN, token).body(body).unwrap();
    let (tap, out) = channel();
    if call.answer == Answer::Early {
        tokio::spawn(async move {
            let mut got = Vec::new();
            loop {
                match piece(&mut body).await {
                    Ok(Some(piece)) => {
                        got.extend_from_slice(&piece);
                        if tap.send(Ok(piece)).is_err() {
                            return;
                        }
                    }
                    // It does not tell.
                    Err(_) => return,
                    Ok(None) => return check(&call, &got, &ledger),
                }
            }
        });
        return response(out);
    }
    let Ok(got) = content(body).await else { return response(full(BROKEN)) };
    check(&call, &got, &ledger);
    match call.answer {
        Answer::Pieces(_, rest) => {
            tokio::spawn(async move {
                for piece in call.answers() {
                    if tap.send(Ok(piece)).is_err() {
                        return;
                    }
                    sleep(rest).await;
                }
            });
            response(out)
        }
        Answer::Whole(rest) => {
            sleep(rest).await;
            response(full(got))
        }
        Answer::Early => unreachable!("it has been answered"),
    }
}

fn check(call: &Call, got: &[u8], ledger: &Ledger) {
    if got != call.content() {
        ledger
            .wrong(format!("the application took another content for the whole of {}: {got:?}", call.token));
    }
}

// ---- a caller ----

/// Makes a call. Whether there was an answer.
async fn made(http: Http, call: Arc<Call>, ledger: Arc<Ledger>, trace: Trace) -> bool {
    let told = match call.patience {
        Some(patience) => timeout(patience, ask(http, &call)).await.unwrap_or(Told::Gone),
        None => timeout(LONG, ask(http, &call)).await.unwrap_or_else(|_| {
            ledger.wrong(format!("{} was told nothing", call.token));
            Told::Gone
        }),
    };
    let word = match &told {
        Told::Answer(..) => "an answer".to_owned(),
        Told::Error(error) => format!("{error:?}"),
        Told::Broke(error) => format!("a part, {error:?}"),
        Told::Gone => "nothing, it is gone".to_owned(),
    };
    trace.note(format_args!("call {} is told: {word}", call.token));
    ledger.ended(call.token, &told);
    matches!(told, Told::Answer(..))
}

async fn ask(http: Http, call: &Call) -> Told {
    let body = match call.rest {
        Some(rest) if !call.is_whole() => {
            let ((tap, body), pieces) = (channel(), call.pieces.clone());
            tokio::spawn(async move {
                for piece in pieces {
                    if tap.send(Ok(piece)).is_err() {
                        return;
                    }
                    sleep(rest).await;
                }
            });
            body
        }
        _ => full(call.content()),
    };
    let mut request =
        Request::builder().method(call.method()).uri("http://example.com/x").header(TOKEN, call.token);
    if call.kind == Kind::Repeatable {
        request = request.header(REPEATABLE, "yes");
    }
    let response = match http.oneshot(request.body(body).unwrap()).await {
        Ok(response) => response,
        Err(error) => return Told::Error(error),
    };
    let token = response.headers().get(TOKEN).map(|token| token.to_str().unwrap().parse().unwrap());
    let token = token.filter(|_| response.status() == 200);
    match content(response.into_body()).await {
        Ok(content) => Told::Answer(token, content),
        Err(failure) => {
            Told::Broke(failure.0.downcast_ref::<Error>().expect("an error of the crate").clone())
        }
    }
}
