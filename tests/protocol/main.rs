//! Every promise of PROTOCOL.md, sections 1 to 5 and 7 to 9, as far as it concerns the core: through the public
//! API, against a peer that is written a second time by hand (`support`).

mod support;

mod smoke {
    use crate::support::*;
    use tower_seal::config::Encoding;

    #[test]
    fn it_works() {
        let mut pair = Pair::new();
        let session = pair.confirmed();
        pair.exchange(&session).unwrap();
        let peer = pair.by_hand();
        for encoding in BOTH {
            let wire = peer.request(if encoding == Encoding::Binary { 1 } else { 2 }, b"hi").seal();
            let mut claimed = pair.serve(&wire.encode(encoding)).unwrap();
            assert_eq!(&claimed.plaintext[..], b"hi");
            pair.respond(&mut claimed, b"x", tower_seal::protocol::Final::Yes);
        }
        let (session, peer) = pair.with_hand();
        let request = pair.request(&session, b"ho", tower_seal::protocol::Final::Yes);
        let wire = wire::Wire::read(&request.bytes);
        let response = peer.response(&wire, b"hey").seal().binary();
        pair.receive(&request.response, &response).unwrap();
    }
}
