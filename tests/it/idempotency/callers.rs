//! Keys belong to callers: what one has done under a key no other one sees.

use serde_json::json;

use super::{KEPT, Till, is_replayed};
use crate::auth::issuer::{Signer, claims};
use crate::auth::new_key;
use crate::harness::http::Response;

fn first(response: &Response, text: &str) {
    assert_eq!((response.text(), is_replayed(response)), (text, false));
}

fn again(response: &Response, text: &str) {
    assert_eq!((response.text(), is_replayed(response)), (text, true));
}

#[tokio::test]
async fn callers_that_are_known_have_keys_of_their_own() {
    let (web, web_lines) = new_key(&["web"]);
    let (app, app_lines) = new_key(&["app"]);
    let row = format!("{KEPT}\nallow = [\"key:web\", \"key:app\"]");
    let till = Till::start(&format!("{web_lines}\n{app_lines}"), &row).await;
    let pay = async |key: &str| {
        till.pay_as(&[("X-API-Key", key), ("Idempotency-Key", "k")], r#"{"sum":10}"#).await
    };
    first(&pay(&web).await, "1");
    first(&pay(&app).await, "2");
    again(&pay(&web).await, "1");
    again(&pay(&app).await, "2");
    let nobody = till.pay("k").await;
    assert_eq!((nobody.status, is_replayed(&nobody)), (401, false), "it learns of nothing");
    assert_eq!(till.runs(), 2);
}

#[tokio::test]
async fn callers_that_nobody_knows_are_told_apart_by_their_addresses() {
    let till = Till::start("[http]\ntrusted_proxies = [\"127.0.0.1\"]\n", KEPT).await;
    let pay = async |address: &str, user: &str| {
        let headers = [("X-Forwarded-For", address), ("X-User-Id", user), ("Idempotency-Key", "k")];
        till.pay_as(&headers, r#"{"sum":10}"#).await
    };
    first(&pay("192.0.2.1", "").await, "1");
    first(&pay("192.0.2.2", "").await, "2");
    first(&pay("2001:db8::1", "").await, "3");
    first(&pay("2001:db8::2", "").await, "4");
    again(&pay("192.0.2.1", "").await, "1");
    again(&pay("2001:db8::1", "").await, "3");
    // Another gateway tells for whom it asks. Nobody has verified that, and it opens nothing.
    first(&pay("192.0.2.1", "ada").await, "5");
    first(&pay("192.0.2.1", "bob").await, "6");
    first(&pay("192.0.2.2", "ada").await, "7");
    again(&pay("192.0.2.1", "ada").await, "5");
    assert_eq!(till.runs(), 7);
}

#[tokio::test]
async fn the_same_subject_of_two_issuers_is_two_callers() {
    let secret = "0123456789abcdef0123456789abcdef";
    let signer = Signer::hs256(secret);
    let tables = format!(
        "[auth.jwt]\nsecret = \"{secret}\"\naudience = \"genkan\"\nissuer = \
         [\"https://a.example/\", \"https://b.example/\"]\n"
    );
    let till = Till::start(&tables, &format!("{KEPT}\nallow = [\"sub:*\"]\nrate = \"3/h\"")).await;
    let pay = async |issuer: &str| {
        let mut all = claims("42");
        all["iss"] = json!(issuer);
        let bearer = format!("Bearer {}", signer.token("k", &all));
        let headers = [("Authorization", bearer.as_str()), ("Idempotency-Key", "k")];
        till.pay_as(&headers, r#"{"sum":10}"#).await
    };
    first(&pay("https://a.example/").await, "1");
    first(&pay("https://b.example/").await, "2");
    again(&pay("https://a.example/").await, "1");
    again(&pay("https://a.example/").await, "1");
    assert_eq!(pay("https://a.example/").await.status, 429);
    again(&pay("https://b.example/").await, "2");
}
