//! Pipes of bytes: two framings, chosen by the initiator's first byte; sockets and child-like pipes.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tower_seal::{
    config::Encoding,
    duplex::{
        Sealed,
        pipe::{self, Pipe},
    },
    error::Code,
    protocol::{Destination, Initiator},
};

use crate::support::*;

async fn pair(sides: &Sides) -> (Sealed<Pipe<DuplexStream>>, Sealed<Pipe<DuplexStream>>) {
    let (here, there) = tokio::io::duplex(1 << 16);
    let acceptor = sides.acceptor();
    let (client, server) = tokio::join!(
        pipe::connect(here, &sides.client, Destination::default()),
        pipe::accept(there, &acceptor)
    );
    (client.unwrap(), server.unwrap())
}

#[tokio::test(start_paused = true)]
async fn both_framings_carry_everything() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (mut client, mut server) = pair(&sides).await;
        converse(&mut client, &mut server).await;
        for size in [1, 100, 4095, 4096, 100_000, MIB] {
            let message = vec![b'\n'; size];
            let (sent, got) = tokio::join!(client.send(message.clone().into()), server.next());
            sent.unwrap();
            assert_eq!(got.unwrap().unwrap(), message);
        }
        part(&mut client, &mut server).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_wire_is_lines_of_json_or_messages_after_their_length() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (here, mut there) = tokio::io::duplex(1 << 16);
        let connect = pipe::connect(here, &sides.client, Destination::default());
        let read = async {
            match encoding {
                Encoding::Json => assert_eq!(there.read_u8().await.unwrap(), b'{'),
                Encoding::Binary => {
                    let length = there.read_u32().await.unwrap();
                    let mut hello = vec![0; length as usize];
                    there.read_exact(&mut hello).await.unwrap();
                    assert_eq!((hello[0], hello[hello.len() - 1]), (b'{', b'}'));
                }
            }
            drop(there);
        };
        assert!(tokio::join!(connect, read).0.is_err());
    }
}

/// What the responder answers to these bytes.
async fn answer(sides: &Sides, bytes: &[u8]) -> (Code, Vec<u8>) {
    let (mut here, there) = tokio::io::duplex(1 << 20);
    here.write_all(bytes).await.unwrap();
    let acceptor = sides.acceptor();
    let mut answer = Vec::new();
    let (accepted, _) = tokio::join!(pipe::accept(there, &acceptor), here.read_to_end(&mut answer));
    (code(accepted), answer)
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_decides_the_framing_of_errors_too() {
    let sides = Sides::new();
    let (found, told) = answer(&sides, b"{\"jsonrpc\":\"2.0\"}\n").await;
    assert_eq!(found, Code::EncryptionRequired);
    assert_eq!((told[0], told[told.len() - 1]), (b'{', b'\n'));
    assert_eq!(error_code(std::str::from_utf8(&told).unwrap()), "encryption_required");

    let (found, told) = answer(&sides, b"\0\0\0\x11{\"jsonrpc\":\"2.0\"}").await;
    assert_eq!(found, Code::EncryptionRequired);
    assert_eq!(u32::from_be_bytes(*told.first_chunk().unwrap()) as usize, told.len() - 4);
    assert_eq!(error_code(std::str::from_utf8(&told[4..]).unwrap()), "encryption_required");
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_refused_before_it_is_buffered() {
    let sides = Sides::new();
    let line = vec![b'{'; (16 << 10) + 1];
    for (bytes, expected) in [
        // Announced, and never to come.
        (&b"\0\x00\x40\x01{"[..], Code::TooLarge),
        (b"\x7a\xff\xff\xff", Code::TooLarge),
        (b"\xff\xff\xff\xff", Code::TooLarge),
        (&line, Code::TooLarge),
        (b"\0\0\0\0", Code::Malformed),
        (b"\0\0\0\x01x", Code::Malformed),
        (b"\0\0\0\x01\x01", Code::Malformed),
        (b"{\n", Code::Malformed),
        (b"{\r\n", Code::Malformed),
    ] {
        let (found, told) = answer(&sides, bytes).await;
        assert_eq!(found, expected, "{bytes:?}");
        assert!(String::from_utf8_lossy(&told).contains(expected.as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_blank_line_is_malformed() {
    let sides = Sides::speaking(Encoding::Json);
    let (hello, initiator) = Initiator::start(&sides.client, Destination::default(), &mut rng()).unwrap();
    let (mut here, there) = tokio::io::duplex(1 << 16);
    let acceptor = sides.acceptor();
    let by_hand = async {
        here.write_all(&hello).await.unwrap();
        here.write_all(b"\n\n").await.unwrap();
        let mut answer = String::new();
        here.read_to_string(&mut answer).await.unwrap();
        let (reply, error) = answer.split_once('\n').unwrap();
        initiator.finish(reply.as_bytes(), now()).unwrap();
        error_code(error)
    };
    let (accepted, told) = tokio::join!(pipe::accept(there, &acceptor), by_hand);
    assert_eq!((code(accepted), &told[..]), (Code::Malformed, "malformed"));
}

#[tokio::test(start_paused = true)]
async fn after_the_handshake_the_limit_is_that_of_records() {
    for encoding in BOTH {
        let mut sides = Sides::limited(|limits| limits.record = MIB);
        sides.client = sides.client.encoding(encoding);
        let (here, mut tap_here) = tokio::io::duplex(1 << 16);
        let (mut tap_there, there) = tokio::io::duplex(1 << 16);
        let acceptor = sides.acceptor();
        let carry = tokio::spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut tap_here, &mut tap_there).await;
            tap_there
        });
        let (client, server) = tokio::join!(
            pipe::connect(here, &sides.client, Destination::default()),
            pipe::accept(there, &acceptor)
        );
        let (client, mut server) = (client.unwrap(), server.unwrap());
        // The wire is the test's now.
        carry.abort();
        let _ = carry.await;
        drop(client);
        assert_failed(&mut server, Code::Truncated).await;

        let (mut client, mut server) = pair(&sides).await;
        let (sent, got) = tokio::join!(client.send(vec![0; MIB].into()), server.next());
        sent.unwrap();
        assert_eq!(got.unwrap().unwrap().len(), MIB);
    }
}

#[tokio::test]
async fn a_unix_socket() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let acceptor = sides.acceptor();
        let accept = async { pipe::accept(listener.accept().await.unwrap().0, &acceptor).await };
        let here = tokio::net::UnixStream::connect(&path).await.unwrap();
        let (client, server) =
            tokio::join!(pipe::connect(here, &sides.client, Destination::default()), accept);
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        converse(&mut client, &mut server).await;
        part(&mut client, &mut server).await;
    }
}

#[tokio::test]
async fn a_tcp_socket_whose_far_side_goes_without_a_word() {
    let sides = Sides::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = sides.acceptor();
    let accept = async { pipe::accept(listener.accept().await.unwrap().0, &acceptor).await };
    let here = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, server) = tokio::join!(pipe::connect(here, &sides.client, Destination::default()), accept);
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    converse(&mut client, &mut server).await;
    drop(server);
    assert_failed(&mut client, Code::Truncated).await;
}

/// `cat` between the two: what one process has of another, a pipe in and a pipe out.
#[tokio::test]
async fn the_standard_streams_of_a_child() {
    use std::process::Stdio;
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let cat = || {
            let mut command = tokio::process::Command::new("cat");
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
        };
        let (mut up, mut down) = (cat(), cat());
        let here = tokio::io::join(down.stdout.take().unwrap(), up.stdin.take().unwrap());
        let there = tokio::io::join(up.stdout.take().unwrap(), down.stdin.take().unwrap());
        let acceptor = sides.acceptor();
        let (client, server) = tokio::join!(
            pipe::connect(here, &sides.client, Destination::default()),
            pipe::accept(there, &acceptor)
        );
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        converse(&mut client, &mut server).await;
        part(&mut client, &mut server).await;
        drop((client, server));
        // Both children see the end of their input.
        assert!(up.wait().await.unwrap().success());
        assert!(down.wait().await.unwrap().success());
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_in_plaintext_is_not_taken_for_a_length() {
    let sides = Sides::new();
    let (found, told) = answer(&sides, b"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}]\n").await;
    assert_eq!(found, Code::EncryptionRequired);
    assert_eq!(error_code(std::str::from_utf8(&told).unwrap()), "encryption_required");
}

/// The exception for a responder's last words is for an initiator that reads them.
#[tokio::test(start_paused = true)]
async fn a_responder_does_not_take_a_line_after_a_length() {
    let sides = Sides::new();
    let (hello, _) = Initiator::start(&sides.client, Destination::default(), &mut rng()).unwrap();
    let mut bytes = u32::try_from(hello.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(&hello);
    bytes.extend_from_slice(b"{\"type\":\"encrypted\"}\n");
    assert_eq!(answer(&sides, &bytes).await.0, Code::TooLarge);
}
