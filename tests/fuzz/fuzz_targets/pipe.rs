//! A pipe of bytes: what comes before a handshake is done, and after it, in pieces cut anywhere.

#![no_main]

use futures_util::StreamExt as _;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower_seal::{
    config::Encoding,
    duplex::{Acceptor, pipe},
    protocol::{Final, Initiator},
};
use tower_seal_fuzz::{Script, config, handshake, now, run};

fuzz_target!(|data: &[u8]| run(async {
    let Some(([how, piece], raw)) = data.split_first_chunk() else { return };
    let (is_json, shakes, messages) = (how & 1 == 1, how & 2 == 2, how >> 2 & 3);
    let vector = handshake("duplex-every");
    let acceptor = Acceptor::new(config(vector, "responder"));
    let (mut here, there) = tokio::io::duplex(64 << 10);
    let frame = |bytes: &[u8]| {
        let length = (bytes.len() as u32).to_be_bytes();
        if is_json { [bytes, b"\n"].concat() } else { [&length, bytes].concat() }
    };
    let serve = async {
        let mut sealed = pipe::accept(there, &acceptor).await.ok()?;
        let mut count = 0;
        while let Some(Ok(message)) = sealed.next().await {
            assert_eq!(message, "m");
            count += 1;
        }
        assert!(shakes && count <= messages);
        Some(())
    };
    let say = async {
        if shakes {
            let (hello, initiator) =
                Initiator::start(&config(vector, "initiator"), Default::default(), &mut Script(Vec::new()))
                    .unwrap();
            here.write_all(&frame(&hello)).await.ok()?;
            let reply = if is_json {
                let mut line = Vec::new();
                while line.last() != Some(&b'\n') {
                    line.push(here.read_u8().await.ok()?);
                }
                line
            } else {
                let mut reply = vec![0; here.read_u32().await.ok()? as usize];
                here.read_exact(&mut reply).await.ok()?;
                reply
            };
            let (mut sealer, _) = initiator.finish(&reply, now()).unwrap().into_duplex(false, now()).unwrap();
            sealer.speak(if is_json { Encoding::Json } else { Encoding::Binary });
            let messages = std::iter::repeat_n(&b"m"[..], messages.into());
            for text in std::iter::once(&b""[..]).chain(messages) {
                here.write_all(&frame(&sealer.seal(text, Final::No, now()).unwrap())).await.ok()?;
            }
        }
        for piece in raw.chunks(usize::from(*piece).max(1)) {
            here.write_all(piece).await.ok()?;
            tokio::task::yield_now().await;
        }
        here.shutdown().await.ok()?;
        let mut rest = Vec::new();
        here.read_to_end(&mut rest).await.ok()
    };
    let _ = tokio::join!(serve, say);
}));
