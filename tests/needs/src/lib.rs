//! `#[needs(mounts)]`: a test that needs a right which this machine does not give is reported as not run.
//!
//! libtest can't skip a test while it runs, so the macro tries the right when the test is compiled, and where it is lacking adds
//! `#[ignore = "not run: ..."]`. The compiled test also declares what it needs when it runs: `Disk::new` and its like fail without
//! that, so the attribute can't be forgotten, on whatever machine.

#[path = "../../src/rights.rs"]
mod rights;

use std::path::Path;
use std::{env, fs};

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Names the rights that a test needs: `#[needs(mounts)]`, `#[needs(root, network)]`, above `#[test]`. The list is in
/// tests/src/rights.rs.
#[proc_macro_attribute]
pub fn needs(names: TokenStream, test: TokenStream) -> TokenStream {
    expand(names, test).unwrap_or_else(|message| format!("compile_error!({message:?});").parse().expect("it is Rust"))
}

fn expand(names: TokenStream, test: TokenStream) -> Result<TokenStream, String> {
    let names: Vec<String> = names.to_string().split(',').map(|name| name.trim().to_string()).collect();
    let mut reason = None;
    for name in &names {
        let right = rights::RIGHTS.iter().find(|right| right.name == name);
        let right = right.ok_or(format!("{name:?} is no right that a test can need; tests/src/rights.rs has them"))?;
        reason = reason.or(right.lacking());
    }
    let mut tokens: Vec<TokenTree> = test.into_iter().collect();
    let is_test = |pair: &[TokenTree]| pair[0].to_string() == "#" && pair[1].to_string() == "[test]";
    if !tokens.windows(2).any(is_test) {
        return Err("#[needs(...)] stands above #[test]".into());
    }
    match tokens.last() {
        Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace => {
            let stamp = stamp()?;
            let declared =
                format!("const _: &str = include_str!({stamp:?}); ::tideover_tests::needs::declare(&{names:?});");
            let mut inside: TokenStream = declared.parse().map_err(|e| format!("{e}"))?;
            inside.extend(body.stream());
            let mut body = Group::new(Delimiter::Brace, inside);
            if let Some(TokenTree::Group(old)) = tokens.pop() {
                body.set_span(old.span());
            }
            tokens.push(TokenTree::Group(body));
        }
        _ => return Err("#[needs(...)] stands above a test function".into()),
    }
    let ignore = reason.map_or(String::new(), |reason| format!("#[ignore = {:?}]", format!("not run: {reason}")));
    let mut all: TokenStream = ignore.parse().map_err(|e| format!("{e}"))?;
    all.extend(tokens);
    Ok(all)
}

/// The rights that are lacking while this is compiled, as a slice of names.
#[proc_macro]
pub fn lacking_when_built(_: TokenStream) -> TokenStream {
    let stamp = stamp().expect("target can be written to");
    format!("{{ const _: &str = include_str!({stamp:?}); &{:?} }}", rights::all_lacking()).parse().expect("it is Rust")
}

/// A file that every test with `#[needs]` is built from: to touch it is to have the rights tried anew.
fn stamp() -> Result<String, String> {
    let package = env::var("CARGO_MANIFEST_DIR").map_err(|e| e.to_string())?;
    let workspace = Path::new(&package).ancestors().find(|folder| folder.join("Cargo.lock").exists());
    let stamp = rights::stamp(workspace.ok_or("there is no workspace above this package")?);
    if !stamp.exists() {
        fs::create_dir_all(stamp.parent().expect("a file is in a folder")).map_err(|e| e.to_string())?;
        fs::write(&stamp, "").map_err(|e| format!("{}: {e}", stamp.display()))?;
    }
    stamp.to_str().map(String::from).ok_or("a path that is not UTF-8".into())
}
