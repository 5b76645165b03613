//! Two-way connections, over frames and over bytes: each side sends its messages and closes, and reads to the end.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    select,
    time::{advance, sleep, timeout},
};
use tower_seal::{
    Config, Error, Identity,
    config::{Encoding, Hybrid, Limits, Signatures},
    duplex::{self, Acceptor, Frame, Sealed, Transport, pipe},
    protocol::Destination,
    trust::Pinned,
};

use crate::{
    dice::{Dice, Flag, Trace},
    exchanges::backend,
    frames::{End, Far, Near, frames},
    ledger::SECRET,
    seeds::Wrongs,
    spoil::{Spoil, Spoiler},
};

const SECOND: Duration = Duration::from_secs(1);

/// More than the longest rest of a connection and all that is held up on the way.
const LONG: Duration = Duration::from_secs(30 * 24 * 3600);

fn limits(dice: &Dice) -> Limits {
    let mut limits = Limits::default();
    // It counts by the machine's clock.
    limits.handshakes_per_second = u32::MAX;
    limits.handshake = dice.pick(&[1, 10]) * SECOND;
    limits.stall = dice.pick(&[2, 300]) * SECOND;
    limits.duplex_idle = dice.pick(&[60, 3600]) * SECOND;
    limits.unfinished = dice.pick(&[1, 2, 1024]);
    limits.hellos = dice.pick(&[1, 65_536]);
    limits.rekey_records = dice.pick(&[1, 3, 1 << 24]);
    limits.signed_together = dice.pick(&[1, 2, 256]);
    limits
}

/// What the conversations of a world have in common.
struct World {
    dice: Dice,
    trace: Trace,
    wrongs: Mutex<Wrongs>,
    server: Config,
    /// What runs now, and when it is over.
    running: Mutex<(Acceptor, Flag)>,
    parted: Flag,
    /// Frames of all connections, both ways.
    tape: Mutex<Vec<Bytes>>,
}

/// Messages of one direction, in this order.
fn messages(dice: &Dice, about: &str) -> Vec<Bytes> {
    let size = dice.pick(&[0, 100, 3000]);
    let message = |i| {
        let mut message = [SECRET, format!(" {about}.{i} ").as_bytes()].concat();
        message.resize(message.len() + dice.below(size + 1), b'.');
        message.into()
    };
    (0..dice.pick(&[0, 1, 3, 8])).map(message).collect()
}

pub(crate) async fn world(dice: Dice, trace: Trace) -> Wrongs {
    let limits = limits(&dice);
    trace.note(format_args!("{limits:?}"));
    let (server, client) = (Identity::generate(), Identity::generate());
    let config = |identity: Identity, peer| {
        Config::new(identity, Pinned::new([peer]))
            .limits(limits.clone())
            .signatures(dice.pick(&[Signatures::Every, Signatures::Handshake]))
            .encoding(dice.pick(&[Encoding::Binary, Encoding::Json]))
            .hybrid(if dice.one_in(16) { Hybrid::Offer } else { Hybrid::Off })
            .backend(backend(&dice))
    };
    let ids = (server.node_id(), client.node_id());
    let (server, client) = (config(server, ids.1), config(client, ids.0));
    let world = Arc::new(World {
        running: Mutex::new((Acceptor::new(server.clone()), Flag::default())),
        dice: dice.clone(),
        trace,
        wrongs: Mutex::default(),
        server,
        parted: Flag::default(),
        tape: Mutex::default(),
    });
    let mut conversations = Vec::new();
    for number in 0..dice.between(3, 8) {
        let conversation = Conversation::new(world.clone(), &client, number, true);
        conversations.push(tokio::spawn(conversation.hold()));
        match dice.below(10) {
            0 => world.restart(),
            1 => world.part(true),
            2 => world.part(false),
            3 => {
                let jump = dice.pick(&[SECOND / 10, 3 * SECOND, 70 * SECOND, 25 * 3600 * SECOND]);
                world.trace.note(format_args!("the clock jumps by {jump:?}"));
                advance(jump).await;
            }
            4..6 => {}
            _ => sleep(dice.time()).await,
        }
    }
    world.part(false);
    for ended in join_all(conversations).await {
        if ended.is_err() {
            world.wrong("a conversation panicked".to_owned());
        }
    }
    // Places of handshakes that were never finished become free in this time, and what follows is as if nothing had been.
    sleep(20 * SECOND).await;
    for number in 100..102 {
        let whole = Conversation::new(world.clone(), &client, number, false).hold().await;
        if !whole {
            world.wrong(format!("connection {number} did not go well when the faults had ceased"));
        }
    }
    std::mem::take(&mut world.wrongs.lock().unwrap())
}

impl World {
    fn wrong(&self, what: String) {
        self.wrongs.lock().unwrap().push(what);
    }

    fn restart(&self) {
        self.trace.note("the server restarts");
        let new = (Acceptor::new(self.server.clone()), Flag::default());
        std::mem::replace(&mut *self.running.lock().unwrap(), new).1.set(true);
    }

    fn part(&self, is_parted: bool) {
        self.trace.note(if is_parted { "the network parts" } else { "the network is whole" });
        self.parted.set(is_parted);
    }

    fn take(&self, bytes: &Bytes) {
        self.tape.lock().unwrap().push(bytes.clone());
        if bytes.windows(SECRET.len()).any(|window| window == SECRET) {
            self.wrong("a secret was read on its way".to_owned());
        }
    }
}

/// One connection.
struct Conversation {
    world: Arc<World>,
    client: Config,
    number: usize,
    is_framed: bool,
    /// What is done to each direction, and after how many pieces something from elsewhere comes.
    spoils: [Spoil; 2],
    injected: [Option<usize>; 2],
    /// What each side is to say, and how long it rests after each message.
    said: [Vec<Bytes>; 2],
    rests: [Option<Duration>; 2],
}

/// How one side fared: what it got, and in which error that ended.
struct Fared {
    got: Vec<Bytes>,
    error: Option<Error>,
}

impl Conversation {
    fn new(world: Arc<World>, client: &Config, number: usize, faulty: bool) -> Self {
        let dice = world.dice.clone();
        let spoil = || if faulty && dice.one_in(3) { Spoil::roll(&dice) } else { Spoil::Nothing };
        let inject = || (faulty && dice.one_in(8)).then(|| dice.below(5));
        let rest = || dice.one_in(2).then(|| if faulty { dice.time() } else { SECOND });
        let said = ["c", "s"].map(|side| messages(&dice, &format!("{number}{side}")));
        let conversation = Conversation {
            client: client.clone(),
            number,
            is_framed: dice.one_in(2),
            spoils: [spoil(), spoil()],
            injected: [inject(), inject()],
            rests: [rest(), rest()],
            said,
            world,
        };
        let Conversation { is_framed, spoils, injected, rests, said, .. } = &conversation;
        let many = said.each_ref().map(Vec::len);
        conversation.world.trace.note(format_args!(
            "connection {number}: {is_framed} {many:?} {rests:?} {spoils:?} {injected:?}"
        ));
        conversation
    }

    /// Whether all went well, for both.
    async fn hold(self) -> bool {
        let this = Arc::new(self);
        let (acceptor, killed) = this.world.running.lock().unwrap().clone();
        let client = this.client.clone();
        let (connect, accept);
        if this.is_framed {
            let ((here, near), (there, far)) = (frames(), frames());
            let (near, far) = (near.split(), far.split());
            tokio::spawn(this.clone().carry_frames(0, near.1, far.0));
            tokio::spawn(this.clone().carry_frames(1, far.1, near.0));
            connect = tokio::spawn(this.clone().party(0, async move {
                duplex::connect::<End>(here, &client, Destination::default()).await
            }));
            let party = this.clone().party(1, async move { duplex::accept(there, &acceptor, None).await });
            accept = tokio::spawn(unless(killed, party));
        } else {
            let room = this.world.dice.pick(&[64, 4096]);
            let ((here, near), (there, far)) = (tokio::io::duplex(room), tokio::io::duplex(room));
            let (near, far) = (tokio::io::split(near), tokio::io::split(far));
            tokio::spawn(this.clone().carry_bytes(0, near.0, far.1));
            tokio::spawn(this.clone().carry_bytes(1, far.0, near.1));
            connect = tokio::spawn(
                this.clone()
                    .party(0, async move { pipe::connect(here, &client, Destination::default()).await }),
            );
            let party = this.clone().party(1, async move { pipe::accept(there, &acceptor).await });
            accept = tokio::spawn(unless(killed, party));
        }
        let client = connect.await.expect("the client does not panic");
        let server = accept.await.expect("the server does not panic");
        let mut is_whole = true;
        for (side, fared) in [(0, Some(client)), (1, server)] {
            is_whole &= fared.is_some_and(|fared| this.judge(side, &fared));
        }
        is_whole
    }

    /// Whether this side got all that the other one said.
    fn judge(&self, side: usize, fared: &Fared) -> bool {
        let (number, said) = (self.number, &self.said[1 - side]);
        let end = fared.error.as_ref().map_or("the end".to_owned(), |error| format!("{error:?}"));
        self.world.trace.note(format_args!("connection {number}: {side} got {}, and {end}", fared.got.len()));
        if !said.starts_with(&fared.got) {
            self.world.wrong(format!("connection {number}: {side} got what was not said so"));
        }
        if fared.error.is_none() && fared.got.len() < said.len() {
            self.world.wrong(format!("connection {number}: {side} took a part for the whole"));
        }
        fared.error.is_none()
    }

    /// One side, from its handshake to its end.
    async fn party<T: Transport + Send + 'static>(
        self: Arc<Self>,
        side: usize,
        hands: impl Future<Output = Result<Sealed<T>, Error>>,
    ) -> Fared {
        let mut fared = Fared { got: Vec::new(), error: None };
        let sealed = match hands.await {
            Ok(sealed) => sealed,
            Err(error) => return Fared { error: Some(error), ..fared },
        };
        let (mut sender, mut receiver) = sealed.into_split();
        let say = async {
            for message in &self.said[side] {
                sender.send(message.clone()).await?;
                if let Some(rest) = self.rests[side] {
                    sleep(rest).await;
                }
            }
            sender.close().await
        };
        let listen = async {
            while let Some(message) = receiver.next().await {
                fared.got.push(message?);
            }
            Ok(())
        };
        let Ok((said, heard)) = timeout(LONG, async { tokio::join!(say, listen) }).await else {
            self.world.wrong(format!("connection {}: {side} was told nothing", self.number));
            return fared;
        };
        // Who cannot say all may still hear all.
        let _: Result<(), Error> = said;
        fared.error = heard.err();
        fared
    }

    /// What is held up while the network is parted.
    async fn reach(&self) {
        self.world.parted.becomes(false).await;
    }

    /// What comes before a piece, from elsewhere.
    fn injection(&self, direction: usize, number: usize) -> Option<Bytes> {
        if self.injected[direction] != Some(number) {
            return None;
        }
        let tape = self.world.tape.lock().unwrap();
        Some(tape[self.world.dice.below(tape.len())].clone())
    }

    async fn carry_frames(self: Arc<Self>, direction: usize, mut from: Far<Frame>, to: Near<Frame>) {
        let (mut spoiler, mut number) = (Spoiler::new(self.spoils[direction]), 0);
        let mut remake: fn(Bytes) -> Frame = Frame::Text;
        while let Some(Ok(frame)) = from.recv().await {
            self.reach().await;
            remake = if matches!(frame, Frame::Text(_)) { Frame::Text } else { Frame::Binary };
            let bytes = frame.into_bytes();
            self.world.take(&bytes);
            let strange = self.injection(direction, number).into_iter();
            number += 1;
            let (pieces, end) = spoiler.pass(bytes).await;
            for piece in strange.chain(pieces) {
                if to.send(Ok(remake(piece))).is_err() {
                    return;
                }
            }
            if let Err(cleanly) = end {
                let _ = cleanly || to.send(Err(std::io::ErrorKind::ConnectionReset.into())).is_err();
                return;
            }
        }
        if let Some(held) = spoiler.end() {
            let _ = to.send(Ok(remake(held)));
        }
    }

    async fn carry_bytes(
        self: Arc<Self>,
        direction: usize,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) {
        let (mut spoiler, mut number) = (Spoiler::new(self.spoils[direction]), 0);
        let mut buffer = vec![0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            self.reach().await;
            let bytes = Bytes::copy_from_slice(&buffer[..length]);
            self.world.take(&bytes);
            let strange = self.injection(direction, number).into_iter();
            number += 1;
            let (pieces, end) = spoiler.pass(bytes).await;
            for piece in strange.chain(pieces) {
                if to.write_all(&piece).await.is_err() {
                    return;
                }
            }
            if end.is_err() {
                return;
            }
        }
        if let Some(held) = spoiler.end() {
            let _ = to.write_all(&held).await;
        }
        let _ = to.shutdown().await;
    }
}

/// What comes of `task`, unless the server is killed first.
async fn unless<T>(killed: Flag, task: impl Future<Output = T>) -> Option<T> {
    select! {
        biased;
        () = killed.becomes(true) => None,
        result = task => Some(result),
    }
}
