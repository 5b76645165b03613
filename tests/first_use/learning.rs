//! What is learned, when, and for where.

use tower_seal::{
    error::Code,
    trust::{Candidate, Trust, Verdict},
};

use crate::{HERE, THERE, World, code, exchange, id, node, reply, server};

#[test]
fn nothing_is_learned_before_a_record_of_the_peer() {
    let (world, server) = (World::new(), server());
    let session = world.connect(HERE, &server).unwrap();
    assert_eq!(world.trust.expects(Some(HERE)), None);
    assert_eq!(world.written(HERE), None);

    exchange(&session, &server).unwrap();
    assert_eq!(world.trust.expects(Some(HERE)), Some(id(&server)));
    assert_eq!(world.written(HERE), Some(id(&server)));
    assert!(world.is_alive(&session));
    exchange(&session, &server).unwrap();

    // And it is still known after a restart.
    let world = World::at(world.folder);
    assert_eq!(world.trust.expects(Some(HERE)), Some(id(&server)));
    world.meet(HERE, &server).unwrap();
}

#[test]
fn what_is_learned_belongs_to_one_origin() {
    let (world, here, there) = (World::new(), server(), server());
    world.meet(HERE, &here).unwrap();
    assert_eq!(world.trust.expects(Some(THERE)), None);
    world.meet(THERE, &there).unwrap();
    assert_eq!(world.written(HERE), Some(id(&here)));
    assert_eq!(world.written(THERE), Some(id(&there)));
    assert_eq!(code(world.meet(HERE, &there)), Code::WrongAudience);
    assert_eq!(code(world.meet(THERE, &here)), Code::WrongAudience);
    // One node may be at several.
    world.meet("http://example.com", &here).unwrap();
    assert_eq!(world.elsewhere().list().unwrap().len(), 3);
}

#[test]
fn an_origin_has_one_spelling() {
    let (world, server) = (World::new(), server());
    world.meet("HTTPS://user@Example.COM:443", &server).unwrap();
    assert_eq!(world.written(HERE), Some(id(&server)));
    assert_eq!(world.trust.expects(Some("https://example.com:443/")), Some(id(&server)));
    assert_eq!(world.elsewhere().list().unwrap()[0].origin, HERE);
}

#[test]
fn without_an_origin_there_is_no_trust() {
    let world = World::new();
    for candidate in [Candidate::new(node(1)), Candidate::new(node(1)).at("https://example.com/path")] {
        assert!(matches!(world.trust.judge(&candidate), Verdict::Refuse(_)));
        assert_eq!(world.trust.expects(candidate.origin), None);
        world.trust.confirmed(&candidate);
    }
    assert!(world.elsewhere().list().unwrap().is_empty());
}

#[test]
fn of_two_nodes_at_a_new_origin_the_first_confirmed_one_stays() {
    let (world, first, second) = (World::new(), server(), server());
    let to_first = world.connect(HERE, &first).unwrap();
    let to_second = world.connect(HERE, &second).unwrap();
    let (hello, late) = world.hello(HERE);
    exchange(&to_first, &first).unwrap();
    assert_eq!(world.written(HERE), Some(id(&first)));

    assert!(world.is_alive(&to_first) && !world.is_alive(&to_second));
    assert_eq!(code(exchange(&to_second, &second)), Code::UnknownSession);
    let reply = reply(&second, &hello).unwrap();
    assert_eq!(code(late.finish(&reply, std::time::Instant::now())), Code::UntrustedPeer);
    assert_eq!(world.written(HERE), Some(id(&first)));
    exchange(&to_first, &first).unwrap();
}

#[test]
fn what_another_process_learned_meanwhile_stays() {
    let (world, server) = (World::new(), server());
    let session = world.connect(HERE, &server).unwrap();
    world.elsewhere().trust(HERE, node(7)).unwrap();
    // Its answer was on the way when it turned out to be another's, and reaches nobody.
    assert_eq!(code(exchange(&session, &server)), Code::UnknownSession);
    assert_eq!(world.written(HERE), Some(node(7)));
    assert_eq!(world.trust.expects(Some(HERE)), Some(node(7)));
    assert!(!world.is_alive(&session));
    assert_eq!(code(exchange(&session, &server)), Code::UnknownSession);
}

#[test]
fn who_was_forgotten_loses_its_sessions_and_may_come_again() {
    let (world, here, there) = (World::new(), server(), server());
    let session = world.meet(HERE, &here).unwrap();
    let other = world.meet(THERE, &there).unwrap();
    let revision = world.trust.revision();
    assert!(world.elsewhere().forget(HERE).unwrap());

    // The next handshake, or request, or who does not want to wait for one.
    assert_eq!(world.trust.expects(Some(THERE)), Some(id(&there)));
    assert_ne!(world.trust.revision(), revision);
    assert_eq!(code(exchange(&session, &here)), Code::UnknownSession);
    exchange(&other, &there).unwrap();
    assert_eq!(world.trust.expects(Some(HERE)), None);

    let session = world.meet(HERE, &here).unwrap();
    assert_eq!(world.written(HERE), Some(id(&here)));
    world.elsewhere().forget(HERE).unwrap();
    world.trust.refresh();
    assert!(!world.is_alive(&session));
    world.meet(HERE, &there).unwrap();
    assert_eq!(world.written(HERE), Some(id(&there)));
}

#[test]
fn a_handshake_that_notices_the_forgetting_itself_goes_on() {
    let (world, here) = (World::new(), server());
    world.meet(HERE, &here).unwrap();
    world.elsewhere().forget(HERE).unwrap();
    world.meet(HERE, &here).unwrap();
    std::fs::remove_file(world.path()).unwrap();
    world.meet(HERE, &here).unwrap();
    assert_eq!(world.written(HERE), Some(id(&here)));
}
