//! A client that keeps messages in flight, and a server that sends them back, over any connection of messages.

use std::{
    fmt::Debug,
    future::poll_fn,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _, future::BoxFuture};

/// When a side flushes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// After each message, as `send` does: one system call or more for each.
    Each,
    /// When there is nothing to be read, as `forward` does.
    Together,
}

pub(crate) trait Connection:
    Stream<Item = Result<Bytes, <Self as Connection>::Failure>>
    + Sink<Bytes, Error = <Self as Connection>::Failure>
    + Send
    + Unpin
    + 'static
{
    type Failure: Debug;
}

impl<C, E> Connection for C
where
    C: Stream<Item = Result<Bytes, E>> + Sink<Bytes, Error = E> + Send + Unpin + 'static,
    E: Debug,
{
    type Failure = E;
}

pub(crate) trait Measure {
    /// Round trips per second with so many in flight.
    fn measure(&mut self, size: usize, in_flight: usize, flush: Flush, time: Duration) -> BoxFuture<'_, f64>;
}

impl<C: Connection> Measure for C {
    fn measure(&mut self, size: usize, in_flight: usize, flush: Flush, time: Duration) -> BoxFuture<'_, f64> {
        let start = Instant::now();
        let message = Bytes::from(vec![b'x'; size]);
        let mut pump =
            Pump { message, in_flight, flush, end: start + time, out: 0, done: 0, unflushed: false };
        Box::pin(async move {
            poll_fn(|cx| pump.poll(self, cx)).await;
            pump.done as f64 / start.elapsed().as_secs_f64()
        })
    }
}

struct Pump {
    message: Bytes,
    in_flight: usize,
    flush: Flush,
    end: Instant,
    out: usize,
    done: u64,
    unflushed: bool,
}

impl Pump {
    fn poll<C: Connection>(&mut self, connection: &mut C, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let running = Instant::now() < self.end;
            if !running && self.out == 0 {
                return Poll::Ready(());
            }
            while running && self.out < self.in_flight && connection.poll_ready_unpin(cx).is_ready() {
                connection.start_send_unpin(self.message.clone()).unwrap();
                self.out += 1;
                self.unflushed =
                    self.flush == Flush::Together || connection.poll_flush_unpin(cx).is_pending();
            }
            match connection.poll_next_unpin(cx) {
                Poll::Ready(message) => {
                    assert_eq!(message.unwrap().unwrap().len(), self.message.len());
                    self.out -= 1;
                    self.done += 1;
                }
                Poll::Pending => {
                    if self.unflushed {
                        ready!(connection.poll_flush_unpin(cx)).unwrap();
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

/// Sends back what comes.
pub(crate) async fn echo<C: Connection>(mut connection: C, flush: Flush) {
    let (mut held, mut unflushed) = (None, false);
    poll_fn(|cx| poll_echo(&mut connection, flush, &mut held, &mut unflushed, cx)).await;
}

fn poll_echo<C: Connection>(
    connection: &mut C,
    flush: Flush,
    held: &mut Option<Bytes>,
    unflushed: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        if held.is_some() {
            if ready!(connection.poll_ready_unpin(cx)).is_err() {
                return Poll::Ready(());
            }
            connection.start_send_unpin(held.take().unwrap()).unwrap();
            *unflushed = flush == Flush::Together || connection.poll_flush_unpin(cx).is_pending();
        }
        match connection.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(message))) => *held = Some(message),
            Poll::Ready(_) => return Poll::Ready(()),
            Poll::Pending if *unflushed => {
                if ready!(connection.poll_flush_unpin(cx)).is_err() {
                    return Poll::Ready(());
                }
                *unflushed = false;
                return Poll::Pending;
            }
            Poll::Pending => return Poll::Pending,
        }
    }
}
