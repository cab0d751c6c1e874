//! `[[expose]]` rows.

use super::said;

/// Two upstreams on one broker, one on another, and a route.
const EXPOSES: &str = "[upstreams.rabbit]\nprotocol = \"nameko\"\nurl = \"amqp://h/v\"\n\
                       [upstreams.again]\nprotocol = \"nameko\"\nurl = \"amqp://u:p@h/v\"\n\
                       [upstreams.other]\nprotocol = \"nameko\"\nurl = \"amqp://h/w\"\n";

fn said_of_exposes(rows: &str, routes: &str) -> Vec<String> {
    // Every upstream is used, so that nothing else is said.
    let used = "[[routes]]\nmatch = \"x.*\"\nupstream = \"rabbit\"\n[[routes]]\nmatch = \"y.*\"\n\
                upstream = \"again\"\n[[routes]]\nmatch = \"z.*\"\nupstream = \"other\"\n";
    said(&format!("{EXPOSES}{routes}{used}{rows}"), &[])
}

#[test]
fn an_expose_has_a_service_a_place_and_a_name_of_its_own() {
    let cases = [
        ("[[expose]]\non = [\"rabbit\"]", "needs `service`"),
        ("[[expose]]\nservice = \"mailer\"", "needs `on`"),
        ("[[expose]]\nservice = \"mailer\"\non = [\"rabit\"]", "did you mean `rabbit`?"),
        ("[[expose]]\nservice = \"mailer\"\non = [\"hub\"]", "leave `hub` out"),
        (
            "[[expose]]\nservice = \"mailer\"\non = [\"rabbit\"]\ndialect = \"micro\"",
            "leave it out",
        ),
        ("[[expose]]\nservice = \"mailer\"\non = []", "exposes it nowhere"),
        (
            "[[expose]]\nservice = \"mailer\"\non = [\"rabbit\"]\nmethods = []",
            "leave it out to expose all",
        ),
        (
            "[[expose]]\nservice = \"mailer\"\non = [\"rabbit\"]\nas = \"\"",
            "is empty: leave it out",
        ),
        ("[[expose]]\nservice = \"mail er\"\non = [\"rabbit\"]", "holds ' '"),
        ("[[expose]]\nservice = \"mailer\"\nas = \"m*\"\non = [\"rabbit\"]", "holds '*'"),
        ("[[expose]]\nservice = \"mailer\"\non = [\"rabbit\"]\nmethods = [\"a.b\"]", "has a dot"),
        ("[[expose]]\nservice = \"mailer\"\non = [\"rabbit\"]\nprefetch = 0", "from 1 to 10000"),
        (
            "[[expose]]\nservice = \"mailer\"\non = [\"rabbit\"]\n[[expose]]\nservice = \"post\"\n\
             as = \"mailer\"\non = [\"other\", \"rabbit\"]",
            "as another row does with the service `mailer`",
        ),
    ];
    for (rows, words) in cases {
        let said = said_of_exposes(rows, "");
        let [one] = said.as_slice() else { panic!("{rows}: {said:?}") };
        assert!(one.contains(words), "{one}");
    }
    let fine = "[[expose]]\nservice = \"mailer\"\non = [\"rabbit\", \"other\"]\nmethods = [\"send\"]\n\
                prefetch = 3\n[[expose]]\nservice = \"post\"\non = [\"rabbit\"]\n";
    assert_eq!(said_of_exposes(fine, ""), [] as [&str; 0]);
}

#[test]
fn methods_have_subjects_of_their_own_on_nats() {
    let nats = "[upstreams.bus]\nprotocol = \"nats\"\nservers = \"nats://h\"\ndialect = \"nest\"\n[[routes]]\n\
                match = \"bus.*\"\nupstream = \"bus\"\n";
    let row = |service: &str, keys: &str| {
        format!("[[expose]]\nservice = \"{service}\"\non = [\"bus\"]\n{keys}\n")
    };
    let sum = "subjects = { sum = '{\"cmd\":\"sum\"}' }";
    let plain = "dialect = \"plain\"\n";
    let cases = [
        (
            format!("[[expose]]\nservice = \"sums\"\non = [\"rabbit\"]\n{sum}"),
            "Nameko's services are called by their names",
        ),
        (row("sums", "subjects = { sum = '{\"cmd\":\"a b\"}' }"), "holds a blank"),
        (row("sums", "methods = [\"a\"]\nsubjects = { sum = 7 }"), "must be a string in quotes"),
        (row("sums", "subjects = { a = \"x\", b = \"x\" }"), "is said of `a` and of `b`"),
        (
            row("sums", &format!("{plain}methods = [\"a\"]\nsubjects = {{ b = \"sums.c\" }}")),
            "is where `c` comes in by its name",
        ),
        (
            row("sums", sum) + &row("others", "subjects = { x = '{ \"cmd\": \"sum\" }' }"),
            "and to the service `sums`, as another row exposes it",
        ),
        (
            row("sums", &format!("{plain}subjects = {{ a = \"others.a\" }}"))
                + &row("others", plain),
            "calls on `others.a` would come to",
        ),
    ];
    for (rows, words) in cases {
        let said = said_of_exposes(&rows, nats);
        let [one] = said.as_slice() else { panic!("{rows}: {said:?}") };
        assert!(one.contains(words), "{one}");
    }
    let fine = row("sums", sum) + &row("others", "methods = [\"sum\"]");
    assert_eq!(said_of_exposes(&fine, nats), [] as [&str; 0]);
    let round =
        "[[routes]]\nmatch = \"sums.*\"\nupstream = \"bus\"\nsubject = '{ \"cmd\": \"sum\" }'\n";
    let said = said_of_exposes(&row("sums", sum), &format!("{nats}{round}"));
    assert!(said.iter().any(|line| line.contains("would go round in a circle")), "{said:?}");
}

#[test]
fn a_method_that_no_row_takes_is_told_where_rows_name_others() {
    let row = "[[expose]]\nservice = \"a\"\non = [\"rabbit\"]\nmethods = [\"x\", \"y\"]\n";
    let said = said_of_exposes(row, "[[routes]]\nmatch = \"a.x\"\nupstream = \"other\"\n");
    let [one] = said.as_slice() else { panic!("{said:?}") };
    assert!(one.contains("no [[routes]] row takes `a.y`"), "{one}");
    let all = "[[routes]]\nmatch = \"a.x\"\nupstream = \"other\"\n\
               [[routes]]\nmatch = \"a.*\"\nupstream = \"other\"\n";
    assert_eq!(said_of_exposes(row, all), [] as [&str; 0]);
}

#[test]
fn a_service_is_not_exposed_where_its_calls_go() {
    let expose = |keys: &str| format!("[[expose]]\nservice = \"mailer\"\n{keys}\n");
    let route = |keys: &str| format!("[[routes]]\nmatch = \"mailer.*\"\n{keys}\n");
    let loops = [
        (expose("on = [\"rabbit\"]"), route("upstream = \"rabbit\"")),
        // The same broker under another name.
        (expose("on = [\"again\"]"), route("upstream = \"rabbit\"")),
        (
            expose("on = [\"rabbit\"]\nas = \"post\""),
            route("upstream = \"rabbit\"\nservice = \"post\""),
        ),
        (
            expose("on = [\"rabbit\"]\nmethods = [\"send\", \"list\"]"),
            "[[routes]]\nmatch = \"*.list\"\nupstream = \"rabbit\"\n".to_owned(),
        ),
    ];
    for (rows, routes) in loops {
        let said = said_of_exposes(&rows, &routes);
        let [one] = said.as_slice() else { panic!("{rows}{routes}: {said:?}") };
        assert!(one.contains("go round in a circle"), "{one}");
    }
    let none = [
        (expose("on = [\"rabbit\"]\nas = \"post\""), route("upstream = \"rabbit\"")),
        (expose("on = [\"rabbit\"]"), route("upstream = \"rabbit\"\nservice = \"post\"")),
        (expose("on = [\"rabbit\"]"), route("upstream = \"other\"")),
        (
            expose("on = [\"rabbit\"]\nmethods = [\"send\"]"),
            "[[routes]]\nmatch = \"*.list\"\nupstream = \"rabbit\"\n".to_owned(),
        ),
    ];
    for (rows, routes) in none {
        assert_eq!(said_of_exposes(&rows, &routes), [] as [&str; 0], "{rows}{routes}");
    }
}

#[test]
fn methods_are_names_and_no_globs() {
    for (methods, words) in [
        ("[\"\"]", "an empty name: leave `methods` out to expose all"),
        ("[\"*\"]", "a method's whole name is written: leave `methods` out to expose all"),
    ] {
        let rows =
            format!("[[expose]]\nservice = \"mailer\"\non = [\"rabbit\"]\nmethods = {methods}\n");
        let said =
            said_of_exposes(&rows, "[[routes]]\nmatch = \"mailer.*\"\nupstream = \"other\"\n");
        let [one] = said.as_slice() else { panic!("{methods}: {said:?}") };
        assert!(one.contains(words), "{one}");
    }
}

/// A NATS, on which a service is exposed, and where else its calls may go.
fn said_of_nats(row: &str, route: &str) -> Vec<String> {
    let upstreams = "[upstreams.bus]\nprotocol = \"nats\"\nservers = [\"nats://h\"]\n\
                     [upstreams.other]\nprotocol = \"nats\"\nservers = [\"nats://i\"]\n\
                     [[routes]]\nmatch = \"x.*\"\nupstream = \"bus\"\n\
                     [[routes]]\nmatch = \"y.*\"\nupstream = \"other\"\n";
    let route = format!("[[routes]]\nmatch = \"mailer.*\"\n{route}\n");
    said(
        &format!("{upstreams}{route}[[expose]]\nservice = \"mailer\"\non = [\"bus\"]\n{row}\n"),
        &[],
    )
}

#[test]
fn what_of_an_expose_cannot_be_on_nats() {
    let away = "upstream = \"other\"";
    for (row, words) in [
        (
            "dialect = \"mikro\"",
            "is no dialect on NATS: write one of `picom`, `plain`, `micro`, `nest`",
        ),
        ("dialect = \"micro\"", "list them, as in `methods = ["),
        ("dialect = \"micro\"\nmethods = [\"send mail\"]", "can be no method of a service"),
        (
            "dialect = \"micro\"\nmethods = [\"send\"]\nas = \"eu.mailer\"",
            "no micro service's name",
        ),
        ("as = \"mail er\"", "a blank or a control character: give it another one with `as`"),
        ("as = \"mailer.>\"", "holds a wildcard"),
    ] {
        let said = said_of_nats(row, away);
        let [one] = said.as_slice() else { panic!("{row}: {said:?}") };
        assert!(one.contains(words), "{one}");
    }
    for row in
        ["", "as = \"eu.mailer\"\ndialect = \"plain\"", "dialect = \"micro\"\nmethods = [\"send\"]"]
    {
        assert_eq!(said_of_nats(row, away), [] as [&str; 0], "{row}");
    }
    for (row, route) in [
        ("", "upstream = \"bus\""),
        ("as = \"post\"", "upstream = \"bus\"\nservice = \"post\""),
        ("", "upstream = \"bus\"\nsubject = \"mailer.all\""),
    ] {
        let said = said_of_nats(row, route);
        assert!(said.len() == 1 && said[0].contains("go round in a circle"), "{said:?}");
    }
    let elsewhere = "upstream = \"bus\"\nsubject = \"post.all\"";
    assert_eq!(said_of_nats("", elsewhere), [] as [&str; 0], "what is subscribed to is elsewhere");
}
