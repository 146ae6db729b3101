//! A TCP line that a test can cut, or leave half-open as a network does that loses one end without a word.

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::Network;

/// What becomes of the connections that are open now. New ones pass.
#[derive(Debug, Clone, Copy)]
enum Order {
    Cut,
    LeaveHalfOpen,
}

/// The line. Dropping it ends its connections.
#[derive(Debug)]
pub struct Line {
    /// Where the relay is reached through it, for `WebSocket`s.
    pub url: String,
    orders: broadcast::Sender<Order>,
    listening: JoinHandle<()>,
}

impl Line {
    /// Listens on a free port and passes every connection on to the relay.
    pub async fn start(network: &Network) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}", listener.local_addr()?);
        let relay = network.ready.relay.replacen("http://", "", 1);
        let (orders, _) = broadcast::channel(16);
        let heard = orders.clone();
        let listening = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, relay.clone(), heard.subscribe()));
            }
        });
        Ok(Self {
            url,
            orders,
            listening,
        })
    }

    /// Ends all connections, at both ends.
    pub fn cut(&self) {
        // Nobody may be connected.
        _ = self.orders.send(Order::Cut);
    }

    /// Ends all connections at the near end only: the relay hears nothing, not even an end.
    pub fn leave_half_open(&self) {
        _ = self.orders.send(Order::LeaveHalfOpen);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.cut();
        self.listening.abort();
    }
}

async fn carry(mut near: TcpStream, relay: String, mut orders: broadcast::Receiver<Order>) {
    let Ok(mut far) = TcpStream::connect(relay).await else {
        return;
    };
    // A token is a packet of its own and must not wait for the next one.
    if near.set_nodelay(true).is_err() || far.set_nodelay(true).is_err() {
        return;
    }
    let order = tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => return,
        order = orders.recv() => order,
    };
    if matches!(order, Ok(Order::LeaveHalfOpen)) {
        drop(near);
        // The relay's end stays open and silent until the line is dropped.
        while matches!(orders.recv().await, Ok(Order::LeaveHalfOpen)) {}
    }
}
