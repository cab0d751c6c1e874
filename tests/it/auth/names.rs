//! A row closes a method, by whatever name it is called.

use super::{Guarded, new_key, rpc};
use crate::harness::as_fault;

/// `echo.secret` for a key alone, and behind it the rest of `echo` for anybody.
async fn guarded(rest: &str) -> Guarded {
    let (_, lines) = new_key(&["web"]);
    let closed = "[[routes]]\nmatch = \"echo.secret\"\nupstream = \"nats\"\nservice = \"echo\"\n\
                  allow = [\"key:web\"]\n";
    Guarded::start(&format!("{lines}\n{closed}"), &format!("allow = [\"any\"]\n{rest}")).await
}

#[tokio::test]
async fn more_dots_in_its_name_open_no_closed_method() {
    for rest in ["", "service = \"echo\""] {
        let guarded = guarded(rest).await;
        assert_eq!(guarded.status(&[]).await, 200, "the rest is open");
        let before = guarded.calls();
        for name in ["echo.secret", "echo.x.secret", "echo.x.y.secret"] {
            let fault = as_fault(&guarded.gateway.api(rpc(name)).await);
            fault.is("access_denied", "not_sent");
            let (service, method) = name.rsplit_once('.').expect("a dot");
            let path = format!("/call/{service}/{method}");
            assert_eq!(guarded.gateway.post(&path, &[], "[1]").await.status, 401, "{path}");
        }
        let within = guarded.gateway.post("/call/echo/x.secret", &[], "[1]").await;
        assert_eq!(within.status, 401, "{within:?}");
        assert_eq!(guarded.calls(), before, "none of them ran, {rest}");
        // A method that no row closes may have a longer name.
        let open = guarded.gateway.post("/call/echo/x.open", &[], "[1]").await;
        assert_eq!(open.status, 200, "{open:?}");
    }
}
