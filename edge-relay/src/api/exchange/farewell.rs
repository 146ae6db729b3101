//! A job given up while there was no socket: it is stopped over a new one, lest its node work, and its slot be taken, until
//! the pool has waited for this client in vain.

use std::pin::pin;
use std::time::Duration;

use client_session::{ClientSession, Input, Output};
use futures_util::future::{Either, select};
use protocol::JobId;
use worker::{Delay, WebSocket};

use crate::api::exchange::line::{Hook, Line, Message};
use crate::api::exchange::{Dial, NO_CLOSE_CODE, now};

/// The platform lets a request go on for 30 seconds after its client has gone.
const DIALS_MAX: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);
/// How long a new socket may take to welcome.
const WELCOME_MAX: Duration = Duration::from_secs(5);

/// Takes the job over only to cancel it.
pub(crate) async fn say(dial: Dial, mut session: ClientSession, job: JobId) {
    session.handle_input(
        now(),
        Input::Closed {
            code: NO_CLOSE_CODE,
        },
    );
    session.handle_input(now(), Input::Cancel { job });
    while session.poll_output().is_some() {}
    for _ in 0..DIALS_MAX {
        if let Some(socket) = dial.clone().open().await {
            let is_told = tell(&mut session, &socket).await;
            drop(socket.close(Some(1000), Some("")));
            if is_told {
                return;
            }
        }
        Delay::from(PAUSE).await;
    }
}

/// Whether the pool was told.
async fn tell(session: &mut ClientSession, socket: &WebSocket) -> bool {
    let Ok(mut line) = Line::new(socket.as_ref().clone(), &Hook::default()) else {
        return false;
    };
    if socket.accept().is_err() {
        return false;
    }
    session.handle_input(now(), Input::Connected { key: None });
    let mut patience = Delay::from(WELCOME_MAX);
    loop {
        let message = match select(pin!(line.next()), &mut patience).await {
            Either::Left((message, _)) => message,
            Either::Right(((), _)) => return false,
        };
        match message {
            Message::Text(text) => session.handle_input(now(), Input::Text(&text)),
            Message::Binary(_) => {}
            Message::Closed { code } => {
                session.handle_input(now(), Input::Closed { code });
                return false;
            }
        }
        let mut is_welcome = false;
        while let Some(output) = session.poll_output() {
            match output {
                Output::Send(text) => line.send(&text),
                Output::Welcomed { .. } => is_welcome = true,
                Output::Connect | Output::Refused(_) | Output::Event { .. } => {}
            }
        }
        if is_welcome {
            return true;
        }
    }
}
