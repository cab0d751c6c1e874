//! Keys belong to callers: what one has done under a key no other one sees.

use super::{KEPT, Till, is_replayed};
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
