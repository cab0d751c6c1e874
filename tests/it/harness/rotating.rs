//! A user of RabbitMQ's whose password is rotated, and the file that tells it to the gateway.

use serde_json::json;

use super::process::Folder;
use super::rabbit::{RabbitMq, Vhost};

/// The user.
pub struct Rotating<'a> {
    vhost: &'a Vhost<'static>,
    name: String,
    folder: Folder,
}

impl<'a> Rotating<'a> {
    /// One who may do everything in a virtual host of the shared RabbitMQ's, with a first password.
    pub fn new(vhost: &'a Vhost<'static>, password: &str) -> Self {
        let name = format!("rotating-{}", vhost.name());
        let user = Self { vhost, name, folder: Folder::new() };
        user.set(password);
        let everything = json!({"configure": ".*", "write": ".*", "read": ".*"});
        let Self { vhost, name, .. } = &user;
        RabbitMq::shared().put(&format!("permissions/{}/{name}", vhost.name()), &everything);
        user.write(password);
        user
    }

    /// From now on the broker takes this password.
    pub fn set(&self, password: &str) {
        let tags = json!({"password": password, "tags": ""});
        RabbitMq::shared().put(&format!("users/{}", self.name), &tags);
    }

    /// From now on the file tells this password.
    pub fn write(&self, password: &str) {
        let Self { vhost, name, folder } = self;
        let (port, of) = (vhost.port(), vhost.name());
        folder.write("url", &format!("amqp://{name}:{password}@127.0.0.1:{port}/{of}"));
    }

    /// A configuration of that virtual host, by the file.
    pub fn config(&self, config: &str) -> String {
        let by_file = format!("url_file = {:?}", self.folder.path().join("url"));
        config.replace(&format!("url = \"{}\"", self.vhost.url()), &by_file)
    }
}
