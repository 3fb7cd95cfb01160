//! What a page's files name: the others that its browser will ask for.

use std::collections::BTreeSet;

/// What stands before a name in quotes; those of CSS need none in its brackets.
const MARKS: [&str; 11] = [
    " src=", " href=", " from ", "import ", "import(", "Worker(", "fetch(", ".src = ", ".href = ", "URL(",
    CSS,
];

const CSS: &str = "url(";

/// The paths that `text` names, on the page's own site.
fn named(text: &str) -> BTreeSet<String> {
    let places = MARKS.iter().flat_map(|mark| text.match_indices(mark));
    places.filter_map(|(at, mark)| path_at(&text[at + mark.len()..], mark)).collect()
}

fn path_at(text: &str, mark: &str) -> Option<String> {
    let (name, _) = match text.chars().next()? {
        quote @ ('"' | '\'' | '`') => text[1..].split_once(quote)?,
        _ if mark == CSS => text.split_once(')')?,
        _ => return None,
    };
    let name = name.split(['?', '#']).next().filter(|name| !name.is_empty() && !name.contains(':'))?;
    // They all lie in one folder.
    Some(format!("/{}", name.strip_prefix("./").unwrap_or(name).trim_start_matches('/')))
}

/// Everything that is named from `/` on; `ask` answers for a path.
pub(crate) fn everything(mut ask: impl FnMut(&str) -> String) -> BTreeSet<String> {
    let (mut asked, mut wanted) = (BTreeSet::new(), vec!["/".to_owned()]);
    while let Some(path) = wanted.pop() {
        if asked.insert(path.clone()) {
            wanted.extend(named(&ask(&path)));
        }
    }
    asked
}

#[test]
fn names_are_found_however_a_file_asks_for_another() {
    for (text, expected) in [
        (r#"<script type="module" src="/app.js"></script>"#, "/app.js"),
        (r#"<link rel="icon" href="icon.svg" type="image/svg+xml">"#, "/icon.svg"),
        (r#"import { a, b } from "./a.js";"#, "/a.js"),
        ("import './b.js';", "/b.js"),
        (r#"const c = await import("/c.js?v=1");"#, "/c.js"),
        (r#"new Worker("/d.js", { type: "module" })"#, "/d.js"),
        (r#"@import url("e.css");"#, "/e.css"),
        ("background: url(g.svg#top);", "/g.svg"),
        ("image.src = `/f.png`;", "/f.png"),
        (r##"<a href="#">, <img src="data:,">, <a href="https://example.net/">"##, ""),
        ("element.src = url; fetch(path)", ""),
    ] {
        let expected = Some(expected).filter(|path| !path.is_empty()).map(str::to_owned);
        assert_eq!(named(text), expected.into_iter().collect(), "{text}");
    }
}
