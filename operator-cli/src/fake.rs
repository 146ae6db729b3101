//! For tests: an engine that answers as a test says, and remembers what it was asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, Health, HealthStatusEnum,
    HealthcheckResult,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::rigs::Rig;

/// What it is asked is small; more is a fault of the test's.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// Status and body for a request like `POST /containers/1/stop?t=5`.
type Answer = fn(&str) -> (u16, String);

/// A rig as Docker tells it, with what its health check said last.
pub(crate) fn rig(
    status: ContainerStateStatusEnum,
    health: Option<HealthStatusEnum>,
    says: &str,
) -> Rig {
    Rig {
        name: "rig".into(),
        container: "heliograph-rig".into(),
        id: "1".into(),
        inspected: ContainerInspectResponse {
            state: Some(ContainerState {
                status: Some(status),
                health: Some(Health {
                    status: health,
                    log: Some(vec![HealthcheckResult {
                        output: Some(says.to_owned()),
                        ..HealthcheckResult::default()
                    }]),
                    ..Health::default()
                }),
                ..ContainerState::default()
            }),
            ..ContainerInspectResponse::default()
        },
    }
}

/// An engine that is none.
pub(crate) struct Fake {
    pub(crate) docker: Docker,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Answers until the test's runtime ends.
    pub(crate) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let docker = Docker::connect_with_http(&url, 60, bollard::API_DEFAULT_VERSION).unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, answer, &log).await;
            }
        });
        Self { docker, asked }
    }

    /// Everything that it was asked so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// One request a connection. None of those that are tested has a body.
async fn serve(mut stream: TcpStream, answer: Answer, asked: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(head.len() < REQUEST_BYTES_MAX, "a long request");
        let byte = tokio::time::timeout(Duration::from_mins(1), stream.read_u8());
        let Ok(Ok(byte)) = byte.await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let request = format!("{method} {path}");
    let (status, body) = answer(&request);
    asked.lock().unwrap().push(request);
    let answer = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
}
