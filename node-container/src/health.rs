//! `rig health`: asks the rig that runs beside it how it is, for a container's health check.
//!
//! What the rig says (`/healthz` on its local port) goes to standard output, so that `docker inspect` and `heliograph`
//! show what a rig that is not ready does. The exit code is 0 where it is healthy, else 1. A client of twenty lines
//! instead of a library: it runs every few seconds for as long as the rig does.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// The word that selects this instead of running a node.
pub const COMMAND: &str = "health";

/// Where a rig says how it is, unless told otherwise.
pub const PORT: u16 = 9464;

/// The rig answers without waiting for anything.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// More than this of an answer is not read.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// Asks the rig on this machine how it is.
#[derive(Debug, Parser)]
#[command(name = "rig health")]
struct Options {
    /// The port on 127.0.0.1 where it says so.
    #[arg(long, env = "HELIOGRAPH_METRICS_PORT", value_name = "PORT", default_value_t = PORT)]
    metrics_port: u16,
}

/// How a rig is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) is_healthy: bool,
    pub(crate) says: String,
}

/// Runs with these arguments, the first of which is its name.
#[expect(clippy::print_stdout, reason = "what it says is its result")]
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let options = Options::parse_from(arguments);
    match ask(options.metrics_port) {
        Ok(health) => {
            println!("{}", health.says);
            if health.is_healthy {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            println!(
                "starting (nothing answers on port {} yet: {error})",
                options.metrics_port
            );
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn ask(port: u16) -> std::io::Result<Health> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(read(&String::from_utf8_lossy(&answer)))
}

/// Status and body of an answer.
fn read(answer: &str) -> Health {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    Health {
        is_healthy: status == "200",
        says: body.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers one request, and gives it back.
    fn serve(answer: &'static str) -> (u16, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        (port, thread)
    }

    #[test]
    fn a_rig_that_says_so_is_healthy() {
        let (port, thread) =
            serve("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nserving 2 slots\n");
        let health = ask(port).unwrap();
        assert!(health.is_healthy);
        assert_eq!(health.says, "serving 2 slots");
        assert!(thread.join().unwrap().starts_with("GET /healthz HTTP/1.1"));
    }

    #[test]
    fn a_rig_that_is_not_ready_says_what_it_does() {
        let (port, _thread) = serve("HTTP/1.1 503 Service Unavailable\r\n\r\nloading the model\n");
        let health = ask(port).unwrap();
        assert_eq!(
            health,
            Health {
                is_healthy: false,
                says: "loading the model".into()
            }
        );
    }

    #[test]
    fn nobody_on_the_port_is_not_healthy() {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        assert!(ask(port).is_err());
    }
}
