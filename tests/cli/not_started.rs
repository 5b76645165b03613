//! `serve` and `proxy` with what they cannot start with: a sentence, and an exit status.

use tokio::net::TcpListener;

use crate::support::{Home, mode};

const NODE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const SERVE: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:1"];
const PROXY: [&str; 4] = ["proxy", "--listen", "127.0.0.1:0", "http://127.0.0.1:1"];

async fn refused(own: &[&str], arguments: &[&str], code: i32, words: &[&str]) {
    Home::new().run(&[own, arguments].concat()).await.refused(code, words);
}

#[tokio::test]
async fn an_unknown_option_is_named_and_the_usage_shown() {
    refused(&SERVE, &["--alow", NODE], 2, &["unexpected argument '--alow'", "'--allow'", "Usage:"]).await;
    refused(&PROXY, &["--pear", NODE], 2, &["unexpected argument '--pear'", "'--peer'", "Usage:"]).await;
    refused(&["serve"], &["--allow-anyone"], 2, &["--listen <ADDR>", "[-- <COMMAND>...]"]).await;
    refused(&["proxy", "--first-use"], &[], 2, &["--listen <ADDR>", "<URL>"]).await;
    refused(&PROXY, &["--first-use", "--encoding", "xml"], 2, &["'xml'", "possible values: json, binary"])
        .await;
}

#[tokio::test]
async fn somebody_has_to_be_trusted_and_in_one_way_only() {
    refused(&SERVE, &[], 2, &["who may call?", "--allow NODE_ID", "`tower-seal id`", "--allow-anyone"]).await;
    refused(
        &SERVE,
        &["--allow", NODE, "--allow-anyone"],
        2,
        &["--allow <NODE_ID>", "cannot be used with", "--allow-anyone"],
    )
    .await;
    refused(
        &PROXY,
        &[],
        2,
        &["whom to trust at the URL?", "--peer NODE_ID", "`tower-seal serve`", "--first-use"],
    )
    .await;
    refused(&PROXY, &["--peer", NODE, "--first-use"], 2, &["cannot be used with", "--first-use"]).await;
    refused(&PROXY, &["--peer", NODE, "--peers", "known"], 2, &["cannot be used with '--peers <FILE>'"])
        .await;
}

#[tokio::test]
async fn a_node_does_not_talk_to_itself() {
    let home = Home::new();
    let own = home.run(&["id"]).await.done();
    let words = ["is this side's own node id", "--identity FILE"];
    home.run(&[&SERVE[..], &["--allow", NODE, own.trim()]].concat()).await.refused(2, &words);
    home.run(&[&PROXY[..], &["--peer", own.trim()]].concat()).await.refused(2, &words);
}

#[tokio::test]
async fn a_value_that_cannot_be_is_refused_with_what_it_should_be() {
    refused(
        &SERVE,
        &["--allow", "abc"],
        2,
        &["'abc' for '--allow <NODE_ID>", "64 hex digits, and these are fewer"],
    )
    .await;
    refused(&PROXY, &["--peer", &format!("0x{NODE}")], 2, &["64 hex digits without 0x in front"]).await;
    let serve = ["serve", "--allow-anyone", "--listen", "127.0.0.1:0", "--upstream"];
    for (url, reason) in [
        ("127.0.0.1:8080", "such as http://127.0.0.1:8080"),
        ("ftp://127.0.0.1", "has to begin with http:// or https://"),
        ("http://", "such as http://127.0.0.1:8080"),
        ("http://a b/", "such as http://127.0.0.1:8080"),
        ("http://me:secret@127.0.0.1", "no user or password"),
        ("http://127.0.0.1/mcp?key=1", "no query"),
    ] {
        refused(&serve, &[url], 2, &[&format!("'{url}' for '--upstream <URL>'"), reason]).await;
        refused(&["proxy", "--first-use", "--listen", "127.0.0.1:0"], &[url], 2, &["for '<URL>'", reason])
            .await;
    }
    let listen = ["serve", "--allow-anyone", "--upstream", "http://127.0.0.1:1", "--listen"];
    refused(&listen, &["localhost:8080"], 2, &["'localhost:8080' for '--listen", "such as 127.0.0.1:8080"])
        .await;
    let serve = [&SERVE[..], &["--allow-anyone"]].concat();
    refused(&serve, &["--metrics", "9090"], 2, &["'9090' for '--metrics", "such as 127.0.0.1:8080"]).await;
    refused(&serve, &["--strip-prefix", "tools/"], 2, &["--strip-prefix tools/", "such as /tools"]).await;
    refused(
        &serve,
        &["--upstream-host", "http://a/"],
        2,
        &["for '--upstream-host", "a host, perhaps with a port"],
    )
    .await;
    refused(&serve, &["--authority", "a b"], 2, &["for '--authority", "a host, perhaps with a port"]).await;
    refused(&serve, &["--log", "xml"], 2, &["'xml'", "possible values: text, json"]).await;
}

#[tokio::test]
async fn a_taken_port_names_the_option_to_change() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let taken = format!("cannot listen on {address}");
    let serve = ["serve", "--upstream", "http://127.0.0.1:1", "--allow-anyone", "--listen"];
    refused(&serve, &[&address], 4, &[&taken, "another program has it", "give another --listen"]).await;
    let proxy = ["proxy", "http://127.0.0.1:1", "--first-use", "--listen"];
    refused(&proxy, &[&address], 4, &[&taken, "give another --listen"]).await;
    refused(&serve, &["127.0.0.1:0", "--metrics", &address], 4, &[&taken, "give another --metrics"]).await;
    refused(&serve, &["192.0.2.1:0"], 4, &["192.0.2.1:0", "no such address", "--listen"]).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let home = Home::new();
    home.id("open.pem").await;
    mode(&home.file("open.pem"), 0o644);
    let open = home.path("open.pem");
    for own in [&[&SERVE[..], &["--allow-anyone"]].concat(), &[&PROXY[..], &["--first-use"]].concat()] {
        home.run(&[&own[..], &["--identity", &open]].concat())
            .await
            .refused(3, &[&open, "its mode is 0644", "`chmod 600 "]);
        let text = home.written("ca.pem", "no certificate\n");
        let missing = home.path("missing.pem");
        for ca in [&text, &missing] {
            home.run(&[&own[..], &["--ca", ca]].concat())
                .await
                .refused(3, &[ca, "no certificates could be read from it", "give"]);
        }
    }
    let known = home.written("known", "# mine\nhttps://example.com\n");
    home.run(&[&PROXY[..], &["--first-use", "--peers", &known]].concat())
        .await
        .refused(3, &[&known, "line 2", "correct this line, or delete it"]);
}
