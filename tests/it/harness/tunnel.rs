//! TLS for clients that speak none: each connection to the tunnel is one of its own to the gateway,
//! with the certificate that the client's configuration has.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// It ends with its test.
pub struct Tunnel {
    /// `127.0.0.1:PORT`, where it is entered.
    pub address: String,
    task: JoinHandle<()>,
}

impl Tunnel {
    /// One to an address. A connection that the other end does not take is closed.
    pub async fn to(gateway: &str, client: Arc<ClientConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (gateway, connector) = (gateway.to_owned(), TlsConnector::from(client));
        let task = tokio::spawn(async move {
            let mut sessions = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let (gateway, connector) = (gateway.clone(), connector.clone());
                sessions.spawn(async move {
                    let far = TcpStream::connect(gateway).await.expect("the gateway accepts");
                    let name = ServerName::try_from("localhost").expect("a name");
                    if let Ok(mut far) = connector.connect(name, far).await {
                        drop(copy_bidirectional(&mut near, &mut far).await);
                    }
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}
