//! The table as people read it: `docs/mesh.md`.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::Cell;
use super::cases::Case;
use super::ingress::Ingress;
use super::upstream::Upstream;
use crate::harness::process::project;

/// Fails where `docs/mesh.md` is not what came out. With `MESH=write` in the environment it is written.
pub fn check(held: &HashMap<Cell, bool>) {
    let (file, page) = (project().join("docs/mesh.md"), page(held));
    if std::env::var_os("MESH").is_some_and(|word| word == "write") {
        std::fs::write(&file, &page).expect("docs/mesh.md");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == page, "docs/mesh.md is old: `make mesh` writes what came out:\n{page}");
}

fn page(held: &HashMap<Cell, bool>) -> String {
    // In the order in which they are met.
    let mut reasons: Vec<&str> = Vec::new();
    let mut rows = String::new();
    for ingress in Ingress::ALL {
        write!(rows, "| {} |", ingress.name()).expect("text");
        for upstream in Upstream::ALL {
            let cells = Case::ALL.map(|case| Cell { ingress, upstream, case });
            let count = cells.iter().filter(|cell| held[*cell]).count();
            let mut notes = Vec::new();
            for reason in cells.iter().flat_map(Cell::objections) {
                let place =
                    reasons.iter().position(|known| *known == reason).unwrap_or_else(|| {
                        reasons.push(reason);
                        reasons.len() - 1
                    });
                notes.push(letter(place));
            }
            notes.sort_unstable();
            notes.dedup();
            let notes = notes.iter().fold(String::new(), |text, note| format!("{text} {note}"));
            write!(rows, " {count}/{}{notes} |", Case::ALL.len()).expect("text");
        }
        rows.push('\n');
    }
    let mut page = HEAD.to_owned();
    let columns = Upstream::ALL.map(Upstream::name).join(" | ");
    writeln!(page, "| from \\ to | {columns} |\n|{}", "---|".repeat(Upstream::ALL.len() + 1))
        .expect("text");
    page += &rows;
    page += "\nWhat does not hold, and why:\n\n| | what | why |\n|---|---|---|\n";
    for (place, reason) in reasons.iter().enumerate() {
        let met = Cell::all().filter(|cell| cell.objections().contains(reason));
        let mut cases: Vec<_> = met.map(|cell| cell.case.name()).collect();
        cases.sort_unstable();
        cases.dedup();
        writeln!(page, "| {} | {} | {reason} |", letter(place), cases.join(", ")).expect("text");
    }
    page
}

fn letter(place: usize) -> char {
    char::from(b'a' + u8::try_from(place).expect("not so many"))
}

const HEAD: &str = "\
# From where to where

Every way in times every kind of service, as a test finds it through real brokers, clients and services
(`tests/it/mesh`). `11/11`: all of these hold, as the caller gets it and as the service sees it:

a result · `null` · an application error with its class and data · an unknown method · an unknown service ·
params that do not fit · a time-out · a notification · the integer 2^70 · 200 KiB of text · the context
(request id, language, trace, deadline).

A letter is something that a protocol or its library has no way to say. It is not lost in silence: the test
holds it to what happens instead.

";
