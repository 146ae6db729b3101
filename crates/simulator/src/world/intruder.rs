//! A client of another account that has got hold of everybody's tickets, and tries each door.

use protocol::{Answer, AnswerHash, ClientToRelay, JobId, encode};
use rand::RngExt;

use crate::network::{End, Message};
use crate::world::client::request;
use crate::world::{Event, World};

impl World {
    /// One try, and the next one later.
    pub(crate) fn intrude(&mut self, client: usize) {
        if self.now < self.scenario.trouble_ms {
            let rest = self.rng.random_range(100..self.scenario.trouble_ms / 20);
            self.after(rest, Event::Intrude { client });
        }
        let number = self.rng.random_range(0..self.scenario.jobs.len());
        let job = self.scenario.jobs[number].id;
        let message = match self.rng.random_range(0..4) {
            0 => ClientToRelay::Cancel { job },
            1 => ClientToRelay::Acknowledge {
                job,
                offset: self.rng.random_range(0..5_000),
                whole: self.rng.random(),
            },
            _ => self.resume_of_another(number, job),
        };
        if let Some(conn) = self.clients[client].conn
            && self.conns[conn.0].is_open_at(End::Relay)
        {
            self.send(conn, End::Relay, Message::Text(encode(&message)));
        }
    }

    fn resume_of_another(&mut self, number: usize, job: JobId) -> ClientToRelay {
        let genuine = self.judge.shadow().client_ticket(job);
        let ticket = match (genuine, self.rng.random_range(0..4)) {
            (Some(ticket), 0..3) => ticket,
            (Some(mut ticket), _) => {
                ticket.pop();
                ticket
            }
            (None, _) => "bm90aGluZw.bm90aGluZw".into(),
        };
        let plan = &self.scenario.jobs[number];
        ClientToRelay::Resume {
            job,
            ticket,
            attempt: 1,
            offset: 0,
            tokens: 0,
            hash: AnswerHash::default(),
            model: plan.model.into(),
            request: request(plan),
            answer: None::<Answer>,
        }
    }
}
