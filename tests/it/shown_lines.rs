//! The lines of a configuration that are shown with what is wrong with it: never a secret's, and no more of
//! one than fits a terminal.

use crate::harness::gateway::genkan;
use crate::harness::process::{Folder, run};

/// What is shown of a file to whoever asks in that way.
fn shown(text: &str, arguments: &[&str]) -> String {
    let folder = Folder::new();
    folder.write("genkan.toml", text);
    let (_, out, err) = run(genkan().args(arguments).current_dir(folder.path()));
    out + &err
}

/// Something is wrong in each, and the secret is on its line or beside it.
const HASHES: [&str; 5] = [
    "[[auth.keys]]\nname = \"web\"\nhash = \"gk_hunter2\"\n",
    "[[auth.keys]]\nname = \"web\"\nhash = [\"gk_hunter2\"]\n",
    "[[auth.keys]]\nname = \"web\"\nhash = [\n  'gk_hunter2',\n]\n",
    "[auth]\nkeys = [ { name = \"web\", hash = \"gk_hunter2\" } ]\n",
    "[[auth.keys]]\nname = \"web\"\n\"hash\" = 'gk_hunter2'\n",
];

/// The same of a header, whose name is the operator's.
const HEADERS: [&str; 11] = [
    "[upstreams.r.headers]\nX-Thing = \"hunter2\\u0001\"\n",
    "[upstreams.r.headers]\nX-Thing = [\"hunter2\"]\n",
    "[upstreams.r.headers]\nX-Thing = \"\"\"\nX = hunter2\nhunter2 = 7\"\"\"\n",
    "[upstreams.r.headers]\nX-Thing = '''\n[hunter2]\nx = \"hunter2\"'''\n",
    "[upstreams.r.headers]\n\"X Thing\" = \"hunter2\"\n",
    "[ upstreams . \"r\" . 'headers' ]\nHost = \"a\"\nContent-Length = \"hunter2\"\n",
    "[upstreams.r]\nheaders.Content-Length = \"hunter2\"\n",
    "[upstreams.r]\nheaders = { Content-Length = \"hunter2\" }\n",
    "[upstreams]\nr.headers.Content-Length = \"hunter2\"\n",
    "upstreams.r.headers.Content-Length = \"hunter2\"\n",
    "[upstreams.r.headers]\n# the one below\n\nContent-Length = 'hunter2' # hunter2\n",
];

#[test]
fn no_command_shows_the_line_of_a_key_or_a_header() {
    let keys = "protocol = \"jsonrpc\"\nurl = \"http://127.0.0.1:1/\"\n";
    let table = format!("[upstreams.r]\n{keys}");
    let dotted = format!("upstreams.r.{}", keys.replace("url", "upstreams.r.url"));
    let in_upstreams = format!("r.{}", keys.replace("url", "r.url"));
    let ways = [&["check"][..], &["serve"], &["routes"], &["explain", "a.b"]];
    for text in HASHES.into_iter().chain(HEADERS) {
        let whole = match text.split_once('\n') {
            Some(("[upstreams.r]", rest)) => format!("{table}{rest}"),
            Some(("[upstreams]", rest)) => format!("[upstreams]\n{in_upstreams}{rest}"),
            _ if text.starts_with("upstreams") => format!("{dotted}{text}"),
            _ => format!("{table}{text}"),
        };
        for arguments in ways {
            let shown = shown(&whole, arguments);
            assert!(shown.contains("error") && !shown.contains("hunter2"), "{whole}\n{shown}");
        }
    }
    // Where the file is broken elsewhere, too.
    for text in [HASHES[0], HASHES[2], HEADERS[0], HEADERS[3], HEADERS[5]] {
        let whole = format!("[log\n{table}{text}[http]\nlisten = nowhere\n");
        let shown = shown(&whole, &["check"]);
        assert!(shown.contains("error") && !shown.contains("hunter2"), "{whole}\n{shown}");
    }
}

#[test]
fn a_line_with_nothing_secret_is_shown() {
    let shown = shown("[http]\nmax_batch = \"many\" # of them\n", &["check"]);
    assert!(shown.contains("2 | max_batch = \"many\" # of them\n"), "{shown}");
}

#[test]
fn a_long_line_is_shown_as_far_as_a_terminal_is_wide() {
    let line = format!("max_batch = \"many\" # {}", "of them ".repeat(5_000));
    let shown = shown(&format!("[http]\n{line}\n"), &["check"]);
    assert!(shown.len() < 1_000 && shown.contains("\"many\" # of them of them"), "{shown}");
}

#[test]
fn names_in_allow_that_no_key_has_are_one_warning_of_a_row() {
    let hash = "0".repeat(60);
    let keys = (0..1_000).map(|number| {
        format!("[[auth.keys]]\nname = \"k{number}\"\nhash = \"sha256:{hash}{number:04x}\"\n")
    });
    let words = (0..2_000).map(|number| format!("\"key:z{number}\", \"scope:z{number}\""));
    let words = words.collect::<Vec<_>>().join(", ");
    let text = format!(
        "{}[[routes]]\nmatch = \"*\"\nupstream = \"hub\"\nallow = [{words}, \"key:k7\"]\n[hub]\n",
        keys.collect::<String>()
    );
    let shown = shown(&text, &["check"]);
    assert!(shown.len() < 4_000, "{} bytes:\n{}", shown.len(), &shown[..4_000]);
    let row = "[[routes]]\nmatch = \"*\"\nupstream = \"hub\"\n[hub]\n";
    for (word, told) in
        [("nobody", "1995 more of its words name no callers"), ("no:x", "1995 more")]
    {
        let words = (0..2_000).map(|_| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let allow = format!("upstream = \"hub\"\nallow = [{words}]");
        let shown = self::shown(&row.replace("upstream = \"hub\"", &allow), &["check"]);
        assert!(shown.len() < 4_000 && shown.contains(told), "{shown}");
    }
    for words in ["`z0`", "did you mean `k0`?", "`scope:z0` fits nobody", "3995 more"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}
