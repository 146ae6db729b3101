//! A small HTTP/1.1 client for the relay that xtask itself started on loopback. Nothing else is ever asked, so there
//! is no TLS, no redirect and no pool of connections.

use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;

/// The longest line of a header or of an event that we take.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// How long one read waits before it looks for an interrupt.
const PATIENCE: Duration = Duration::from_millis(200);

/// What to ask.
#[derive(Debug, Default)]
pub(crate) struct Request<'a> {
    /// `GET`, or `POST` if there is a body.
    pub(crate) json: Option<&'a str>,
    /// The API key.
    pub(crate) key: Option<&'a str>,
}

/// An answer whose head has been read.
#[derive(Debug)]
pub(crate) struct Response {
    /// The HTTP status.
    pub(crate) status: u16,
    body: Body,
}

impl Response {
    /// The next line of the body, without its end; nothing at the end of the body.
    pub(crate) fn line(&mut self) -> Result<Option<String>> {
        let mut line = Vec::new();
        let mut body = BufReader::with_capacity(1, &mut self.body);
        (&mut body)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        let text = String::from_utf8(line)?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// All of the body.
    pub(crate) fn text(mut self) -> Result<String> {
        let mut text = String::new();
        self.body.read_to_string(&mut text)?;
        Ok(text)
    }
}

/// Asks the relay on this port.
pub(crate) fn ask(port: u16, path: &str, request: &Request<'_>) -> Result<Response> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let method = if request.json.is_some() {
        "POST"
    } else {
        "GET"
    };
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n");
    if let Some(key) = request.key {
        head.push_str("Authorization: Bearer ");
        head.push_str(key);
        head.push_str("\r\n");
    }
    if let Some(json) = request.json {
        head.push_str("Content-Type: application/json\r\nContent-Length: ");
        head.push_str(&json.len().to_string());
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head.push_str(request.json.unwrap_or_default());
    (&stream).write_all(head.as_bytes())?;
    read_head(BufReader::new(Patient(stream)))
}

fn read_head(mut reader: BufReader<Patient>) -> Result<Response> {
    let status_line = head_line(&mut reader)?;
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .with_context(|| format!("not an HTTP answer: {status_line:?}"))?;
    let mut rest = Rest::UntilClosed;
    loop {
        let line = head_line(&mut reader)?;
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else {
            bail!("not an HTTP header: {line:?}");
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            rest = Rest::Bytes(value.parse()?);
        } else if name.eq_ignore_ascii_case("transfer-encoding")
            && value.eq_ignore_ascii_case("chunked")
        {
            rest = Rest::Chunk {
                left: 0,
                first: true,
            };
        }
    }
    Ok(Response {
        status,
        body: Body { reader, rest },
    })
}

fn head_line(reader: &mut BufReader<Patient>) -> io::Result<String> {
    let mut line = String::new();
    reader.take(LINE_BYTES_MAX).read_line(&mut line)?;
    if !line.ends_with('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

/// A stream whose reads wait as long as it takes, unless somebody asks xtask to stop.
#[derive(Debug)]
struct Patient(TcpStream);

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    if process::interrupted() {
                        return Err(io::Error::other("interrupted"));
                    }
                }
                result => return result,
            }
        }
    }
}

#[derive(Debug)]
struct Body {
    reader: BufReader<Patient>,
    rest: Rest,
}

/// What is still to come, by the three ways in which HTTP/1.1 marks the end of a body.
#[derive(Debug)]
enum Rest {
    Bytes(u64),
    Chunk { left: u64, first: bool },
    UntilClosed,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.rest {
            Rest::UntilClosed => self.reader.read(buffer),
            Rest::Bytes(left) => {
                let count = (&mut self.reader).take(*left).read(buffer)?;
                if count == 0 && *left > 0 && !buffer.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= count as u64;
                Ok(count)
            }
            Rest::Chunk { left, first } => {
                if *left == 0 {
                    if !*first {
                        head_line(&mut self.reader)?;
                    }
                    *first = false;
                    let line = head_line(&mut self.reader)?;
                    let size = line.split(';').next().unwrap_or_default();
                    *left = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
                    if *left == 0 {
                        self.rest = Rest::Bytes(0);
                        return Ok(0);
                    }
                }
                let count = (&mut self.reader).take(*left).read(buffer)?;
                if count == 0 && !buffer.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= count as u64;
                Ok(count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn answer(bytes: &'static [u8]) -> Result<Response> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = BufReader::new(&stream).lines();
            while asked.next().unwrap().unwrap() != "" {}
            stream.write_all(bytes).unwrap();
        });
        ask(port, "/", &Request::default())
    }

    #[test]
    fn a_chunked_body_is_read_line_by_line_across_chunks() {
        let mut response = answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
              6\r\ndata: \r\n4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n",
        )
        .unwrap();
        assert_eq!(response.line().unwrap().as_deref(), Some("data: one"));
        assert_eq!(response.line().unwrap().as_deref(), Some("two"));
        assert_eq!(response.line().unwrap(), None);
    }

    #[test]
    fn a_body_that_breaks_off_is_an_error() {
        let response = answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nshort").unwrap();
        assert_eq!(response.status, 404);
        assert!(response.text().is_err());
    }
}
