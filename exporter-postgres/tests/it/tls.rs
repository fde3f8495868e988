//! Encrypted connections.

use std::path::{Path, PathBuf};
use std::process::Command;

use exporter::sink::{Sink, SinkError};
use tempfile::TempDir;
use test_servers::Postgres as Server;
use utilizer_exporter_postgres::{Postgres, PostgresConfig, TlsFiles};

/// An authority, a stranger, and what the authority signed: the server's certificate and a client's.
struct Keys(TempDir);

impl Keys {
    fn new() -> Self {
        let keys = Self(tempfile::tempdir().unwrap());
        for own in ["ca", "stranger"] {
            keys.openssl(&format!("req -x509 {KEY} -keyout {own}.key -out {own}.pem -days 2 -subj /CN={own}"));
        }
        for (name, extensions) in
            [("server", "subjectAltName=IP:127.0.0.1\n"), ("client", "extendedKeyUsage=clientAuth\n")]
        {
            std::fs::write(keys.0.path().join("extensions"), extensions).unwrap();
            keys.openssl(&format!("req {KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
            keys.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {name}.pem -extfile extensions"
            ));
        }
        // The server takes only a key that nobody else can read.
        if rustix::process::geteuid().is_root() {
            run(Command::new("chown").arg("-R").arg("postgres").arg(keys.0.path()));
        }
        keys
    }

    fn openssl(&self, arguments: &str) {
        run(Command::new("openssl").args(arguments.split(' ')).current_dir(self.0.path()));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn server(&self) -> Server {
        let setting = |name: &str, file: &str| format!("{name}={}", self.path(file).display());
        let settings = [
            "ssl=on".to_owned(),
            setting("ssl_cert_file", "server.pem"),
            setting("ssl_key_file", "server.key"),
            setting("ssl_ca_file", "ca.pem"),
            "fsync=off".to_owned(),
        ];
        Server::start_with(&settings.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn trusting(ca: &Path) -> TlsFiles {
    TlsFiles { ca: Some(ca.to_owned()), ..TlsFiles::default() }
}

async fn refusal(url: String, files: TlsFiles) -> String {
    let mut postgres = Postgres::new(PostgresConfig { files, ..PostgresConfig::new(url) });
    match postgres.open().await {
        // Certificates may be mended without a restart, a server that speaks no TLS is no server for this configuration.
        Err(SinkError::Retry { doing, source } | SinkError::Fatal { doing, source }) => {
            let mut text = format!("{doing}: {source}");
            let mut cause = source.source();
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            text
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn connections_are_encrypted_and_both_sides_known() {
    let keys = Keys::new();
    let server = keys.server();
    let database = server.create_database();
    let url = format!("{}?sslmode=require", server.url(&database));
    let files = TlsFiles {
        cert: Some(keys.path("client.pem")),
        key: Some(keys.path("client.key")),
        ..trusting(&keys.path("ca.pem"))
    };
    let mut postgres = Postgres::new(PostgresConfig { files, ..PostgresConfig::new(&url) });
    postgres.open().await.unwrap();
    let encrypted = server.psql(
        &database,
        "SELECT count(*), min(client_dn) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE ssl AND application_name = 'utilizer-exporter-postgres'",
    );
    assert_eq!(encrypted, "1|/CN=client");

    let stranger = refusal(url.clone(), trusting(&keys.path("stranger.pem"))).await;
    assert!(stranger.contains("UnknownIssuer") || stranger.contains("certificate"), "{stranger}");
    let by_name = refusal(url.replace("127.0.0.1", "localhost"), trusting(&keys.path("ca.pem"))).await;
    assert!(by_name.contains("localhost"), "{by_name}");
}

#[tokio::test]
async fn a_server_that_does_not_encrypt_gets_no_password() {
    let server = Server::start();
    let database = server.create_database();
    let refused = refusal(format!("{}?sslmode=require", server.url(&database)), TlsFiles::default()).await;
    assert!(refused.contains("server does not support TLS"), "{refused}");
    assert!(!server.log().contains("password authentication"), "{}", server.log());
}
