//! What the documents point to is there.

use std::{fs, path::Path};

/// The code spans of a document that name a file: `folder/file.rs`, `folder/file.rs::test`, `model/name.vp`, `folder/`.
fn named(document: &str) -> Vec<&str> {
    let spans = document.split('`').skip(1).step_by(2);
    spans.filter(|span| span.contains(".rs") || span.ends_with(".vp") || span.ends_with('/')).collect()
}

#[test]
fn every_test_and_model_that_security_md_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let named = named(&document);
    assert!(named.len() > 30, "it names what shows its claims");
    let mut missing = Vec::new();
    for name in named {
        let (file, test) = name.split_once("::").map_or((name, None), |(file, test)| (file, Some(test)));
        let path = [root.to_owned(), root.join("tests")].map(|folder| folder.join(file));
        let there = path.iter().find(|path| path.exists()).is_some_and(|path| {
            test.is_none_or(|test| fs::read_to_string(path).unwrap().contains(&format!("fn {test}(")))
        });
        if !there {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "SECURITY.md names what is not there: {missing:#?}");
}
