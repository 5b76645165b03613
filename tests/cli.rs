//! The command line, as a shell sees it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot run has failed"
)]

#[path = "cli/broken.rs"]
mod broken;
#[path = "cli/carried.rs"]
mod carried;
#[path = "cli/children.rs"]
mod children;
#[path = "cli/children_told.rs"]
mod children_told;
#[path = "cli/commands.rs"]
mod commands;
#[path = "cli/connect_failing.rs"]
mod connect_failing;
#[path = "cli/connect_hand.rs"]
mod connect_hand;
#[path = "cli/connect_legacy.rs"]
mod connect_legacy;
#[path = "cli/connect_lost.rs"]
mod connect_lost;
#[path = "cli/connect_modern.rs"]
mod connect_modern;
#[path = "cli/connect_rmcp.rs"]
mod connect_rmcp;
#[path = "cli/connect_salvage.rs"]
mod connect_salvage;
#[path = "cli/connect_server.rs"]
mod connect_server;
#[path = "cli/connect_sessions.rs"]
mod connect_sessions;
#[path = "cli/connect_tls.rs"]
mod connect_tls;
#[path = "cli/connect_websocket.rs"]
mod connect_websocket;
#[path = "cli/daemons.rs"]
mod daemons;
#[path = "cli/failing.rs"]
mod failing;
#[path = "cli/first_use.rs"]
mod first_use;
#[path = "cli/kills.rs"]
mod kills;
#[path = "cli/local.rs"]
mod local;
#[path = "cli/logs.rs"]
mod logs;
#[path = "support/mcp_server.rs"]
mod mcp_server;
#[path = "cli/not_started.rs"]
mod not_started;
#[path = "support/recorder.rs"]
mod recorder;
#[path = "cli/restarts.rs"]
mod restarts;
#[path = "cli/stdio.rs"]
mod stdio;
#[path = "cli/support.rs"]
mod support;
#[path = "cli/transcripts.rs"]
mod transcripts;
#[path = "cli/unread.rs"]
mod unread;
#[path = "cli/wrapped.rs"]
mod wrapped;

use std::process::Command;

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tower-seal"));
    for variable in ["RUST_LOG", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TOWER_SEAL_PLAINTEXT"] {
        command.env_remove(variable);
    }
    let output = command.args(arguments).envs(variables.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// `text` with `#` for every run of 10 hex digits or more; and in lines that tell of times, sizes, ports and
/// versions, with `N` for every number or list of them, and at most two spaces in a row.
fn masked(text: &str) -> String {
    const VARY: [&str; 6] =
        [" ms", "http://127.", "\"deadline\"", "on the wire", "on its tape", "\"name\":\"rmcp\""];
    let mut out = String::new();
    for line in text.lines() {
        let numbers = VARY.iter().any(|mark| line.contains(mark));
        let mut line = line.to_owned();
        while numbers && line.contains("   ") {
            line = line.replace("   ", "  ");
        }
        let mut rest = &*line;
        while let Some(first) = rest.chars().next() {
            let hex = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
            let number = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (mask, length) = match () {
                () if hex >= 10 => ("#", hex),
                () if numbers && number > 0 => ("N", number),
                () => (&rest[..first.len_utf8()], first.len_utf8()),
            };
            out.push_str(mask);
            rest = &rest[length..];
        }
        out.push('\n');
    }
    // How many records a stream has depends on what was at hand when each was made.
    while out.contains("N, N") {
        out = out.replace("N, N", "N");
    }
    out
}

#[test]
fn the_demo_shows_what_it_claims() {
    let ran = run(&["demo"], &[]);
    let expected = include_str!("cli/demo.txt");
    for (line, expected) in masked(&ran.out).lines().zip(expected.lines()) {
        assert_eq!(line, expected, "in\n{}", ran.out);
    }
    assert_eq!(ran.out.lines().count(), expected.lines().count());
    assert_eq!((ran.code, &*ran.err), (Some(0), ""));
    assert!(ran.out.lines().all(|line| line.chars().count() <= 100));
    assert!(!ran.out.contains('\u{1b}'), "no colours where there is no terminal");
}

/// Where nothing is sealed the same claims, made of the same looks, do not hold.
#[test]
fn the_demo_fails_without_the_seal() {
    let ran = run(&["demo"], &[("TOWER_SEAL_PLAINTEXT", "1"), ("CLICOLOR_FORCE", "1")]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("without any protection"), "{}", ran.err);
    assert!(ran.out.contains('\u{1b}'), "colours where they are asked for");
    let end = ran.out.split_once("do not hold:").unwrap().1;
    for broken in [
        "a handshake came before anything else",
        "the server's tool knows the caller by the client's key",
        "sends the request that paid the invoice again",
        "answers with plaintext of its own invention",
        "through all of this the invoice was paid once",
        "these are there: add_numbers",
    ] {
        assert!(end.contains(broken), "{broken} in\n{}", ran.out);
    }
}

#[test]
fn help_says_what_it_is() {
    let help = run(&["--help"], &[]);
    assert_eq!((help.code, &*help.err), (Some(0), ""));
    for text in ["tower-seal", "encrypted and signed", "demo", "RUST_LOG", "NO_COLOR", "TOWER_SEAL_PLAINTEXT"]
    {
        assert!(help.out.contains(text), "{text} in\n{}", help.out);
    }
    let version = run(&["--version"], &[]);
    assert_eq!((version.code, version.out), (Some(0), format!("tower-seal {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_slip_of_the_hand_gets_help() {
    let slip = run(&["dmeo"], &[]);
    assert_eq!((slip.code, &*slip.out), (Some(2), ""));
    assert!(
        slip.err.contains("unrecognized subcommand 'dmeo'") && slip.err.contains("'demo'"),
        "{}",
        slip.err
    );
    let nothing = run(&[], &[]);
    assert_eq!((nothing.code, &*nothing.out), (Some(2), ""));
    assert!(nothing.err.contains("Usage: tower-seal"), "{}", nothing.err);
    let log = run(&["demo"], &[("RUST_LOG", "tower_seal=loud")]);
    assert_eq!((log.code, &*log.out), (Some(1), ""));
    assert!(log.err.starts_with("tower-seal: RUST_LOG is not a list such as"), "{}", log.err);
}
