//! Modules that come and go: dependencies, hooks, tokens, and what the hub tells of them.

use super::super::register::Loss;
use super::*;

#[test]
fn whoever_has_hung_up_holds_no_id() {
    let register = json!({"type": 1, "requestId": "x", "moduleId": "math", "version": "1.0.0"});
    let mut talk = Talk::new();
    talk.serving("math", &["add"]);
    talk.serving("caller", &[]);
    talk.module("needy", json!({"math": "*"}));
    talk.tell("caller", call("c", "math.add"));
    for peer in ["caller", "needy", "math"] {
        talk.heard(peer);
    }
    talk.connect("again");
    // It is served first; nothing is done meanwhile.
    talk.notes.hung_up.insert("math", Presence::Doubtful);
    let line = register.to_string();
    let dealt = talk.hub.line(talk.ids["again"], scan(line.as_bytes()), talk.now, &mut talk.notes);
    assert_eq!((dealt, talk.heard("again").len()), (Dealt::Later, 0));
    assert_eq!(talk.hub.counts(), Counts { unregistered: 1, active: 3, waiting: 0 });
    // Then it leaves as it would by itself.
    talk.notes.hung_up.insert("math", Presence::Gone);
    assert_eq!(talk.tell("again", register.clone())[0], json!({"requestId": "x", "type": 2}));
    assert_eq!(talk.notes.forgotten, ["math"]);
    assert_eq!(errors(&talk.heard("caller")), [(4, "c".to_owned())]);
    assert_eq!(talk.hooks("needy"), ["juno.deactivated {}", "juno.activated {}"]);
    talk.disconnect("math");
    assert_eq!(talk.hub.counts(), Counts { unregistered: 0, active: 3, waiting: 0 });
    // Whoever registers twice has one answer, though it has hung up itself.
    talk.notes.hung_up.insert("again", Presence::Gone);
    assert_eq!(errors(&talk.tell("again", register)), [(7, "x".to_owned())]);
}

#[test]
fn hooks_reach_those_who_listen() {
    let mut talk = Talk::new();
    for module in ["nmath", "listener", "other"] {
        talk.serving(module, &[]);
        talk.heard(module);
    }
    for _ in 0..2 {
        let heard =
            talk.tell("listener", json!({"type": 5, "requestId": "l", "hook": "nmath.changed"}));
        assert_eq!(heard, [json!({"requestId": "l", "type": 6})]);
    }
    talk.tell("nmath", json!({"type": 5, "requestId": "l", "hook": "nmath.changed"}));
    talk.heard("nmath");
    for (data, delivered) in [
        (json!({"u": 1}), json!({"u": 1})),
        (json!(5), json!({})),
        (json!([1]), json!({})),
        (json!(null), json!({})),
    ] {
        let heard = talk
            .tell("nmath", json!({"type": 7, "requestId": "t", "hook": "changed", "data": data}));
        assert_eq!(heard.len(), 2, "its own hook, and the ok: {heard:?}");
        assert_eq!(heard[1], json!({"requestId": "t", "type": 8}));
        let heard = talk.heard("listener");
        assert_eq!(heard.len(), 1, "once: {heard:?}");
        assert_eq!((&heard[0]["hook"], &heard[0]["data"]), (&json!("nmath.changed"), &delivered));
        assert!(talk.heard("other").is_empty());
    }
    assert_eq!(errors(&talk.tell("nmath", json!({"type": 7, "requestId": "t"})))[0].0, 0);
    assert_eq!(errors(&talk.tell("nmath", json!({"type": 5, "requestId": "t"})))[0].0, 0);
}

#[test]
fn dependencies_in_a_chain() {
    let mut talk = Talk::new();
    assert_eq!(talk.module("c", json!({"b": "^1.0.0"})), [json!({"requestId": "r", "type": 2})]);
    assert_eq!(
        errors(&talk.tell("c", json!({"type": 9, "requestId": "d", "function": "f"})))[0].0,
        3
    );
    talk.module("b", json!({"a": ">=1.0.0 <2.0.0", "juno": "*"}));
    assert!(!talk.active("b") && !talk.active("c"));
    talk.module("a", json!({}));
    assert!(talk.active("a") && talk.active("b") && talk.active("c"));
    assert_eq!(talk.hooks("c"), ["juno.activated {}"]);
    talk.tell("c", json!({"type": 9, "requestId": "d", "function": "f"}));
    talk.disconnect("a");
    assert!(!talk.active("b") && !talk.active("c"));
    assert_eq!(talk.hooks("c"), ["juno.deactivated {}"]);
    // Its functions are unknown meanwhile, and are there again without being declared again.
    talk.serving("d", &[]);
    assert_eq!(errors(&talk.tell("d", call("x", "c.f"))), [(4, "x".to_owned())]);
    talk.module("a", json!({}));
    assert_eq!(talk.hooks("c"), ["juno.activated {}"]);
    talk.tell("d", call("x", "c.f"));
    assert_eq!(talk.heard("c")[0]["function"], "f");
}

#[test]
fn dependencies_in_a_circle() {
    let mut talk = Talk::new();
    talk.module("a", json!({"b": "*"}));
    talk.module("b", json!({"c": "*", "b": "*"}));
    assert!(!talk.active("a") && !talk.active("b"));
    talk.module("c", json!({"a": "*"}));
    assert!(talk.active("a") && talk.active("b") && talk.active("c"));
    talk.disconnect("b");
    assert!(!talk.active("a") && !talk.active("c"));
}

#[test]
fn a_version_that_does_not_fit_is_none() {
    let mut talk = Talk::new();
    talk.module("a", json!({}));
    talk.module("b", json!({"a": "^2.0.0"}));
    talk.module("c", json!({"juno": "^9.0.0"}));
    assert!(!talk.active("b") && !talk.active("c"));
    assert_eq!(talk.hub.counts(), Counts { unregistered: 0, active: 1, waiting: 2 });
}

#[test]
fn life_cycle_hooks_for_those_who_listen() {
    let mut talk = Talk::new();
    talk.serving("w", &[]);
    for hook in ["juno.moduleActivated", "juno.moduleDeactivated", "juno.moduleConnected"] {
        talk.tell("w", json!({"type": 5, "requestId": "l", "hook": hook}));
    }
    talk.module("a", json!({}));
    talk.module("b", json!({"a": "*"}));
    talk.disconnect("a");
    let expected = [
        r#"juno.moduleConnected {"connectionId":"2"}"#,
        r#"juno.moduleActivated {"moduleId":"a"}"#,
        r#"juno.moduleConnected {"connectionId":"3"}"#,
        r#"juno.moduleActivated {"moduleId":"b"}"#,
        // As with the real daemon, not for the one that left.
        r#"juno.moduleDeactivated {"moduleId":"b"}"#,
    ];
    assert_eq!(talk.hooks("w"), expected);
}

#[test]
fn the_hubs_own_functions() {
    let mut talk = Talk::new();
    talk.module("b", json!({"a": "^1.0.0"}));
    talk.serving("m", &["f"]);
    let heard = talk.tell("m", call("c", "juno.listModules"));
    let expected = json!([
        {"connectionId": "0", "declaredFunctions": ["listModules", "getModuleInfo"], "dependencies": {},
         "moduleId": "juno", "registered": true, "registeredHooks": [], "version": "0.1.3"},
        {"connectionId": "1", "declaredFunctions": [], "dependencies": {"a": "^1.0.0"},
         "moduleId": "b", "registered": false, "registeredHooks": [], "version": "1.0.0"},
        {"connectionId": "2", "declaredFunctions": ["f"], "dependencies": {},
         "moduleId": "m", "registered": true, "registeredHooks": [], "version": "1.0.0"},
    ]);
    assert_eq!(heard, [json!({"requestId": "c", "type": 4, "data": expected})]);
    let mut info = |arguments: Value| {
        let frame = json!({"type": 3, "requestId": "c", "function": "juno.getModuleInfo", "arguments": arguments});
        talk.tell("m", frame)[0]["data"].clone()
    };
    assert_eq!(info(json!({"moduleId": "m"})), expected[2]);
    assert_eq!(info(json!({"moduleId": "juno"})), expected[0]);
    for arguments in [json!({"moduleId": "x"}), json!({}), json!(null), json!({"moduleId": 5})] {
        assert_eq!(info(arguments), Value::Null);
    }
}

#[test]
fn tokens_keep_strangers_out() {
    let tokens = HashMap::from([("billing".to_owned(), Secret::new("s3cret".to_owned()))]);
    let mut talk = Talk::with(Settings { tokens, ..settings() });
    talk.connect("x");
    let register = |token: Value| json!({"type": 1, "requestId": "r", "moduleId": "billing", "version": "1.0.0", "token": token});
    for token in [json!(null), json!("s3cre"), json!("s3cretx"), json!(""), json!(5)] {
        let heard = talk.tell("x", register(token));
        assert_eq!(errors(&heard), [(3, "r".to_owned())]);
        assert!(!heard[0].to_string().contains("s3cret"));
    }
    assert_eq!(talk.tell("x", register(json!("s3cret")))[0]["type"], 2);
}

#[test]
fn who_guesses_at_a_token_is_held_up_for_that_id_alone() {
    let tokens =
        ["billing", "orders"].map(|id| (id.to_owned(), Secret::new(format!("{id}-s3cret"))));
    let mut talk = Talk::with(Settings { tokens: HashMap::from(tokens), ..settings() });
    talk.connect("x");
    talk.connect("y");
    let register = |id: &str, token: &str| json!({"type": 1, "requestId": "r", "moduleId": id, "version": "1.0.0", "token": token});
    let numbers: Vec<_> = (0..50)
        .map(|n| talk.tell("x", register("billing", &n.to_string()))[0]["error"].clone())
        .collect();
    assert_eq!((&numbers[9], &numbers[49]), (&json!(3), &json!(2)), "{numbers:?}");
    let held_up = &talk.tell("y", register("billing", "billing-s3cret"))[0];
    let told = held_up["message"].as_str().unwrap_or_default();
    assert!(told.contains("too many wrong tokens"), "whether it is right is not told: {held_up}");
    assert_eq!(talk.tell("y", register("orders", "orders-s3cret"))[0]["type"], 2);
}

#[test]
fn a_token_that_is_not_in_force_makes_nobody_known_and_holds_no_id() {
    let with = |tokens: &[(&str, &str)], share| {
        let tokens =
            tokens.iter().map(|(id, token)| ((*id).to_owned(), Secret::new((*token).to_owned())));
        Settings { tokens: tokens.collect(), share, ..settings() }
    };
    let register = |id: &str, token: &str| json!({"type": 1, "requestId": "r", "moduleId": id, "version": "1.0.0", "token": token});
    for share in [false, true] {
        let mut talk = Talk::with(with(&[("billing", "s3cret-1"), ("other", "s3cret-3")], share));
        for (peer, id, token) in
            [("first", "billing", "s3cret-1"), ("other", "other", "s3cret-3"), ("free", "late", "")]
        {
            talk.connect(peer);
            assert_eq!(talk.tell(peer, register(id, token))[0]["type"], 2);
        }
        let is_known = |talk: &Talk, peer: &str| {
            let session = talk.hub.sessions.get(talk.ids[peer]).expect("it is connected");
            session.caller.in_force().is_some()
        };
        assert!(is_known(&talk, "first") && is_known(&talk, "other"));
        let tokens = [("billing", "s3cret-2"), ("other", "s3cret-3"), ("late", "s3cret-4")];
        let mut lost = talk.hub.set_settings(with(&tokens, share));
        lost.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(lost, [("billing".into(), Loss::Replaced), ("late".into(), Loss::Added)]);
        assert_eq!(talk.hub.set_settings(with(&tokens, share)), [], "once");
        assert!(!is_known(&talk, "first") && is_known(&talk, "other"));
        assert!(talk.active("first"), "it stays");
        talk.connect("second");
        assert_eq!(
            errors(&talk.tell("second", register("billing", "s3cret-1"))),
            [(3, "r".to_owned())]
        );
        assert_eq!(talk.notes.forgotten, [""; 0]);
        for (peer, id, token, gone) in
            [("second", "billing", "s3cret-2", "first"), ("third", "late", "s3cret-4", "free")]
        {
            talk.connect(peer);
            assert_eq!(talk.tell(peer, register(id, token))[0]["type"], 2, "{peer}");
            assert!(is_known(&talk, peer) && talk.notes.forgotten.contains(&gone), "{peer}");
            assert!(talk.hub.sessions.get(talk.ids[gone]).is_none(), "{gone}");
        }
        talk.connect("fourth");
        let again = talk.tell("fourth", register("billing", "s3cret-2"));
        assert_eq!(again[0]["type"] == 2, share, "who has shown it keeps its id");
        let lost = talk.hub.set_settings(with(&[], share));
        let of = |id: &str| lost.iter().filter(|(lost, _)| &**lost == id).count();
        assert_eq!((of("billing"), of("other"), of("late")), (1 + usize::from(share), 1, 1));
        assert!(lost.iter().all(|(_, loss)| *loss == Loss::Removed));
        assert!(!is_known(&talk, "second") && !is_known(&talk, "other"));
    }
}

/// Whoever holds an id that another one asks for may be gone without a word: the system is to find
/// out. Nobody is ended for it.
#[test]
fn who_holds_an_id_is_asked_after_when_another_wants_it() {
    let mut talk = Talk::new();
    talk.serving("math", &["add"]);
    talk.connect("new");
    let register = json!({"type": 1, "requestId": "r", "moduleId": "math", "version": "1.0.0"});
    assert_eq!(errors(&talk.tell("new", register.clone())), [(7, "r".to_owned())]);
    assert_eq!((talk.notes.asked_after.as_slice(), talk.active("math")), (&["math"][..], true));
    // One that registers twice knows that it lives, and a token is needed to ask.
    talk.tell("math", register);
    assert_eq!(talk.notes.asked_after.len(), 1);
}

/// A hub for many modules.
fn roomy() -> Talk {
    let limits = Limits { modules: 1_000, ..settings().limits };
    Talk::with(Settings { limits, ..settings() })
}

/// Names of modules that depend on each other.
fn names(count: usize) -> Vec<&'static str> {
    (0..count).map(|nth| &*Box::leak(format!("m{nth:03}").into_boxed_str())).collect()
}

/// Each of 300 modules waits for all others, for one that comes and goes, and for one that does not come: as long as
/// each coming had all of that looked through, this took a minute.
#[test]
fn who_comes_and_goes_has_nobody_looked_through_that_lacks_somebody_else() {
    let mut talk = roomy();
    let names = names(300);
    let needs: serde_json::Map<String, Value> =
        names.iter().chain(&["guest", "missing"]).map(|id| ((*id).into(), "*".into())).collect();
    for name in &names {
        talk.module(name, needs.clone().into());
    }
    for _ in 0..1_000 {
        talk.module("guest", json!({}));
        assert!(talk.active("guest") && !talk.active(names[0]));
        talk.disconnect("guest");
    }
    talk.module("missing", json!({}));
    assert!(talk.active("missing") && !talk.active(names[0]));
    talk.module("guest", json!({}));
    assert!(names.iter().all(|name| talk.active(name)), "the circle is closed");
    talk.disconnect("missing");
    assert!(names.iter().all(|name| !talk.active(name)), "it is broken");
    talk.disconnect(names[7]);
    talk.module("missing", json!({}));
    assert!(names.iter().all(|name| *name == names[7] || !talk.active(name)));
}

#[test]
fn all_modules_together_have_so_many_dependencies() {
    let mut talk = roomy();
    let needs: serde_json::Map<String, Value> =
        names(1_000).into_iter().map(|id| (id.into(), "*".into())).collect();
    let peers: Vec<&'static str> =
        (0..101).map(|nth| &*Box::leak(format!("p{nth}").into_boxed_str())).collect();
    for peer in &peers[..100] {
        assert_eq!(talk.module(peer, needs.clone().into())[0]["type"], 2);
    }
    let refused = talk.module(peers[100], json!({"a": "*"}));
    assert_eq!(errors(&refused).len(), 1);
    let message = refused[0]["message"].as_str().expect("text");
    assert!(message.contains("100000 dependencies"), "{message}");
    assert_eq!(talk.module("free", json!({}))[0]["type"], 2);
    talk.disconnect(peers[0]);
    talk.disconnect(peers[100]);
    assert_eq!(talk.module(peers[100], json!({"a": "*"}))[0]["type"], 2);
}
