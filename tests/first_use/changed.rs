//! Another key than the known one, and files that change or break while they are used.

use std::{fs, time::Instant};

use tower_seal::{
    Error, Identity,
    error::Code,
    trust::{Candidate, Trust, Verdict},
};

use crate::{HERE, THERE, World, code, exchange, id, node, reply, server};

const REMEDIES: [&str; 2] =
    ["`tower-seal peers trust https://example.com NODE_ID`", "`tower-seal peers forget https://example.com`"];

#[test]
fn an_honest_server_with_another_key_refuses_and_the_refusal_is_explained() {
    let (world, old, new) = (World::new(), server(), server());
    world.meet(HERE, &old).unwrap();
    let error = world.meet(HERE, &new).unwrap_err();
    assert_eq!(error.code(), Some(Code::WrongAudience));

    let changed = world.trust.explain("https://EXAMPLE.com:443", &error).unwrap();
    assert_eq!((changed.expected, changed.answered, changed.found), (id(&old), false, None));
    let message = changed.to_string();
    let known = format!("the node at {HERE} has changed: node {} is known there", id(&old).short());
    assert!(message.starts_with(&known) && message.contains("says that it is another one"), "{message}");
    assert!(REMEDIES.iter().all(|remedy| message.contains(remedy)), "{message}");
    assert_eq!(world.written(HERE), Some(id(&old)));

    world.elsewhere().trust(HERE, id(&new)).unwrap();
    world.meet(HERE, &new).unwrap();
    assert_eq!(code(world.meet(HERE, &old)), Code::WrongAudience);
    world.elsewhere().forget(HERE).unwrap();
    world.meet(HERE, &old).unwrap();
    assert_eq!(world.written(HERE), Some(id(&old)));
}

#[test]
fn a_node_that_answers_in_place_of_the_known_one_is_refused() {
    let (world, old, new) = (World::new(), server(), server());
    let (early_hello, early) = world.hello(HERE);
    world.meet(HERE, &old).unwrap();

    // To a hello that names the known node, with a reply that it gave to another.
    let (_, initiator) = world.hello(HERE);
    let answer = reply(&new, &world.hello(THERE).0).unwrap();
    let error = initiator.finish(&answer, Instant::now()).unwrap_err();
    assert!(matches!(error, Error::Untrusted { code: Code::UntrustedPeer, .. }));
    let changed = world.trust.explain(HERE, &error).unwrap();
    assert!(changed.answered && changed.to_string().contains(" node answered. Either"), "{changed}");

    // To a hello that was sent before anybody was known.
    let answer = reply(&new, &early_hello).unwrap();
    let error = early.finish(&answer, Instant::now()).unwrap_err();
    assert!(error.to_string().contains("its key was renewed, or somebody is in between"), "{error}");
    let changed = world.trust.explain(HERE, &error).unwrap();
    assert_eq!((changed.expected, changed.found), (id(&old), Some(id(&new))));
    let message = changed.to_string();
    assert!(message.contains(&format!("but node {} answered", id(&new).short())), "{message}");
    assert!(REMEDIES.iter().all(|remedy| message.contains(remedy)), "{message}");

    // The next handshake is about somebody else.
    world.hello(HERE);
    assert_eq!(world.trust.explain(HERE, &error).unwrap().found, None);
    assert_eq!(world.written(HERE), Some(id(&old)));
}

#[test]
fn other_errors_are_not_about_the_key() {
    let (world, server) = (World::new(), server());
    world.meet(HERE, &server).unwrap();
    let untrusted = Error::Untrusted { code: Code::UntrustedPeer, reason: "" };
    assert!(world.trust.explain(HERE, &untrusted).is_some());
    assert_eq!(world.trust.explain(THERE, &untrusted), None, "nobody is known there");
    for error in [
        // The server does not trust this side.
        Error::Refused { code: Code::UntrustedPeer, signed: true },
        Error::Refused { code: Code::Busy, signed: false },
        Error::Decryption,
        Error::Unsealed { status: 502 },
    ] {
        assert_eq!(world.trust.explain(HERE, &error), None);
    }
}

#[test]
fn who_was_replaced_loses_its_sessions() {
    let (world, old, new) = (World::new(), server(), server());
    let session = world.meet(HERE, &old).unwrap();
    assert_eq!(world.elsewhere().trust(HERE, id(&new)).unwrap(), Some(id(&old)));
    assert_eq!(world.trust.expects(Some(HERE)), Some(id(&new)));
    assert_eq!(code(exchange(&session, &old)), Code::UnknownSession);
    world.meet(HERE, &new).unwrap();
}

#[test]
fn every_change_is_noticed_however_fast_and_alike() {
    let world = World::new();
    for number in 0..200 {
        // Files of the same size, some of them within one tick of the clock of the file system.
        world.elsewhere().trust(HERE, node(number)).unwrap();
        assert_eq!(world.trust.expects(Some(HERE)), Some(node(number)));
    }
    fs::write(world.path(), format!("{HERE} {}", node(1000))).unwrap();
    assert_eq!(world.trust.expects(Some(HERE)), Some(node(1000)));
}

#[test]
fn a_file_that_gets_damaged_ends_learning_and_nothing_else() {
    let (world, known, new) = (World::new(), server(), server());
    let session = world.meet(HERE, &known).unwrap();
    let good = fs::read_to_string(world.path()).unwrap();
    fs::write(world.path(), format!("{good}what is this?\n")).unwrap();

    world.meet(HERE, &known).unwrap();
    exchange(&session, &known).unwrap();
    let error = world.meet(THERE, &new).unwrap_err();
    assert_eq!(error.code(), Some(Code::UntrustedPeer));
    assert!(error.to_string().contains("`tower-seal peers list` says what is wrong"), "{error}");
    assert_eq!(world.trust.explain(THERE, &error), None);
    assert!(fs::read_to_string(world.path()).unwrap().ends_with("what is this?\n"));

    fs::write(world.path(), &good).unwrap();
    world.meet(THERE, &new).unwrap();
    assert!(world.is_alive(&session));
}

#[test]
fn what_cannot_be_written_is_remembered() {
    let (world, server, other) = (World::with("# mine\n"), server(), server());
    let permissions = fs::metadata(world.path()).unwrap().permissions();
    let mut read_only = permissions.clone();
    read_only.set_readonly(true);
    fs::set_permissions(world.path(), read_only).unwrap();

    let session = world.meet(HERE, &server).unwrap();
    assert!(world.is_alive(&session));
    assert_eq!(world.trust.expects(Some(HERE)), Some(id(&server)));
    assert_eq!(code(world.meet(HERE, &other)), Code::WrongAudience);
    assert_eq!(fs::read_to_string(world.path()).unwrap(), "# mine\n");

    // Once it can be written, the next session does it.
    fs::set_permissions(world.path(), permissions).unwrap();
    world.meet(HERE, &server).unwrap();
    assert_eq!(world.written(HERE), Some(id(&server)));
    assert!(world.is_alive(&session));
}

#[test]
fn what_the_file_says_goes_before_what_could_not_be_written() {
    let (world, server) = (World::new(), server());
    fs::write(world.path(), "damaged").unwrap();
    world.trust.confirmed(&Candidate::new(id(&server)).at(HERE));
    assert_eq!(world.trust.expects(Some(HERE)), Some(id(&server)));
    let revision = world.trust.revision();
    fs::write(world.path(), format!("{HERE} {}", node(1))).unwrap();
    assert_eq!(world.trust.expects(Some(HERE)), Some(node(1)));
    assert_ne!(world.trust.revision(), revision);
}

#[test]
fn ten_thousand_peers_are_enough() {
    let lines: Vec<_> = (0..10_000).map(|number| format!("p{number} {}\n", node(1))).collect();
    let world = World::with(&lines.concat());
    let stranger = Candidate::new(Identity::generate().node_id()).at(HERE);
    assert!(
        matches!(world.trust.judge(&stranger), Verdict::Refuse(reason) if reason.contains("forget some"))
    );
    assert_eq!(world.trust.judge(&Candidate::new(node(1)).at("p9999")), Verdict::Accept);

    let error = world.elsewhere().trust(HERE, node(1)).unwrap_err().to_string();
    assert!(error.contains("full (10,000 peers or 1 MiB)") && error.contains("peers forget"), "{error}");
    assert!(world.elsewhere().forget("p0").unwrap());
    assert_eq!(world.elsewhere().trust(HERE, node(1)).unwrap(), None);
    assert_eq!(world.elsewhere().list().unwrap().len(), 10_000);
}
