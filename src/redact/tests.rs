use super::*;

// Each test has a registry of its own: what other tests register in the process's is anything.

#[test]
fn a_secret_is_found_in_every_form() {
    let known = Known::default();
    known.register("amqp://genkan:r3d%2Fact@h:1/v");
    for said in [
        "refused: amqp://genkan:r3d%2Fact@h:1/v",
        "PLAIN login of genkan with r3d/act refused",
        "r3d%2Fact",
        "genkan:r3d%2Fact",
    ] {
        let shown = known.scrub(said);
        assert!(!shown.contains("r3d") && shown.contains(STARS), "{said}: {shown}");
    }
    let basic = base64::prelude::BASE64_STANDARD.encode("genkan:r3d/act");
    assert!(known.scrub(&format!("Basic {basic}")).contains(STARS), "{basic}");
    known.register("it \"is\" one");
    assert_eq!(known.scrub(r#"{"pass":"it \"is\" one"}"#), r#"{"pass":"***"}"#);
    known.register("pässwörd/1");
    let python = r#"{"pass": "p\u00e4ssw\u00f6rd/1"}"#;
    assert_eq!(known.scrub(python), r#"{"pass": "***"}"#);
    assert_eq!(known.scrub(r#""pässwörd\/1""#), r#""***""#);
    known.register("nats://t0k3n-of-ours@h");
    assert_eq!(known.scrub("t0k3n-of-ours, and xt0k3n-of-oursx"), "***, and x***x");
}

#[test]
fn the_values_of_a_query_are_secrets() {
    let known = Known::default();
    known.register("https://h.example/api?key=r3d%2Fact+1&lang=de&t0k3n-alone#r3d-no");
    known.register("unix:/run/x.sock:/api?key=s0ck3t-key");
    for said in ["r3d/act 1", "r3d%2Fact+1", "r3d%2Fact%201", "t0k3n-alone", "s0ck3t-key"] {
        assert_eq!(known.scrub(&format!("not {said}.")), "not ***.");
    }
    known.register("amqp://u:hunter-two@h/v?auth_mechanism=external&frame_max=131072");
    let said = "r3d-no, lang=de, h.example/api, no external login, a frame of 131072 bytes";
    assert_eq!(known.scrub(said), said);
}

#[test]
fn each_line_of_a_long_one_is_a_secret() {
    let known = Known::default();
    known.register("-----BEGIN SEED-----\nSUAREDACTED1\nSUAREDACTED2\n------END SEED------\n");
    assert_eq!(known.scrub("got SUAREDACTED2"), "got ***");
    assert_eq!(known.scrub("-----BEGIN SEED-----"), "-----BEGIN SEED-----");
}

#[test]
fn short_ones_are_words_or_nothing() {
    let known = Known::default();
    known.register("qzxqzx");
    known.register("qzxqz");
    assert_eq!(
        known.scrub("qzxqzx, qzxqzxa aqzxqzx (qzxqzx) é qzxqzxé"),
        "***, qzxqzxa aqzxqzx (***) é qzxqzxé"
    );
    assert_eq!(known.scrub("qzxqz a qzxqz"), "qzxqz a qzxqz");
    known.register("éqéq");
    assert_eq!(known.scrub("éqéqé éqéq"), "éqéqé ***");
}

#[test]
fn the_password_that_everybody_knows_is_none() {
    let known = Known::default();
    known.register("amqp://guest:guest@h/");
    let own = "`guest` may only connect from the broker's own machine";
    assert_eq!(known.scrub(own), own);
}

#[test]
fn however_many_there_are_each_is_found() {
    let known = Known::default();
    let secret = |n: u32| format!("{:08x}-many-{n}", n.wrapping_mul(0x9E37_79B9));
    (0..10_000).for_each(|n| known.register(&secret(n)));
    for n in (0..10_000).step_by(37).chain([9_999]) {
        assert_eq!(known.scrub(&format!("got {}, it says", secret(n))), "got ***, it says", "{n}");
    }
}

#[test]
fn those_that_hold_or_overlap_each_other_go_as_a_whole() {
    let known = Known::default();
    for secret in ["xy-hold!", "xy-hold!-more", "before-xy-hold!-more-after", "-after-and-on"] {
        known.register(secret);
    }
    known.register("qjwqjw");
    for (said, shown) in [
        ("an xy-hold!-more", "an ***"),
        ("an xy-hold!-mor", "an ***-mor"),
        ("before-xy-hold!-more-after.", "***."),
        ("before-xy-hold!-more-after-and-on.", "***."),
        ("before-xy-hold!-more-aftex", "before-***-aftex"),
        ("xy-hold!-morexy-hold!", "******"),
        ("xy-hold!xy-hold!-more", "******"),
        ("xy-hold!-moreqjwqjw", "******"),
        ("qjwqjwxy-hold!-more qjwqjwx", "****** qjwqjwx"),
    ] {
        assert_eq!(known.scrub(said), shown, "{said}");
    }
}

#[test]
fn an_address_is_no_secret() {
    let known = Known::default();
    known.register("http://services.example:8080/api");
    let (with_key, text) = ("http://h.example/api?key=geheim", "connecting to ");
    known.register(with_key);
    let shown = format!("{text}http://services.example:8080/api");
    assert_eq!(known.scrub(&shown), shown);
    assert_eq!(known.scrub(&format!("{text}{with_key}")), format!("{text}***"));
}

#[test]
fn what_holds_none_is_not_copied() {
    let known = Known::default();
    known.register("some-secret-of-ours");
    assert!(matches!(known.scrub("nothing of that kind"), Cow::Borrowed(_)));
}

#[test]
fn where_there_is_no_room_what_was_rotated_goes_first_and_of_that_the_oldest() {
    let known = Known::default();
    known.lock().most = 64 << 10;
    let secret = |n: usize| format!("{n:06}{}", "x".repeat(1_000));
    let found = |secret: &str| known.scrub(secret) == STARS;
    known.register("of-the-configuration");
    let rotate = |from, to| {
        for n in from..to {
            known.register(&secret(n + 1));
            known.replace(&secret(n), &secret(n + 1));
        }
    };
    known.register(&secret(0));
    rotate(0, 100);
    known.register("another");
    for secret in ["of-the-configuration", "another", &secret(100), &secret(99)] {
        assert!(found(secret), "{secret}");
    }
    assert!(!found(&secret(0)));
    assert!(known.lock().bytes <= 64 << 10);
    // One that is in force again stays.
    known.register(&secret(99));
    rotate(100, 200);
    assert!(found(&secret(99)) && found("another") && !found(&secret(100)));
}

#[test]
fn what_the_next_one_holds_too_is_in_force() {
    let known = Known::default();
    known.register("a-line-of-both\nthe-old-one");
    known.register("a-line-of-both\nthe-new-one");
    known.replace("a-line-of-both\nthe-old-one", "a-line-of-both\nthe-new-one");
    known.lock().most = 0;
    let first = |known: &Known| known.lock().by_rank.keys().next().copied();
    while let Some((false, _)) = first(&known) {
        let texts = &mut *known.lock();
        texts.most = texts.bytes - 1;
        texts.make_room();
    }
    known.stale.store(true, Ordering::Release);
    assert_eq!(known.scrub("the-old-one a-line-of-both the-new-one"), "the-old-one *** ***");
}
