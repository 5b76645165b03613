//! `id`, `peers`, `completions`, `man`, and what `--help` promises.

use crate::support::{Home, mode};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

#[tokio::test]
async fn id_makes_a_key_once_and_prints_the_same_node_id_from_then_on() {
    let home = Home::new();
    let first = home.run(&["id"]).await.done();
    assert!(first.len() == 65 && first.ends_with('\n'), "{first}");
    assert!(first.trim().bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{first}");
    assert_eq!(home.run(&["id"]).await.done(), first);
    assert!(home.file(".local/share/tower-seal/identity.pem").is_file(), "in the user's data folder");

    let other = home.id("key.pem").await;
    assert_ne!(other, first.trim());
    let pem = std::fs::read_to_string(home.file("key.pem")).unwrap();
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----"), "{pem}");
}

#[tokio::test]
async fn id_refuses_a_file_that_is_no_key_of_its_owner_alone() {
    let home = Home::new();
    home.id("open.pem").await;
    mode(&home.file("open.pem"), 0o644);
    let rsa = "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\n";
    home.written("rsa.pem", rsa);
    home.written("text.pem", "hello\n");
    home.written("half.pem", "-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----\n");
    std::fs::create_dir(home.file("folder")).unwrap();
    for name in ["rsa.pem", "text.pem", "half.pem"] {
        mode(&home.file(name), 0o600);
    }
    for (name, what, remedy) in [
        ("open.pem", "its mode is 0644", "`chmod 600 "),
        ("rsa.pem", "an RSA key", "`openssl genpkey -algorithm ed25519`"),
        ("text.pem", "it is not PEM", "`openssl genpkey -algorithm ed25519`"),
        ("half.pem", "not a whole PKCS#8 key", "restore a backup"),
        ("folder", "a folder, not a file", "give the path of a key file in it"),
    ] {
        let path = home.path(name);
        let before = std::fs::read(&path).ok();
        home.run(&["id", "--identity", &path]).await.refused(3, &[&path, what, remedy]);
        assert_eq!(std::fs::read(&path).ok(), before, "nothing is overwritten");
    }
    home.run(&["id", "--identity", &home.path("text.pem/key.pem")]).await.refused(3, &["text.pem"]);
}

#[tokio::test]
async fn peers_are_listed_trusted_and_forgotten() {
    let home = Home::new();
    assert_eq!(home.run(&["peers", "list"]).await.done(), "");
    let trust = home.run(&["peers", "trust", "HTTPS://Example.com:443", A]).await.done();
    assert_eq!(trust, format!("https://example.com is {A}\n"));
    home.run(&["peers", "trust", "http://127.0.0.1:8080", B]).await.done();
    let both = format!("https://example.com {A}\nhttp://127.0.0.1:8080 {B}\n");
    assert_eq!(home.run(&["peers", "list"]).await.done(), both);
    assert!(home.file(".local/share/tower-seal/known_peers").is_file(), "in the user's data folder");

    home.run(&["peers", "trust", "https://example.com", B]).await.done();
    let forget = home.run(&["peers", "forget", "http://127.0.0.1:8080"]).await.done();
    assert_eq!(forget, "http://127.0.0.1:8080 is forgotten: the next key seen there is learned\n");
    assert_eq!(home.run(&["peers", "list"]).await.done(), format!("https://example.com {B}\n"));
    home.run(&["peers", "forget", "http://127.0.0.1:8080"])
        .await
        .refused(1, &["nothing is known of http://127.0.0.1:8080", "`tower-seal peers list` shows"]);

    // Another file is another list, and is named in the remedy.
    let file = home.path("others");
    assert_eq!(home.run(&["peers", "list", "--peers", &file]).await.done(), "");
    home.run(&["peers", "--peers", &file, "forget", "https://example.com"])
        .await
        .refused(1, &[&format!("`tower-seal peers --peers {file} list` shows")]);
    let spaced = home.path("it's mine");
    home.run(&["peers", "--peers", &spaced, "forget", "https://example.com"])
        .await
        .refused(1, &["it'\\''s mine' list` shows"]);
}

#[tokio::test]
async fn peers_says_what_is_no_origin_no_node_id_and_no_list() {
    let home = Home::new();
    home.run(&["peers", "trust", "https://example.com/mcp", A])
        .await
        .refused(2, &["an origin is a scheme, a host and a port and ends there: https://example.com:8443"]);
    home.run(&["peers", "forget", "https://"]).await.refused(2, &["an origin has a host after ://"]);
    home.run(&["peers", "trust", "https://example.com", "0x12"])
        .await
        .refused(2, &["'0x12'", "<NODE_ID>", "a node id is 64 hex digits, and these are fewer"]);
    let nothing = home.run(&["peers"]).await;
    assert_eq!((nothing.code, &*nothing.out), (Some(2), ""));
    assert!(nothing.err.contains("Usage: tower-seal peers [OPTIONS] <COMMAND>"), "{}", nothing.err);

    let damaged = format!("https://example.com {A}\nhttps://example.org {A:.20}\n");
    let file = home.written("peers", &damaged);
    for action in [&["list"][..], &["forget", "https://example.com"], &["trust", "https://example.com", B]] {
        let arguments = [&["peers", "--peers", &file], action].concat();
        let words = [&*file, "line 2: a node id is 64 hex digits", "correct this line, or delete it"];
        home.run(&arguments).await.refused(3, &words);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), damaged, "nothing is lost");
    }
}

#[tokio::test]
async fn completions_and_the_manual_know_every_subcommand() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.run(&["completions", shell]).await.done();
        for word in ["tower-seal", "allow-anyone", "first-use", "forget"] {
            assert!(script.contains(word), "{word} for {shell}");
        }
    }
    home.run(&["completions", "tcsh"]).await.refused(2, &["'tcsh'", "possible values: bash"]);

    let page = home.run(&["man"]).await.done();
    for text in [
        ".TH tower-seal 1",
        ".SH NAME",
        ".SH \"TOWER\\-SEAL SERVE\"",
        ".SH \"TOWER\\-SEAL PROXY\"",
        ".SH \"TOWER\\-SEAL PEERS FORGET\"",
        "\\-\\-allow\\-anyone",
        "\\-\\-first\\-use",
        "\\-\\-identity",
        "Exit status:",
    ] {
        assert!(page.contains(text), "{text} in\n{page}");
    }
}

#[tokio::test]
async fn help_documents_every_option_and_exit_status() {
    let home = Home::new();
    let help = home.run(&["--help"]).await.done();
    let statuses = help.split_once("Exit status:\n").unwrap().1;
    let numbers: Vec<&str> = statuses.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(numbers, ["0", "1", "2", "3", "4"]);
    for (command, options) in [
        (
            "serve",
            &[
                "--listen",
                "--upstream ",
                "--allow ",
                "--allow-anyone",
                "--identity",
                "--plaintext",
                "--upstream-host",
                "--strip-prefix",
                "--authority",
                "--metrics",
                "--log",
                "--ca",
            ][..],
        ),
        (
            "proxy",
            &[
                "--listen",
                "--peer ",
                "--first-use",
                "--peers ",
                "--identity",
                "--encoding",
                "--signatures",
                "--plaintext",
                "--metrics",
                "--log",
                "--ca",
                "<URL>",
            ][..],
        ),
        ("peers", &["list", "forget", "trust", "--peers"][..]),
        ("id", &["--identity"][..]),
    ] {
        let help = home.run(&[command, "--help"]).await.done();
        for option in options {
            assert!(help.contains(option), "{option} of {command}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 100));
    }
}
