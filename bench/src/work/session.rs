//! A load between two ends that stay for many slices: the ends are started once, then the client
//! works when it is told to, for as long as it is told, and both count until the session ends.
//! Between two slices neither does anything.
//!
//! What the client asks for is done when the client says so. What it sends is not, for it may wait
//! in a socket on its way: there the server counts what it has read, and a slice ends when it has
//! read all.

use std::{io, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Ends, Part, Ready, Served, process::Worker};

/// How long the client works now.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Order {
    /// What does not count.
    pub warm_up: Duration,
    /// What counts.
    pub sample: Duration,
}

/// What came of an order.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Slice {
    /// How many requests were answered, or bytes sent, warm-up included.
    pub all: u64,
    /// How many requests, or bytes that were read, count.
    pub counted: u64,
    /// How long these took, in seconds.
    pub seconds: f64,
    /// How long all CPUs of the machine together were busy meanwhile, in seconds; of streams alone.
    pub busy: f64,
    /// How long each answer took, in nanoseconds; of answers' times alone.
    pub times: Vec<u64>,
}

/// The orders that come to this process until nobody gives any.
pub fn orders() -> impl Iterator<Item = Result<Order>> {
    io::stdin().lines().map(|line| {
        let line = line.context("no order")?;
        serde_json::from_str(&line).context("this is no order")
    })
}

/// What a server that counts is told.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub enum Word {
    /// It says what it has read in the part of this order that counts, as a [`Slice`].
    Count(Order),
    /// It says that it is ready once it has read so many bytes in all.
    Until(u64),
}

/// Which end knows what was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CountedBy {
    /// It has the answers.
    Client,
    /// It has what was sent. The client sends from its order until the order comes again.
    Server,
}

/// Two ends at work.
#[derive(Debug)]
pub struct Session {
    counts: CountedBy,
    server: Worker,
    client: Worker,
    /// What the client said that it did.
    done: u64,
}

impl Session {
    /// Starts both ends. The client does nothing yet.
    pub(super) fn open(ends: &Ends, server: Part, client: Part, counts: CountedBy) -> Result<Self> {
        let home = ends.servers.first().context("nobody answers")?;
        let mut server = Worker::start(home, ends.cpus.server, server)?;
        let Ready = server.hear().context("the server did not get ready")?;
        let mut client = Worker::start(ends.client, ends.cpus.client, client)?;
        let Ready = client.hear().context("the client did not get ready")?;
        Ok(Self {
            counts,
            server,
            client,
            done: 0,
        })
    }

    /// Works for a slice.
    ///
    /// # Errors
    ///
    /// What an end says went wrong.
    pub fn slice(&mut self, order: Order) -> Result<Slice> {
        match self.counts {
            CountedBy::Client => {
                self.client.tell(&order)?;
                self.hear_client()
            }
            CountedBy::Server => self.send(order),
        }
    }

    /// The client sends for longer than the server counts, and the server reads all of it.
    fn send(&mut self, order: Order) -> Result<Slice> {
        self.server.tell(&Word::Count(order))?;
        self.client.tell(&order)?;
        let read: Slice = self.server.hear().context("the server")?;
        self.client.tell(&order)?;
        let sent = self.hear_client()?;
        self.server.tell(&Word::Until(self.done))?;
        let Ready = self.server.hear().context("the server")?;
        Ok(Slice {
            all: sent.all,
            ..read
        })
    }

    fn hear_client(&mut self) -> Result<Slice> {
        let slice: Slice = self.client.hear().context("the client")?;
        self.done += slice.all;
        Ok(slice)
    }

    /// Ends both, and gives how much they did.
    ///
    /// # Errors
    ///
    /// The ends counted differently, or one did not end well.
    pub fn end(mut self) -> Result<u64> {
        self.client.tell_no_more();
        self.server.tell_no_more();
        let served: Served = self.server.hear().context("the server")?;
        ensure!(
            self.done == served.done,
            "the client did {}, the server {}",
            self.done,
            served.done
        );
        Ok(self.done)
    }
}
