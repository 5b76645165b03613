//! Several threads and several processes at one file.

use std::{
    collections::HashSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tower_seal::trust::{Candidate, FirstUse, KnownPeers, Trust as _};

use crate::{HERE, LONG, THERE, World, exchange, node, server};

const FILE: &str = "TOWER_SEAL_TEST_FILE";
const NAME: &str = "TOWER_SEAL_TEST_NAME";
const EACH: u16 = 15;

/// Not a test: what a child process of the tests below does, as which this program runs itself again.
#[test]
#[ignore = "is started by other tests"]
fn child() {
    let Some(path) = env::var_os(FILE) else { return };
    write_all(&PathBuf::from(path), &env::var(NAME).unwrap());
}

fn spawn(path: &Path, name: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "many::child"])
        .envs([(FILE, path.as_os_str()), (NAME, name.as_ref())])
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Writes entries of its own, removes every third, and learns one that everybody wants to be first at.
fn write_all(path: &Path, name: &str) {
    let peers = KnownPeers::open(path).unwrap();
    for number in 0..EACH {
        peers.trust(&format!("{name}-{number}"), node(number)).unwrap();
        if number % 3 == 0 {
            assert!(peers.forget(&format!("{name}-{number}")).unwrap());
        }
    }
    let trust = FirstUse::new(peers).unwrap();
    let mine = node(u16::from_be_bytes([name.as_bytes()[0], name.as_bytes()[1]]));
    trust.confirmed(&Candidate::new(mine).at("shared"));
    assert!(trust.expects(Some("shared")).is_some());
    assert!(trust.flush(LONG));
}

/// Reads until told to stop. Every read sees a whole file, and what was there before is always there.
fn watch(path: &Path, stop: &AtomicBool) {
    let peers = KnownPeers::open(path).unwrap();
    let mut reads = 0;
    while !stop.load(Ordering::Relaxed) || reads == 0 {
        assert_eq!(peers.node(HERE).unwrap(), Some(node(1)));
        reads += 1;
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn no_entry_is_lost_whoever_writes_at_once() {
    let world = World::new();
    let path = world.path();
    world.elsewhere().trust(HERE, node(1)).unwrap();
    let (processes, threads) = (["aa", "bb", "cc"], ["dd", "ee", "ff"]);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&path, &stop));
        let children: Vec<Child> = processes.iter().map(|name| spawn(&path, name)).collect();
        let writers: Vec<_> = threads.iter().map(|name| scope.spawn(|| write_all(&path, name))).collect();
        // Whatever goes wrong, the watcher has to be told.
        let joined: Vec<_> = writers.into_iter().map(|thread| thread.join().is_ok()).collect();
        let exits: Vec<_> = children.into_iter().map(|mut child| child.wait().unwrap().success()).collect();
        stop.store(true, Ordering::Relaxed);
        watcher.join().unwrap();
        assert_eq!((joined, exits), (vec![true; 3], vec![true; 3]));
    });

    let found: HashSet<String> =
        world.elsewhere().list().unwrap().into_iter().map(|peer| peer.origin).collect();
    let mut expected = HashSet::from([HERE.to_owned(), "shared".to_owned()]);
    for name in processes.iter().chain(&threads) {
        expected.extend((0..EACH).filter(|number| number % 3 != 0).map(|number| format!("{name}-{number}")));
    }
    assert_eq!(found, expected);
    let left: Vec<_> = fs::read_dir(world.folder.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "the file and its lock: {left:?}");
}

#[test]
fn a_process_that_is_killed_leaves_a_whole_file_and_no_lock() {
    let world = World::new();
    world.elsewhere().trust(HERE, node(1)).unwrap();
    for round in 0..8 {
        let mut child = spawn(&world.path(), &format!("k{round}"));
        thread::sleep(Duration::from_millis(4 * round + 1));
        child.kill().unwrap();
        child.wait().unwrap();
        let began = Instant::now();
        world.elsewhere().trust("after", node(u16::try_from(round).unwrap())).unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "nobody holds the lock");
        assert_eq!(world.written(HERE), Some(node(1)));
    }
}

#[test]
fn who_writes_waits_for_the_lock_and_who_reads_does_not() {
    let world = World::new();
    let lock = fs::File::create(world.folder.path().join("known-peers.lock")).unwrap();
    fs4::FileExt::lock(&lock).unwrap();
    let (peers, waits) = (world.elsewhere(), Duration::from_millis(200));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let began = Instant::now();
            peers.trust(HERE, node(1)).unwrap();
            began.elapsed()
        });
        thread::sleep(waits);
        assert_eq!(world.written(HERE), None);
        assert_eq!(world.trust.expects(Some(HERE)), None);
        drop(lock);
        assert!(writer.join().unwrap() >= waits / 2);
    });
    assert_eq!(world.trust.expects(Some(HERE)), Some(node(1)));
}

/// The lock of another process, which hangs perhaps.
fn locked(world: &World) -> fs::File {
    let lock = fs::File::create(world.folder.path().join("known-peers.lock")).unwrap();
    fs4::FileExt::lock(&lock).unwrap();
    lock
}

#[test]
fn who_learns_does_not_wait_for_the_lock() {
    let (world, here, there) = (World::new(), server(), server());
    let lock = locked(&world);
    let began = Instant::now();
    let session = world.meet(HERE, &here).unwrap();
    for _ in 0..20 {
        world.meet(HERE, &here).unwrap();
        world.trust.refresh();
    }
    world.meet(THERE, &there).unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "others may have the lock for 10 s: {:?}",
        began.elapsed()
    );
    assert!(!world.trust.flush(Duration::ZERO));
    assert_eq!(world.elsewhere().list().unwrap(), []);
    assert_eq!(world.trust.expects(Some(HERE)), Some(crate::id(&here)));

    drop(lock);
    assert!(world.trust.flush(LONG));
    assert_eq!(world.written(HERE), Some(crate::id(&here)));
    assert_eq!(world.written(THERE), Some(crate::id(&there)));
    exchange(&session, &here).unwrap();
}

#[test]
fn whoever_was_written_down_while_the_file_was_locked_stays() {
    let (world, here, other) = (World::new(), server(), node(7));
    let lock = locked(&world);
    let session = world.meet(HERE, &here).unwrap();
    fs::write(world.path(), format!("{HERE} {other}\n")).unwrap();
    drop(lock);
    assert!(world.trust.flush(LONG));
    assert_eq!(world.trust.expects(Some(HERE)), Some(other));
    assert!(!world.is_alive(&session), "without a handshake that looks");
    assert_eq!(world.written(HERE), Some(other));
}

#[test]
fn what_is_learned_last_is_written_after_the_end_of_the_policy() {
    let world = World::new();
    let lock = locked(&world);
    let trust = FirstUse::new(world.elsewhere()).unwrap();
    trust.confirmed(&Candidate::new(node(1)).at(HERE));
    drop(trust);
    drop(lock);
    let began = Instant::now();
    while world.elsewhere().node(HERE).unwrap().is_none() {
        assert!(began.elapsed() < LONG);
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn of_threads_that_learn_at_once_one_is_the_first() {
    const THREADS: u16 = 8;
    for _ in 0..5 {
        let (world, barrier) = (World::new(), Barrier::new(usize::from(THREADS)));
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (world, barrier) = (&world, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    world.trust.confirmed(&Candidate::new(node(number)).at(HERE));
                    // On a busy machine it returns before all is written.
                    assert!(world.trust.flush(LONG));
                    assert_eq!(world.trust.expects(Some(HERE)), world.written(HERE));
                });
            }
        });
        assert!(world.written(HERE).is_some());
        assert_eq!(world.elsewhere().list().unwrap().len(), 1);
    }
}
